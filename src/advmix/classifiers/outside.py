"""Other people's classifiers: found, given their weights, wrapped, and tried once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from advmix.classifiers.exported import SUFFIXES, from_file, guess_channels
from advmix.classifiers.found import Found, blame, from_factory, from_timm, from_torchvision
from advmix.classifiers.options import ClassifierOptions
from advmix.classifiers.weights import load_weights
from advmix.classifiers.wrapper import Classifier
from advmix.encoders.autoencoder import fingerprint
from advmix.errors import UserError
from advmix.hashing import hexdigest
from advmix.options import expanded
from advmix.progress import console
from advmix.seeds import generator

TRIAL_SIDE = 64
"""Of the images on which a network is tried, where nothing says what it will be asked about."""
LOGARITHM = {
    False: "probabilities, their logarithms taken as logits",
    True: "a single probability, its log-odds taken as the logit of class 1",
}
"""What is said of a network that answers with probabilities, by whether it has one output."""
FORMS = (
    "a folder that train wrote, torchvision:NAME, timm:NAME, package.module:factory, a TorchScript .pt, a torch.export "
    ".pt2, an .onnx, or a .json file with these options"
)


@dataclass(frozen=True, eq=False)
class Outside:
    """Another's classifier, tried.

    Attributes:
        network: images in [0, 1] to logits, in eval mode, its weights frozen.
        name: what a person reads.
        outputs: number of classes.
        differentiable: whether gradients reach the images.
        fingerprint: changes with weights, options and how images are brought to it.
    """

    network: Classifier
    name: str
    outputs: int
    differentiable: bool
    fingerprint: str


def open_outside(options: ClassifierOptions, image: tuple[int, int, int] | None = None) -> Outside:
    """Find, load, wrap and try; a line says how images are brought to it.

    Args:
        options: which one.
        image: `(C, H, W)` of what it will be asked about.

    Raises:
        UserError: one line for whatever is wrong.
    """
    found = _find(options)
    if options.weights is not None:
        load_weights(found.network, options.weights)
    elif not found.trained:
        raise UserError(
            f"{options.classifier}: has no weights of its own; name --weights FILE, or ask its library "
            f"for some with --classifier-args '{_pretrained(options.classifier)}'"
        )
    network = _wrapped(found, options)
    images = _noise(network, image)
    logits, differentiable = _tried(network, options, images)
    single = not logits[:, 0].any()
    network.probabilities = _stays_in_one(network, images) if single else _sums_to_one(logits)
    name = options.classifier + (f" ({options.weights})" if options.weights else "")
    console.print(f"  {name}: {_words(network, logits, single, differentiable)}", markup=False)
    return Outside(network, name, logits.shape[1], differentiable, _fingerprint(found, network, options))


def _find(options: ClassifierOptions) -> Found:
    library, _, name = options.classifier.partition(":")
    if library == "torchvision":
        return from_torchvision(name, options)
    if library == "timm":
        return from_timm(name, options)
    if options.classifier.endswith(SUFFIXES):
        if options.classifier_args or options.weights:
            raise UserError(f"{options.classifier}: a whole network; leave out --weights and --classifier-args")
        return from_file(expanded(options.classifier, "classifier"))
    if name and "/" not in library:
        return from_factory(options)
    raise UserError(f"{options.classifier}: no such folder; name {FORMS}")


def _pretrained(classifier: str) -> str:
    return '{"pretrained": true}' if classifier.startswith("timm:") else '{"weights": "DEFAULT"}'


def _wrapped(found: Found, options: ClassifierOptions) -> Classifier:
    """A user's own weights were trained as the user says; a library's as the library says, unless told otherwise."""
    known = options.weights is None
    mean, std = options.mean or (found.mean if known else ()), options.std or (found.std if known else ())
    size = options.input_size or found.size
    numbers = max(len(mean), len(std))
    channels = found.channels or (numbers if numbers in (1, 3) else guess_channels(found.network))
    if numbers > 1 and channels is not None and numbers != channels:
        raise UserError(f"--mean and --std: {numbers} numbers, but {options.classifier} takes {channels} channels")
    if channels not in (None, 1, 3):
        raise UserError(f"{options.classifier}: takes {channels} channels; images have 1 or 3")
    network = Classifier(found.network, mean, std, size, channels).eval()
    for weight in network.parameters():
        weight.requires_grad_(False)
    return network


def _noise(network: Classifier, image: tuple[int, int, int] | None) -> Tensor:
    """Three images to try a network on."""
    side = network.size or TRIAL_SIDE
    shape = (3, *(image or (network.channels or 3, side, side)))
    return torch.rand(shape, generator=generator(0, "classifier", "trial"))


def _tried(network: Classifier, options: ClassifierOptions, images: Tensor) -> tuple[Tensor, bool]:
    """Raw answers to three images, and whether gradients reach these."""
    images, shape = images.clone().requires_grad_(), images.shape
    try:
        with torch.enable_grad():
            logits = network(images)
    except Exception as error:
        size = "; if it wants another size, say so with --input-size" if network.size is None else ""
        raise UserError(
            f"{options.classifier}: fails on images of {shape[2]}x{shape[3]} pixels and {shape[1]} "
            f"channels: {blame(error)}{size}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 3 or not logits.is_floating_point():
        described = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"{options.classifier}: answers 3 images with {described}, not with logits (3, K)")
    if not logits.isfinite().all():
        raise UserError(f"{options.classifier}: answers are not finite; are these its weights?")
    return logits.detach(), _has_gradient(logits, images)


def _has_gradient(logits: Tensor, images: Tensor) -> bool:
    if not logits.requires_grad:
        return False
    try:
        (gradient,) = torch.autograd.grad(logits.sum(), images, allow_unused=True)
    except RuntimeError:
        return False
    return gradient is not None and bool(gradient.isfinite().all())


def _sums_to_one(logits: Tensor) -> bool:
    """Whether the network ends in a softmax: no logits of three noise images are positive and sum to one."""
    return bool((logits >= 0).all() and ((logits.sum(dim=1) - 1).abs() < 1e-3).all())


@torch.no_grad()
def _stays_in_one(network: Classifier, images: Tensor) -> bool:
    """Whether a network with one output ends in a sigmoid: no answer leaves [0, 1], not to three noise images, black
    and white, and not to noise so strong that a logit would.
    """
    noise = 2 * images - 1
    strong = [images, torch.zeros_like(images), torch.ones_like(images), 30 * noise, -30 * noise, 1000 * noise]
    try:
        answers = torch.cat([network(trial)[:, 1] for trial in strong])
    except Exception:  # a network may refuse what is no image; then nothing is known, and a logit is the rule
        return False
    return bool(((answers >= 0) & (answers <= 1)).all())


def _words(network: Classifier, logits: Tensor, single: bool, differentiable: bool) -> str:
    normal = " ".join(f"{value:g}" for value in network.mean.flatten().tolist())
    spread = " ".join(f"{value:g}" for value in network.std.flatten().tolist())
    plain = normal == "0" and spread == "1"
    parts = [
        f"{logits.shape[1]} classes",
        "images in [0, 1] as they are" if plain else f"images normalised with mean {normal}, std {spread}",
        f"resized to {network.size}x{network.size}" if network.size else "at the size they come in",
        *([LOGARITHM[single]] if network.probabilities else []),
        *([] if differentiable else ["no gradients: evaluation and random search only"]),
    ]
    return ", ".join(parts)


def _fingerprint(found: Found, network: Classifier, options: ClassifierOptions) -> str:
    path = Path(options.classifier)
    if path.suffix in SUFFIXES:
        weights = hashlib.sha256(expanded(path, "classifier").read_bytes()).hexdigest()
    else:
        weights = fingerprint(found.network)
    brought = [network.mean.tolist(), network.std.tolist(), network.size, network.channels, network.probabilities]
    order = [options.classes] if options.classes else []
    told = json.dumps([found.identity, options.arguments(), brought, weights, *order])
    return hexdigest(told)
