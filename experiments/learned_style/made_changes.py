"""Changes of images whose effect is known, and lamps that go with the class."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from experiments.photo_generator.crops import LUMA

Change = Callable[[Tensor], Tensor]
"""Images `(B, C, H, W)` in [0, 1] to the same in about that range."""


def grey(images: Tensor) -> Tensor:
    """`(B, 3, H, W)` to `(B, 1, H, W)`."""
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def bright_part(images: Tensor) -> Tensor:
    """A soft mask `(B, 1, H, W)` in [0, 1] of what is brighter than the image's median: of a cell, the background."""
    level = grey(images)
    middle = level.flatten(1).quantile(0.5, dim=1)[:, None, None, None]
    return torch.sigmoid((level - middle) / 0.05)


def gains(images: Tensor, *factors: float) -> Tensor:
    """Each channel times its factor."""
    return images * images.new_tensor(factors)[:, None, None]


def across(images: Tensor) -> Tensor:
    """-1 at the left border to 1 at the right one, `(W,)`."""
    return torch.linspace(-1, 1, images.shape[3], device=images.device)


def _corner(images: Tensor) -> Tensor:
    down = torch.linspace(-1, 1, images.shape[2], device=images.device)[:, None]
    return down.square() + across(images).square()


def _noise(images: Tensor) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return images + 0.08 * torch.randn(images.shape, generator=rng).to(images)


def _toned(images: Tensor) -> Tensor:
    """Dark parts bluer, bright ones yellower."""
    level = 2 * grey(images) - 1
    return images + 0.2 * level * images.new_tensor([0.6, 0.2, -1.0])[:, None, None]


WHOLE: dict[str, Change] = {
    "brightness x 0.6": lambda x: F.adjust_brightness(x, 0.6),
    "contrast x 0.5": lambda x: F.adjust_contrast(x, 0.5),
    "warmer": lambda x: gains(x, 1.2, 1.0, 0.75),
    "saturation x 0.3": lambda x: F.adjust_saturation(x, 0.3),
    "hue by 30 degrees": lambda x: F.adjust_hue(x, 30 / 360),
    "gamma 2": lambda x: x.clamp_min(0) ** 2,
    "steeper tone curve": lambda x: x - torch.sin(2 * math.pi * x) / (2 * math.pi),
}
"""Changes of the whole image: a map of its colours."""

PARTS: dict[str, Change] = {
    "darker background": lambda x: x * (1 - 0.5 * bright_part(x)),
    "coloured background": lambda x: torch.lerp(x, gains(x, 1.0, 0.9, 0.5), bright_part(x)),
    "grey foreground": lambda x: torch.lerp(grey(x).expand_as(x), x, bright_part(x)),
    "dark blue, bright yellow": _toned,
}
"""Changes of the brighter or the darker part."""

PLACES: dict[str, Change] = {
    "light from the left": lambda x: x * (1 - 0.5 * across(x)),
    "warm left, cool right": lambda x: x * (1 + 0.4 * across(x) * x.new_tensor([-1.0, 0.0, 1.0])[:, None, None]),
    "dark corners": lambda x: x * (1 - 0.35 * _corner(x)),
}
"""Changes that depend on the place."""

DETAIL: dict[str, Change] = {
    "blur": lambda x: F.gaussian_blur(x, [7, 7], [1.5, 1.5]),
    "sharper": lambda x: F.adjust_sharpness(x, 3.0),
    "noise": _noise,
}
"""Changes of fine detail."""

FAMILIES = {"whole image": WHOLE, "bright or dark part": PARTS, "place": PLACES, "detail": DETAIL}
