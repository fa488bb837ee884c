"""The audit's own reference: a network unlike those that it usually judges, and quick to train on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.generators.style import LARGEST
from advmix.utils.errors import UserError
from advmix.utils.files import read_json, read_tensors
from advmix.utils.progress import read_seconds
from advmix.utils.torch_tools import global_seed, rebuilt, stated

WIDTH, DEPTH, KERNEL = 96, 4, 5


class Residual(nn.Module):
    """`x + f(x)`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        out: Tensor = x + self.inner(x)
        return out


def patch_net(classes: int, channels: int, side: int, patches: int | None = None) -> nn.Sequential:
    """ConvMixer (Trockman and Kolter, "Patches Are All You Need?", 2022), small: patches, then depthwise and pointwise
    convolutions in turn, all at one resolution.

    Args:
        classes: K.
        channels: C of the images.
        side: H and W.
        patches: patches to a side; default 8, and 16 from 64 pixels on.

    Returns:
        Images `(B, C, H, W)` in [0, 1] to logits `(B, K)`.
    """
    size = max(1, side // (patches or (16 if side >= 64 else 8)))
    parts: list[nn.Module] = [nn.Conv2d(channels, WIDTH, size, stride=size), nn.GELU(), nn.BatchNorm2d(WIDTH)]
    for _ in range(DEPTH):
        depthwise = nn.Conv2d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, groups=WIDTH)
        parts.append(Residual(nn.Sequential(depthwise, nn.GELU(), nn.BatchNorm2d(WIDTH))))
        parts += [nn.Conv2d(WIDTH, WIDTH, 1), nn.GELU(), nn.BatchNorm2d(WIDTH)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, classes))


class Grayscale(nn.Module):
    """The mean of the channels, repeated: a network that cannot see colour (a control)."""

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return images.mean(dim=1, keepdim=True).expand_as(images)


class InstanceNorm(nn.Module):
    """Every channel of every image with zero mean and unit variance: a network that sees colours hardly at all, by
    architecture alone (a control).
    """

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return F.instance_norm(images, eps=1e-5)


def conv_net(classes: int, channels: int = 3, widths: Sequence[int] = (32, 64, 128), pool: int = 2) -> nn.Sequential:
    """The classifier of the studies: a 3x3 convolution with batch normalisation per width, a linear layer on
    `pool` x `pool` averages. Four tell where something is better than two, for more of the head's weights.
    """
    parts: list[nn.Module] = []
    inputs = channels
    for index, width in enumerate(widths):
        parts += [nn.Conv2d(inputs, width, 3, stride=1 if index == 0 else 2, padding=1, bias=False)]
        parts += [nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    parts += [nn.AdaptiveAvgPool2d(pool), nn.Flatten(), nn.Linear(pool**2 * inputs, classes)]
    return nn.Sequential(*parts).to(memory_format=torch.channels_last)


FRONTS = {"grayscale": Grayscale, "instnorm": InstanceNorm}

"""Controls that are the plain network behind a fixed layer."""


def build_network(method: str, classes: int, channels: int, seed: int) -> nn.Module:
    """The studies' classifier; behind a fixed layer for the controls that are nothing else."""
    with global_seed(seed):
        network: nn.Module = conv_net(classes, channels)
    return nn.Sequential(FRONTS[method](), network) if method in FRONTS else network


TRAINED, CONFIG = "classifier.safetensors", "config.json"

WANTED = "a folder that advmix train wrote, or one of save_pretrained of Hugging Face, with config.json and weights"


def is_pretrained(folder: Path) -> bool:
    """Whether a folder says that it holds a model of transformers, and holds none of ours."""
    if not (folder / CONFIG).is_file() or (folder / TRAINED).is_file():
        return False
    try:
        config = read_json(folder / CONFIG, edited=True)
    except UserError:
        return False
    return (
        isinstance(config, dict) and "command" not in config and bool({"model_type", "architectures"} & config.keys())
    )


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
