"""Any classifier, ready to be asked: `open_classifier`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from advmix.classifiers.options import ClassifierOptions
from advmix.classifiers.outside import Outside, open_outside
from advmix.classifiers.trained import load_classifier
from advmix.config import from_dict, with_defaults
from advmix.encoders.autoencoder import fingerprint
from advmix.errors import UserError
from advmix.files import read_json
from advmix.options import expanded


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

    def check_search(self, steps: int) -> None:
        """Refuse a search with gradient steps where there are no gradients.

        Raises:
            UserError: with the remedy.
        """
        if steps > 0 and not self.differentiable:
            raise UserError(
                f"{self.name}: gives no gradients, so a search cannot take steps along them; use --steps 0 for a "
                "random one"
            )


def open_classifier(
    options: ClassifierOptions,
    classes: tuple[str, ...] | None = None,
    image: tuple[int, int, int] | None = None,
) -> OpenClassifier:
    """The classifier that the options name.

    Args:
        options: which one, and how images are brought to it.
        classes: of the images that it will be asked about: a classifier that has names of its own must have the same,
            another must have as many classes, and takes these names.
        image: `(C, H, W)` of these images, on which others' networks are tried once.

    Raises:
        UserError: it cannot be read, does not run, or tells other classes apart.
    """
    options = _read_json(options)
    folder = expanded(options.classifier, "classifier")
    if folder.is_dir():
        opened = _open_trained(options, folder)
        _check_names(opened, classes)
        return opened
    return _named(open_outside(options, image), classes)


def _read_json(options: ClassifierOptions) -> ClassifierOptions:
    """The options in a .json file, where one is named; nothing is then said beside it."""
    if not options.classifier.endswith(".json"):
        return options
    if options != ClassifierOptions(options.classifier):
        raise UserError(f"--classifier {options.classifier}: says all about the classifier; leave other flags out")
    given = read_json(expanded(options.classifier, "classifier"))
    filled = with_defaults(ClassifierOptions, given)[0] if isinstance(given, dict) else given
    return from_dict(ClassifierOptions, filled, options.classifier)


def _open_trained(options: ClassifierOptions, folder: Path) -> OpenClassifier:
    """What `advmix train` wrote: it takes images as they are."""
    if options != ClassifierOptions(options.classifier):
        raise UserError(f"--classifier {folder}: made by advmix train, takes images as they are; leave other flags out")
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
    )


def _check_names(opened: OpenClassifier, classes: tuple[str, ...] | None) -> None:
    if classes is not None and opened.classes != classes:
        raise UserError(
            f"--classifier {opened.name}: tells {brief(opened.classes or ())} apart, but the images are labelled "
            f"{brief(classes)}; name a classifier of these"
        )


def _named(outside: Outside, classes: tuple[str, ...] | None) -> OpenClassifier:
    """Another's classifier, with the caller's names of its classes."""
    if classes is not None and len(classes) != outside.outputs:
        raise UserError(
            f"--classifier {outside.name}: has {outside.outputs} classes, but the images have {len(classes)} "
            f"({brief(classes)})"
        )
    return OpenClassifier(
        outside.network,
        outside.name,
        classes,
        None,
        outside.network.size,
        outside.differentiable,
        outside.fingerprint,
    )


def brief(classes: tuple[str, ...]) -> str:
    """The first of the names."""
    return " ".join(classes[:3]) + (" ..." if len(classes) > 3 else "")
