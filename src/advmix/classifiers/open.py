"""A network of another's, tried on noise before it is asked about images."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.classifiers.networks import load_classifier
from advmix.classifiers.settings import SUFFIXES, ClassifierOptions, groups_of
from advmix.classifiers.wrapper import Answer, Classifier, FoundNetwork, Merged, Reordered
from advmix.data.photos.rows import first_few
from advmix.encoders.autoencoder import fingerprint
from advmix.utils.config import expanded, from_dict, to_dict
from advmix.utils.errors import UserError, blame
from advmix.utils.files import hexdigest, read_json
from advmix.utils.progress import console
from advmix.utils.torch_tools import generator
from advmix.utils.trust import check_trusted, names_code, untrusting

IMAGES = 6

SIDE = 64

"""Of the images, where nothing says what it will be asked about."""

ROUNDING = {torch.float16: 1e-2, torch.bfloat16: 3e-2}

"""How far from one the sum of probabilities may be, by type; else a thousandth."""

SPREAD = 0.5

"""Of answers that are several probabilities; logits of a network without training may be in [0, 1] too, but close."""


class FailedError(UserError):
    """A network raises something of its own."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What became of it.

    Attributes:
        outputs: of the network itself, K >= 1.
        differentiable: whether gradients reach the images.
        notes: what else a person should know.
    """

    outputs: int
    differentiable: bool
    notes: tuple[str, ...] = ()


def noise(network: Classifier, image: tuple[int, int, int] | None) -> Tensor:
    """Images to try a network on, `(B, C, H, W)`: of what it will be asked about, or else as it wants them."""
    height, width = (network.size, network.size) if isinstance(network.size, int) else network.size or (SIDE, SIDE)
    shape = (IMAGES, *(image or (network.channels or 3, height, width)))
    return torch.rand(shape, generator=generator(0, "classifier", "trial"))


def tried(network: Classifier, name: str, images: Tensor) -> Trial:
    """Ask a network about all images, about one of them, and about all again.

    Raises:
        UserError: it raises (`FailedError`), or answers with something else than scores, or not always alike.
    """
    found, differentiable = _asked(network, name, images)
    scores = found.scores
    if not scores.isfinite().all():
        raise UserError(f"{name}: answers are not finite; are these its weights?")
    if (
        scores.shape[1] == 1
        and not differentiable
        and torch.equal(scores, scores.round())
        and scores.unique().numel() > 1
    ):
        raise UserError(f"{name}: answers with whole numbers: classes, not their scores; let it return its logits")
    with torch.no_grad():
        one, again = (_ask(network, name, part).scores.to(images) for part in (images[:1], images))
    if one.shape[1] != scores.shape[1]:
        raise UserError(f"{name}: has {scores.shape[1]} outputs for {len(images)} images and {one.shape[1]} for one")
    notes = [found.note] if found.note else []
    if again.shape != scores.shape or not torch.allclose(scores, again, rtol=1e-3, atol=1e-4):
        notes.append("answers vary from call to call")
    return Trial(scores.shape[1], differentiable, tuple(notes))


def _asked(network: Classifier, name: str, images: Tensor) -> tuple[Answer, bool]:
    """The answer, and whether gradients reach the images; a network that bears none is asked without."""
    watched = images.clone().requires_grad_()
    try:
        with torch.enable_grad():
            found = _ask(network, name, watched)
            reached = _has_gradient(found.scores, watched)
        return Answer(found.scores.detach().to(images), found.note), reached
    except FailedError as error:
        try:
            with torch.no_grad():
                found = _ask(network, name, images)
            return Answer(found.scores.to(images), found.note), False
        except FailedError:
            raise error from error.__cause__


def _ask(network: Classifier, name: str, images: Tensor) -> Answer:
    """The answer, or one line that says what is wrong."""
    try:
        return network.ask(images)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        size = "; if it wants another size, say so with --input-size" if network.size is None else ""
        _, channels, height, width = network.shown(images).shape
        raise FailedError(
            f"{name}: fails on images of {height}x{width} pixels and {channels} channels: {blame(error)}{size}"
        ) from error


def _has_gradient(scores: Tensor, images: Tensor) -> bool:
    """Whether one reaches the images that says something: of zero it does not. Outputs are weighed unequally, because
    the probabilities of a softmax always add up to one.
    """
    if not scores.requires_grad:
        return False
    weights = torch.arange(1, scores[0].numel() + 1).view(scores[0].shape).to(scores)
    try:
        (gradient,) = torch.autograd.grad((scores * weights).sum(), images, allow_unused=True)
    except RuntimeError:
        return False
    return gradient is not None and bool(gradient.isfinite().all() and gradient.any())


@torch.no_grad()
def find_probabilities(network: Classifier, images: Tensor) -> None:
    """Find out whether a network ends in a softmax or sigmoids, and let the wrapper make logits of these.

    Probabilities leave [0, 1] on no image: neither on noise, nor on black and white, nor on noise so strong that a
    logit would.
    """
    centred = 2 * images - 1
    plain = network.scores(images)
    slack = ROUNDING.get(network.ask(images).scores.dtype, 1e-3)
    if plain.shape[1] > 1 and plain.min() >= 0 and ((plain.sum(dim=1) - 1).abs() < slack).all():
        network.probabilities = True
        return
    strong = [torch.zeros_like(images), torch.ones_like(images), 30 * centred, -30 * centred, 1000 * centred]
    try:
        answers = torch.cat([plain, *map(network.scores, strong)])
    except Exception:  # a network may refuse what is no image; then nothing is known, and logits are the rule
        return
    within = bool(((answers >= 0) & (answers <= 1)).all() and answers.any())
    network.probabilities = within and plain.shape[1] == 1
    network.independent = within and plain.shape[1] > 1 and bool(answers.max() - answers.min() > SPREAD)


SOFTMAX = "probabilities, their logarithms taken as logits"

SIGMOID = "a single probability, its log-odds taken as the logit of class 1"

SIGMOIDS = "a probability for each output on its own, their log-odds taken as logits"

FORMS = (
    "a folder that train or save_pretrained wrote, torchvision:NAME, timm:NAME, package.module:factory, a TorchScript "
    ".pt, a torch.export .pt2, an .onnx, or a .json file with these options"
)


@dataclass(frozen=True, eq=False)
class Outside:
    """Another's classifier, tried.

    Attributes:
        network: images in [0, 1] to logits, in eval mode, its weights frozen.
        name: what a person reads.
        outputs: number of classes.
        names: of the outputs; empty where unknown.
        named: whether these are its classes' own names.
        differentiable: whether gradients reach the images.
        fingerprint: changes with weights, options and how images are brought to it.
        core: the module within, whose weights a file of weights holds.
    """

    network: Classifier
    name: str
    outputs: int
    names: tuple[str, ...]
    named: bool
    differentiable: bool
    fingerprint: str
    core: nn.Module


def open_outside(
    options: ClassifierOptions, image: tuple[int, int, int] | None = None, module: nn.Module | None = None
) -> Outside:
    """Find, load, wrap and try; a line says how images are brought to it.

    Args:
        options: which one.
        image: `(C, H, W)` of what it will be asked about.
        module: the network, where it is in memory; it is copied.

    Raises:
        UserError: one line for whatever is wrong.
    """
    found = _find(options) if module is None else FoundNetwork(copy.deepcopy(module), options.classifier, True)
    if options.weights is not None:
        from advmix.classifiers.weights import load_weights

        load_weights(found.network, options.weights)
    elif not found.trained:
        raise UserError(
            f"{options.classifier}: has no weights of its own; name --weights FILE, or ask its library "
            f"for some with --classifier-args '{_pretrained(options.classifier)}'"
        )
    _check_weights(found.network, options.classifier)
    network, images, trial = _fitting(found, options, image)
    find_probabilities(network, images)
    name = options.classifier + (f" ({options.weights})" if options.weights else "")
    console.print(f"  {name}: {_words(network, trial)}", markup=False)
    outputs = max(trial.outputs, 2)
    names = found.outputs if len(found.outputs) == outputs else ()
    print_of = _fingerprint(found, network, options)
    named = found.named and bool(names)
    return Outside(network, name, outputs, names, named, trial.differentiable, print_of, found.network)


def _check_weights(network: nn.Module, name: str) -> None:
    """Refuse weights that a first batch would draw at random."""
    lazy = [key for key, value in network.named_parameters() if nn.parameter.is_lazy(value)]
    if lazy:
        raise UserError(f"{name}: has no weights yet for {lazy[0]}; name --weights FILE, or run it where it is made")


def _find(options: ClassifierOptions) -> FoundNetwork:
    from advmix.classifiers import zoo

    library, _, name = options.classifier.partition(":")
    if library == "torchvision":
        return zoo.from_torchvision(name, options)
    if library == "timm":
        return zoo.from_timm(name, options)
    path = expanded(options.classifier, "classifier")
    if path.is_dir() or options.classifier.endswith(SUFFIXES):
        if options.classifier_args or options.weights:
            raise UserError(f"{options.classifier}: a whole network; leave out --weights and --classifier-args")
        if path.is_dir():
            return zoo.from_pretrained(path)
        from advmix.classifiers.formats import from_file

        return from_file(path)
    if names_code(options.classifier):
        return zoo.from_factory(options)
    raise UserError(f"{options.classifier}: no such folder; name {FORMS}")


def _pretrained(classifier: str) -> str:
    return '{"pretrained": true}' if classifier.startswith("timm:") else '{"weights": "DEFAULT"}'


def _fitting(
    found: FoundNetwork, options: ClassifierOptions, image: tuple[int, int, int] | None
) -> tuple[Classifier, Tensor, Trial]:
    """The network, wrapped for the channels that it takes, with the images on which it was tried."""
    failed: FailedError | None = None
    for channels in _channels(found, options, image):
        network = _wrapped(found, options, channels)
        images = noise(network, image)
        try:
            return network, images, tried(network, options.classifier, images)
        except FailedError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _channels(found: FoundNetwork, options: ClassifierOptions, image: tuple[int, int, int] | None) -> list[int]:
    """What a network may take, the likeliest first: what is known of it, or else what the images have.

    Raises:
        UserError: what is known contradicts itself.
    """
    numbers = max(len(options.mean), len(options.std))
    if found.channels not in (None, 1, 3):
        raise UserError(f"{options.classifier}: takes {found.channels} channels; images have 1 or 3")
    if numbers > 1 and numbers != (found.channels or 3):
        raise UserError(
            f"--mean and --std: {numbers} numbers, but {options.classifier} takes {found.channels or '1 or 3'} channels"
        )
    if found.channels is not None:
        return [found.channels]
    if numbers == 3:
        return [3]
    first = 3 if image is None else image[0]
    return [first, 4 - first]


def _wrapped(found: FoundNetwork, options: ClassifierOptions, channels: int) -> Classifier:
    """A user's own weights were trained as the user says; a library's as the library says, unless told otherwise."""
    if isinstance(found.network, Classifier):
        return found.network.eval().requires_grad_(False)
    known = options.weights is None
    mean, std = options.mean or (found.mean if known else ()), options.std or (found.std if known else ())
    if not found.normalised and (mean or std):
        raise UserError(f"{options.classifier}: takes whole numbers from 0 to 255; leave out --mean and --std")
    network = Classifier(found.network, mean, std, options.size or found.size, channels, head=options.head).eval()
    for weight in network.parameters():
        weight.requires_grad_(False)
    return network


def _words(network: Classifier, trial: Trial) -> str:
    normal = " ".join(f"{value:g}" for value in network.mean.flatten().tolist())
    spread = " ".join(f"{value:g}" for value in network.std.flatten().tolist())
    plain = normal == "0" and spread == "1"
    height, width = (network.size, network.size) if isinstance(network.size, int) else network.size or (0, 0)
    probable = SIGMOID if trial.outputs == 1 else SOFTMAX
    parts = [
        f"{max(trial.outputs, 2)} classes",
        "images in [0, 1] as they are" if plain else f"images normalised with mean {normal}, std {spread}",
        f"resized to {height}x{width}" if network.size else "at the size they come in",
        *trial.notes,
        *([probable] if network.probabilities else []),
        *([SIGMOIDS] if network.independent else []),
        *([] if trial.differentiable else ["no gradients: evaluation and random search only"]),
    ]
    return ", ".join(parts)


def _fingerprint(found: FoundNetwork, network: Classifier, options: ClassifierOptions) -> str:
    path = Path(options.classifier)
    if path.suffix in SUFFIXES:
        from advmix.classifiers.formats import files_of

        parts = [hashlib.sha256(part.read_bytes()) for part in files_of(expanded(path, "classifier"))]
        weights = "".join(part.hexdigest() for part in parts)
    elif all(isinstance(value, Tensor) for value in found.network.state_dict().values()):
        weights = fingerprint(found.network)
    else:  # quantised networks pack their weights
        packed = io.BytesIO()
        torch.save(found.network.state_dict(), packed)
        weights = hashlib.sha256(packed.getvalue()).hexdigest()
    brought: list[Any] = [network.mean.tolist(), network.std.tolist(), network.size, network.channels]
    brought += [network.probabilities, network.independent, network.head]
    order = [options.classes] if options.classes else []
    told = json.dumps([found.identity, options.arguments(), brought, weights, *order])
    return hexdigest(told)


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
        core: the module within `network` whose weights a file of weights holds.
        options: how it was named; None where it was in memory.
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
    core: nn.Module | None = None
    options: ClassifierOptions | None = None

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
    classifier: ClassifierOptions | OpenClassifier | str | Path | nn.Module,
    classes: tuple[str, ...] | None = None,
    image: tuple[int, int, int] | None = None,
    **options: Any,
) -> OpenClassifier:
    """A classifier, whoever made it.

    >>> net = advmix.open_classifier("timm:resnet18", weights="mine.safetensors", mean=MEAN, std=STD, input_size=224)
    >>> net = advmix.open_classifier(module, mean=MEAN, std=STD, classes=("cat", "dog"))

    Args:
        classifier: its name, as `--classifier` has it; a module, which is copied, in eval mode; options with a name in
            them; or one that is open.
        classes: of the images that it will be asked about: a classifier that has names of its own must have the same,
            and answers in the order of these; another must have as many classes, and takes these names.
        image: `(C, H, W)` of these images, on which others' networks are tried once.
        options: fields of `ClassifierOptions`, beside a name or a module.

    Raises:
        UserError: it cannot be read, does not run, or tells other classes apart.
    """
    opened = classifier if isinstance(classifier, OpenClassifier) else _opened(classifier, classes, image, options)
    return opened if classes is None else opened.named(classes)


def _opened(
    classifier: ClassifierOptions | str | Path | nn.Module,
    classes: tuple[str, ...] | None,
    image: tuple[int, int, int] | None,
    given: Mapping[str, Any],
) -> OpenClassifier:
    if isinstance(classifier, nn.Module):
        wrapped = isinstance(classifier, Classifier)
        if wrapped and given:
            raise UserError(f"{', '.join(given)}: say it to advmix.Classifier, which this network is in")
        name = type(classifier.network if wrapped else classifier).__name__
        return _open_outside(ClassifierOptions(name, **given), image, classes, classifier)
    options = classifier if isinstance(classifier, ClassifierOptions) else ClassifierOptions(str(classifier), **given)
    options = _read_json(options)
    return _open_outside(options, image, classes) if options.folder is None else _open_trained(options, options.folder)


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
        given = to_dict(ClassifierOptions("")) | given
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
        network,
        options,
    )


def _open_outside(
    options: ClassifierOptions,
    image: tuple[int, int, int] | None,
    wanted: tuple[str, ...] | None,
    module: nn.Module | None = None,
) -> OpenClassifier:
    """Another's, whose classes have no names yet unless the options, its maker or the images give them."""
    outside = open_outside(options, image, module)
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
        core=outside.core,
        options=None if module is not None else options,
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
