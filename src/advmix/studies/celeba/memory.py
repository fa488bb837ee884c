"""Does a generator remember faces that it was trained on? Its made-up ones beside the nearest training images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.data import ImageSet, slices

AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What is nearest to each of N images, nearest first.

    Attributes:
        places: `(N, K)`, in the set that was searched.
        distances: `(N, K)`, root mean squared differences of a pixel, in [0, 1].
    """

    places: Tensor
    distances: Tensor

    def summary(self) -> dict[str, float]:
        """Distances to the nearest one: the least, and the median over the images."""
        nearest = self.distances[:, 0]
        return {"least": float(nearest.min()), "median": float(nearest.median())}


@torch.no_grad()
def neighbours(images: Tensor, among: ImageSet, count: int = 3) -> Neighbours:
    """The images of a set that are nearest to some images, as they are or mirrored.

    Args:
        images: `(N, C, H, W)` in [0, 1].
        among: the set, of the same shape.
        count: K, how many of each.
    """
    wanted, parts = images.flatten(1), []
    for rows in slices(len(among), AT_ONCE):
        there = among.batch(rows)[0].to(images.device)
        parts.append(torch.minimum(*(torch.cdist(wanted, turned.flatten(1)) for turned in (there, there.flip(3)))))
    distances = torch.cat(parts, dim=1)
    found = distances.topk(min(count, len(among)), dim=1, largest=False)
    return Neighbours(found.indices.cpu(), found.values.cpu() / wanted.shape[1] ** 0.5)
