"""The networks that are trained: the studies', the same with group normalisation, a ResNet-18."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from advmix.classifiers.networks import conv_net
from advmix.utils.torch_tools import global_seed

WIDTHS = (32, 64, 128, 128)
"""One convolution more than `conv_net` has by default: photographs ask for it."""

GROUPS = 8
"""Of channels that are normalised together."""


def batch_net(classes: int) -> nn.Module:
    """Four convolutions with batch normalisation."""
    return conv_net(classes, widths=WIDTHS)


def group_net(classes: int) -> nn.Module:
    """The same with group normalisation (Wu and He, 2018), which keeps no statistics of home."""
    layers = [
        nn.GroupNorm(GROUPS, part.num_features) if isinstance(part, nn.BatchNorm2d) else part
        for part in conv_net(classes, widths=WIDTHS)
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def resnet18(classes: int) -> nn.Module:
    """torchvision's, from random weights."""
    from torchvision.models import resnet18

    network: nn.Module = resnet18(num_classes=classes)
    return network.to(memory_format=torch.channels_last)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"conv": batch_net, "group": group_net, "resnet18": resnet18}
"""By name."""


def make_network(name: str, classes: int, seed: int) -> nn.Module:
    """Fresh, with weights that follow from the seed."""
    with global_seed(seed):
        return NETWORKS[name](classes)
