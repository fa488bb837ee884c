"""Any classifier, ready to be asked: `open_classifier`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from advmix.classifiers.classes import groups_of
from advmix.classifiers.options import ClassifierOptions
from advmix.classifiers.outside import Outside, open_outside
from advmix.classifiers.trained import load_classifier
from advmix.classifiers.wrapper import Merged, Reordered
from advmix.config import from_dict, with_defaults
from advmix.data.photos.words import first_few
from advmix.encoders.autoencoder import fingerprint
from advmix.errors import UserError
from advmix.files import read_json
from advmix.options import expanded
from advmix.progress import console
from advmix.trust import check_trusted, names_code, untrusting


@dataclass(frozen=True, eq=False)
class OpenClassifier:
    """A classifier in eval mode, and what is known of it.

    Attributes:
        network: images `(B, C, H, W)` in [0, 1], of any size, to logits `(B, K)`, K >= 2.
        name: what a person reads.
        classes: K names; None where neither the file nor the caller says.
        image: `(C, H, W)` of its training images; None where unknown.
        input_size: side in pixels that it wants; None where any will do.
        differentiable: whether gradients reach the images; if not, only evaluation and random search can use it.
        fingerprint: sixteen hex digits that change with weights, architecture and how images are brought to it.
        method: how it was trained; `unknown` for others'.
        metadata: what `advmix train` wrote beside the weights; empty for others'.
        outputs: K.
    """

    network: nn.Module
    name: str
    classes: tuple[str, ...] | None
    image: tuple[int, int, int] | None
    input_size: int | None
    differentiable: bool
    fingerprint: str
    method: str = "unknown"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 2

    @property
    def side(self) -> int | None:
        """Side in pixels of the images that it should be shown; None where any will do."""
        return self.input_size if self.image is None else self.image[1]

    def tells(self, classes: tuple[str, ...]) -> bool:
        """Whether it tells these apart: by its names if it has any, in whatever order, else by their number."""
        return self.outputs == len(classes) and self._has_names(classes)

    def named(self, classes: tuple[str, ...]) -> OpenClassifier:
        """The same, for images of these classes: its own if it has names, in whatever order, else as many as it has.

        Raises:
            UserError: other classes.
        """
        if not self._has_names(classes):
            raise UserError(
                f"{self.name}: tells {brief(self.classes or ())} apart, but the images are labelled {brief(classes)}; "
                f"{self._remedy(classes)}"
            )
        if self.outputs != len(classes):
            raise UserError(
                f"{self.name}: has {self.outputs} classes, but the images have {len(classes)} ({brief(classes)}); "
                f"{self._remedy(classes)}"
            )
        network = self.network
        if self.classes not in (None, classes):
            network = Reordered(network, [self.classes.index(name) for name in classes]).eval()
        return replace(self, network=network, classes=classes)

    def _remedy(self, classes: tuple[str, ...]) -> str:
        """For other classes: ours cannot be told which output is which, and too few outputs do not help."""
        if self.metadata or self.outputs < len(classes):
            return "name a classifier of these"
        return f"say which of its outputs are which class, as in --classes 0,2={classes[0]} '*={classes[-1]}'"

    def _has_names(self, classes: tuple[str, ...]) -> bool:
        return self.classes is None or sorted(self.classes) == sorted(classes)

    def check_search(self, steps: int) -> None:
        """Refuse a search with gradient steps where there are no gradients.

        Raises:
            UserError: with the remedy.
        """
        if steps > 0:
            self.check_gradients("a search takes steps along them; use --steps 0 for a random one")

    def check_gradients(self, why: str) -> None:
        """Refuse a network without gradients where they are needed.

        Raises:
            UserError: saying what for.
        """
        if not self.differentiable:
            raise UserError(f"{self.name}: gives no gradients, but {why}")


def open_classifier(
    options: ClassifierOptions,
    classes: tuple[str, ...] | None = None,
    image: tuple[int, int, int] | None = None,
) -> OpenClassifier:
    """The classifier that the options name.

    Args:
        options: which one, and how images are brought to it.
        classes: of the images that it will be asked about: a classifier that has names of its own must have the same,
            and answers in the order of these; another must have as many classes, and takes these names.
        image: `(C, H, W)` of these images, on which others' networks are tried once.

    Raises:
        UserError: it cannot be read, does not run, or tells other classes apart.
    """
    options = _read_json(options)
    opened = (
        _open_outside(options, image, classes) if options.folder is None else _open_trained(options, options.folder)
    )
    return opened if classes is None else opened.named(classes)


def _read_json(options: ClassifierOptions) -> ClassifierOptions:
    """The options in a .json file, where one is named; nothing is then said beside it."""
    if not options.classifier.endswith(".json"):
        return options
    if not options.is_bare:
        raise UserError(f"{options.classifier}: says all about the classifier; leave other flags out")
    path = expanded(options.classifier, "classifier")
    given = untrusting(read_json(path, edited=True))
    if isinstance(given, dict):
        arguments = given.get("classifier_args")
        given = given | ({"classifier_args": json.dumps(arguments)} if isinstance(arguments, dict) else {})
        classes = given.get("classes")
        given |= {"classes": [f"{part}={name}" for part, name in classes.items()]} if isinstance(classes, dict) else {}
        given = with_defaults(ClassifierOptions, given)[0]
    found = from_dict(ClassifierOptions, given, options.classifier)
    if names_code(found.classifier):
        check_trusted(found.classifier, options.classifier, options.trust_code)
    return replace(
        found,
        classifier=str(_beside(path, Path(found.classifier))),
        weights=None if found.weights is None else _beside(path, found.weights),
    )


def _beside(path: Path, named: Path) -> Path:
    """What a file names lies beside it, or else where it says, from the current folder."""
    there = path.parent / expanded(named, "classifier")
    return there if there.exists() else named


def _open_trained(options: ClassifierOptions, folder: Path) -> OpenClassifier:
    """What `advmix train` wrote: it takes images as they are."""
    if not options.is_bare:
        raise UserError(f"{folder}: made by advmix train, takes images as they are; leave other flags out")
    network, metadata = load_classifier(folder)
    channels, height, width = metadata["image"]
    return OpenClassifier(
        network,
        f"{metadata['method']} ({options.classifier})",
        tuple(metadata["classes"]),
        (channels, height, width),
        None,
        True,
        fingerprint(network),
        metadata["method"],
        metadata,
        len(metadata["classes"]),
    )


def _open_outside(
    options: ClassifierOptions, image: tuple[int, int, int] | None, wanted: tuple[str, ...] | None
) -> OpenClassifier:
    """Another's, whose classes have no names yet unless the options, its maker or the images give them."""
    outside = open_outside(options, image)
    network: nn.Module = outside.network
    classes, outputs = options.classes, outside.outputs
    if options.merges:
        groups = groups_of(classes, outputs, outside.names, outside.network.independent)
        network = Merged(network, list(groups.values()), outside.network.independent).eval()
        classes, outputs = tuple(groups), len(groups)
        _say_merged(groups, outside)
    elif not classes and (outside.named or sorted(outside.names) == sorted(wanted or ())):
        classes = outside.names
    elif classes and len(classes) != outputs:
        raise UserError(
            f"--classes {brief(classes)}: {len(classes)} names, but {outside.name} has {outputs} classes; say which "
            "of its outputs are which class, --classes 0,2=NAME '*=NAME'"
        )
    return OpenClassifier(
        network,
        outside.name,
        classes or None,
        None,
        _side(outside.network.size),
        outside.differentiable,
        outside.fingerprint,
        outputs=outputs,
    )


def _say_merged(groups: Mapping[str, Sequence[int]], outside: Outside) -> None:
    """Which outputs a class is made of, and which are left out."""
    called = outside.names or [str(number) for number in range(outside.outputs)]
    parts = [
        f"{name} is {first_few([called[number] for number in numbers]) or 'none of these'}"
        for name, numbers in groups.items()
    ]
    left = [called[number] for number in range(outside.outputs) if not any(number in part for part in groups.values())]
    parts += [f"left out: {first_few(left)}"] if left else []
    console.print(f"  {outside.name}: {'; '.join(parts)}", markup=False)


def _side(size: int | tuple[int, int] | None) -> int | None:
    """Of the square images that a network should be shown: its own, or the longer of its two."""
    return max(size) if isinstance(size, tuple) else size


def brief(classes: tuple[str, ...]) -> str:
    """The first of the names."""
    return " ".join(classes[:3]) + (" ..." if len(classes) > 3 else "")
