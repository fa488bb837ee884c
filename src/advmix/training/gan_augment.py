"""What the discriminator sees, real and fake alike, is moved about: it then cannot learn a small data set by heart.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020). Colour is left alone: how it varies
is what `z⊥` must learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmenter:
    """Integer translation, border pixels repeated, and optionally a horizontal flip; differentiable.

    Args:
        reach: the largest shift in pixels along each axis.
        flip: whether half of the images are mirrored.
    """

    reach: int
    flip: bool = False

    def draw(self, count: int, rng: torch.Generator | None) -> Tensor:
        """For each image how far it goes down and right, and whether it is mirrored: `(B, 3)`, int64."""
        shifts = torch.randint(-self.reach, self.reach + 1, (count, 2), generator=rng)
        mirrored = torch.randint(2, (count, 1), generator=rng) * int(self.flip)
        return torch.cat([shifts, mirrored], dim=1)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Images `(B, C, H, W)` moved as drawn; the same shape, `channels_last`."""
        down, right, mirrored = drawn.to(images.device)[:, :, None].unbind(dim=1)
        (height, width), device = images.shape[2:], images.device
        rows = (torch.arange(height, device=device) - down).clamp(0, height - 1)
        columns = (torch.arange(width, device=device) - right).clamp(0, width - 1)
        columns = torch.where(mirrored.bool(), width - 1 - columns, columns)
        examples = torch.arange(len(images), device=device)[:, None, None]
        moved = images.permute(0, 2, 3, 1)[examples, rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2)
