"""Shifts that are made: the ones by which settings are chosen, so that no real site is looked at before the end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from advmix.data.images import ImageSet, slices, to_bytes

Change = Callable[[Tensor], Tensor]

BATCH = 500


def _gains(images: Tensor, *gains: float) -> Tensor:
    return (images * images.new_tensor(gains)[:, None, None]).clamp(0, 1)


def _blurred(images: Tensor, share: float) -> Tensor:
    """By a Gaussian whose deviation is a share of the side."""
    sigma = share * images.shape[-1]
    blurred: Tensor = F.gaussian_blur(images, [2 * round(3 * sigma) + 1] * 2, [sigma, sigma])
    return blurred


MADE_SHIFTS: dict[str, Change] = {
    "yellow field": lambda x: _gains((0.8 * x + 0.1) ** 1.2, 1.1, 1.05, 0.7),
    "cyan field": lambda x: F.adjust_saturation(_gains(x**0.9, 0.75, 1.05, 1.05), 1.3),
    "dark and flat": lambda x: F.adjust_contrast(0.6 * x, 0.7),
    "faded": lambda x: F.adjust_saturation(0.6 * x + 0.3, 0.5),
    "other hue": lambda x: F.adjust_hue(F.adjust_contrast(x, 1.3), 0.08),
    "blurred": lambda x: _blurred(x, 0.025),
}
"""By name: images `(B, 3, H, W)` in [0, 1] to the same. Light, colour and focus; what a microscope or a camera does."""


@torch.no_grad()
def make_shift(name: str, images: ImageSet) -> ImageSet:
    """The same images at a made site.

    Args:
        name: one of `MADE_SHIFTS`.
        images: of any size.
    """
    change = MADE_SHIFTS[name]
    parts = [change(images.pixels[part].float() / 255) for part in slices(len(images), BATCH)]
    return ImageSet(torch.cat([to_bytes(part) for part in parts]), images.labels, images.classes)
