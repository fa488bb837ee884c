"""The images of a data set by where they come from: one site left out, a classifier is trained at the others."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.data.images import ImageSet
from advmix.data.photos.load import Photos
from advmix.data.photos.rows import hold_out
from advmix.utils.errors import UserError


@dataclass(frozen=True, eq=False)
class SiteImages:
    """Every image, whatever split it was in.

    Attributes:
        images: N of them.
        sites: `(N,)`, indices into the names.
        names: of the sites.
        units: `(N,)`, the same for images that `split_by` keeps together.
        held: `(N,)` boolean, a share of each class of each site, in whole units: never trained on.
    """

    images: ImageSet
    sites: Tensor
    names: tuple[str, ...]
    units: Tensor
    held: Tensor

    @staticmethod
    def gather(photos: Photos, share: float, seed: int) -> SiteImages:
        """The images of all splits.

        Args:
            photos: a data set.
            share: of the images that are held out, in [0, 1).
            seed: fixes which.

        Raises:
            UserError: fewer than two sites.
        """
        if len(photos.sites) < 2:
            raise UserError(f"--site: every image is of {photos.sites[0]}; name a column with several sites")
        parts = list(photos.splits.values())
        labels, sites, units = (
            torch.cat(columns)
            for columns in zip(*((part.images.labels, part.sites, part.units) for part in parts), strict=True)
        )
        names = [name for part in parts for name in part.names]
        images = ImageSet(_joined([part.images.pixels for part in parts]), labels, photos.classes)
        strata = (sites * len(photos.classes) + labels).tolist()
        places = hold_out(strata, _unit_names(names, units), share, seed)
        held = torch.zeros(len(labels), dtype=torch.bool)
        held[torch.tensor(sorted(places), dtype=torch.int64)] = True
        return SiteImages(images, sites, photos.sites, units, held)

    def divided(self, site: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which images are trained on, which are held out at the same sites, and which are of the one that is left out:
        `(N,)` boolean each. Who is at both is left out of the first two.
        """
        there = self.sites == site
        others = ~there & ~torch.isin(self.units, self.units[there])
        return others & ~self.held, others & self.held, there

    def folders(self) -> list[str]:
        """A name for the folder of each site, no two alike."""
        plain = [re.sub(r"[^\w-]+", "-", name)[:60] for name in self.names]
        lower = [name.lower() for name in plain]
        return [f"{name}-{place}" if lower.count(name.lower()) > 1 else name for place, name in enumerate(plain)]


def _joined(parts: list[Tensor]) -> Tensor:
    """Images one after another; nothing is copied where they are so in memory, or in the file that is mapped there."""
    first, count, end = parts[0], sum(map(len, parts)), parts[0].data_ptr()
    for part in parts:
        if part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr() or part.data_ptr() != end:
            return torch.cat(parts)
        end += part.numel() * part.element_size()
    return first.as_strided((count, *first.shape[1:]), first.stride())


def _unit_names(names: list[str], units: Tensor) -> list[str]:
    """Each unit by the first name of its images, so that it does not depend on their order."""
    first: dict[int, str] = {}
    for name, unit in sorted(zip(names, units.tolist(), strict=True)):
        first.setdefault(unit, name)
    return [first[unit] for unit in units.tolist()]
