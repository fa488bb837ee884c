"""The small network of the studies, and the fixed layers of its controls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.seeds import global_seed


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


def conv_net(classes: int, channels: int = 3, widths: Sequence[int] = (32, 64, 128)) -> nn.Sequential:
    """The classifier of the studies: a 3x3 convolution with batch normalisation per width, a linear layer on 2x2
    averages.
    """
    parts: list[nn.Module] = []
    inputs = channels
    for index, width in enumerate(widths):
        parts += [nn.Conv2d(inputs, width, 3, stride=1 if index == 0 else 2, padding=1, bias=False)]
        parts += [nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    parts += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * inputs, classes)]
    return nn.Sequential(*parts).to(memory_format=torch.channels_last)


FRONTS = {"grayscale": Grayscale, "instnorm": InstanceNorm}
"""Controls that are the plain network behind a fixed layer."""


def build_network(method: str, classes: int, channels: int, seed: int) -> nn.Module:
    """The studies' classifier; behind a fixed layer for the controls that are nothing else."""
    with global_seed(seed):
        network: nn.Module = conv_net(classes, channels)
    return nn.Sequential(FRONTS[method](), network) if method in FRONTS else network
