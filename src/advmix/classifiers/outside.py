"""Other people's classifiers: found, given their weights, wrapped, and tried once."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.classifiers.exported import SUFFIXES, files_of, from_file
from advmix.classifiers.found import Found, from_factory, from_timm, from_torchvision
from advmix.classifiers.huggingface import from_pretrained
from advmix.classifiers.options import ClassifierOptions
from advmix.classifiers.trial import FailedError, Trial, find_probabilities, noise, tried
from advmix.classifiers.weights import load_weights
from advmix.classifiers.wrapper import Classifier
from advmix.encoders.autoencoder import fingerprint
from advmix.errors import UserError
from advmix.hashing import hexdigest
from advmix.options import expanded
from advmix.progress import console
from advmix.trust import names_code

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
    """

    network: Classifier
    name: str
    outputs: int
    names: tuple[str, ...]
    named: bool
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
    _check_weights(found.network, options.classifier)
    network, images, trial = _fitting(found, options, image)
    find_probabilities(network, images)
    name = options.classifier + (f" ({options.weights})" if options.weights else "")
    console.print(f"  {name}: {_words(network, trial)}", markup=False)
    outputs = max(trial.outputs, 2)
    names = found.outputs if len(found.outputs) == outputs else ()
    print_of = _fingerprint(found, network, options)
    return Outside(network, name, outputs, names, found.named and bool(names), trial.differentiable, print_of)


def _check_weights(network: nn.Module, name: str) -> None:
    """Refuse weights that a first batch would draw at random."""
    lazy = [key for key, value in network.named_parameters() if nn.parameter.is_lazy(value)]
    if lazy:
        raise UserError(f"{name}: has no weights yet for {lazy[0]}; name --weights FILE, or run it where it is made")


def _find(options: ClassifierOptions) -> Found:
    library, _, name = options.classifier.partition(":")
    if library == "torchvision":
        return from_torchvision(name, options)
    if library == "timm":
        return from_timm(name, options)
    path = expanded(options.classifier, "classifier")
    if path.is_dir() or options.classifier.endswith(SUFFIXES):
        if options.classifier_args or options.weights:
            raise UserError(f"{options.classifier}: a whole network; leave out --weights and --classifier-args")
        return from_pretrained(path) if path.is_dir() else from_file(path)
    if names_code(options.classifier):
        return from_factory(options)
    raise UserError(f"{options.classifier}: no such folder; name {FORMS}")


def _pretrained(classifier: str) -> str:
    return '{"pretrained": true}' if classifier.startswith("timm:") else '{"weights": "DEFAULT"}'


def _fitting(
    found: Found, options: ClassifierOptions, image: tuple[int, int, int] | None
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


def _channels(found: Found, options: ClassifierOptions, image: tuple[int, int, int] | None) -> list[int]:
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


def _wrapped(found: Found, options: ClassifierOptions, channels: int) -> Classifier:
    """A user's own weights were trained as the user says; a library's as the library says, unless told otherwise."""
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


def _fingerprint(found: Found, network: Classifier, options: ClassifierOptions) -> str:
    path = Path(options.classifier)
    if path.suffix in SUFFIXES:
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
