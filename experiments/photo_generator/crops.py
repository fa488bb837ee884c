"""Random crops of photographs at all scales, many of them in other colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.photo_generator.pictures import Pyramids

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""
RECOLOURED, FLAT, INVERTED, EXCHANGED = 0.6, 0.2, 0.15, 0.3
"""Shares of training images in other colours and before a flat background; of the former, inverted ones and ones with
exchanged channels.
"""


def draw_crops(pyramids: Pyramids, count: int, size: int, rng: torch.Generator) -> Tensor:
    """Square crops `(count, 3, size, size)` in [0, 1], of every scale from a photograph's own pixels to its whole
    shorter side, mirrored at random. Of two that are drawn the one with more contrast is kept: skies are many.
    """
    pictures = torch.multinomial(pyramids.weights, 2 * count, replacement=True, generator=rng)
    pairs = torch.stack([_crop(pyramids.levels[one], size, rng) for one in pictures.tolist()]).unflatten(0, (count, 2))
    kept: Tensor = pairs[torch.arange(count), pairs.flatten(2).std(dim=2).argmax(dim=1)]
    return kept


def _crop(levels: Sequence[Tensor], size: int, rng: torch.Generator) -> Tensor:
    """A crop of a side that is drawn evenly in its logarithm, taken from the smallest level that has as many pixels."""
    whole = min(levels[0].shape[1:])
    scale, down, right, mirror = torch.rand(4, generator=rng).tolist()
    side = min(whole, size * max(1, whole / size) ** scale)
    level = min(max(0, int(math.log2(side / size))), len(levels) - 1)
    part = _square(levels[level], round(side / 2**level), down, right).float() / 255
    part = F.interpolate(part[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
    return part.flip(-1) if mirror < 0.5 else part


def _square(image: Tensor, side: int, down: float, right: float) -> Tensor:
    height, width = image.shape[1:]
    side = min(side, height, width)
    top, left = round(down * (height - side)), round(right * (width - side))
    return image[:, top : top + side, left : left + side]


def draw_images(pyramids: Pyramids, count: int, size: int, rng: torch.Generator) -> Tensor:
    """What `photo` learns from, `(count, 3, size, size)` in [0, 1]: crops as they are, crops in random colours, and
    some before a flat background.
    """
    crops = draw_crops(pyramids, count, size, rng)
    images = torch.where(_chosen(count, RECOLOURED, rng), recoloured(crops, rng), crops)
    return torch.where(_chosen(count, FLAT, rng), _before_flat(images, rng), images)


def recoloured(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images `(B, 3, H, W)` in [0, 1] in colours that no photograph has: some inverted, some with exchanged channels,
    all of them in another light.
    """
    count = len(images)
    x = torch.where(_chosen(count, INVERTED, rng), 1 - images, images)
    order = torch.rand(count, 3, generator=rng).argsort(dim=1)
    exchanged = x.gather(1, order[:, :, None, None].expand_as(x))
    return relit(torch.where(_chosen(count, EXCHANGED, rng), exchanged, x), rng)


def relit(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images `(B, 3, H, W)` in [0, 1] in another light, by another camera: gamma, saturation (from none to twofold), a
    little of each channel in the others, white balance, contrast and brightness.
    """
    count = len(images)
    x = images.clamp(0, 1) ** torch.exp(0.5 * _normal(count, 1, rng))
    x = torch.einsum("bij,bjhw->bihw", _channel_mixing(count, rng), x)
    x = x * torch.exp(0.25 * _normal(count, 3, rng))
    contrast = torch.exp(_uniform(count, math.log(0.4), math.log(2.5), rng))
    return ((x - 0.5) * contrast + 0.5 + 0.2 * _normal(count, 1, rng)).clamp(0, 1)


def _channel_mixing(count: int, rng: torch.Generator) -> Tensor:
    """Matrices `(B, 3, 3)`."""
    grey = torch.tensor(LUMA).expand(3, 3)
    saturation = _uniform(count, -0.3, 2, rng).clamp(min=0)[:, :, 0]
    mixing = torch.eye(3) + 0.15 * torch.randn(count, 3, 3, generator=rng)
    mixing = mixing / mixing.sum(dim=2, keepdim=True).clamp(min=0.5)
    return grey + saturation * (mixing - grey)


def _before_flat(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images with a flat colour where another one of the batch is dark, or bright, softly or sharply; every second one
    is flat where it is not background, too.
    """
    count = len(images)
    shapes = images.roll(1, dims=0).mean(dim=1, keepdim=True)
    level = shapes.flatten(1).quantile(0.5, dim=1)[:, None, None, None] + 0.1 * _normal(count, 1, rng)
    mask = ((shapes - level) * torch.exp(_uniform(count, math.log(3), math.log(60), rng)) + 0.5).clamp(0, 1)
    ground, figure = torch.rand(2, count, 3, 1, 1, generator=rng)
    shown = torch.where(_chosen(count, 0.5, rng), figure, images)
    return torch.lerp(ground, shown, mask)


def _chosen(count: int, share: float, rng: torch.Generator) -> Tensor:
    return torch.rand(count, 1, 1, 1, generator=rng) < share


def _normal(count: int, channels: int, rng: torch.Generator) -> Tensor:
    return torch.randn(count, channels, 1, 1, generator=rng)


def _uniform(count: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=rng)
