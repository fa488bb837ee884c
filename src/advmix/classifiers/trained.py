"""The classifiers that `advmix train` writes: the one place that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from advmix.building import rebuilt, stated
from advmix.classifiers.folders import TRAINED, WANTED
from advmix.classifiers.networks import build_network
from advmix.clock import read_seconds
from advmix.errors import UserError
from advmix.files import read_tensors
from advmix.generators.layered import LARGEST

FILE = TRAINED


def load_classifier(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The classifier of a `train` folder, in eval mode, and its metadata.

    Raises:
        UserError: missing, damaged or not ours.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; name {WANTED}")
    tensors, metadata = read_tensors(path, "classifier")
    if not metadata.keys() >= {"classes", "image"}:
        raise UserError(f"{path}: does not say what images it is for; make it again with advmix train")
    method, classes = stated(metadata, "method", str, path), stated(metadata, "classes", list, path)
    channels = _channels(stated(metadata, "image", list, path), path)
    if not all(isinstance(name, str) for name in classes):
        raise UserError(f"{path}: its classes are not all names; make it again with advmix train")
    what = f"the classifier of {method[:40]}"
    network = rebuilt(lambda: build_network(method, len(classes), channels, seed=0), tensors, path, what)
    return network, {**metadata, "train_seconds": read_seconds(folder).get("train_seconds")}


def _channels(image: list[Any], path: Path) -> int:
    """Of an image's shape `[C, H, W]`, which is checked."""
    if len(image) != 3 or not all(type(number) is int and 0 < number <= LARGEST for number in image):
        raise UserError(f"{path}: images of {str(image[:4])[:40]}, not of (channels, height, width) up to {LARGEST:,}")
    channels: int = image[0]
    return channels
