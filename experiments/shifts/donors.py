"""Whose styles are borrowed: images of home, unrelated photographs, unlabelled images of the new sites."""

from __future__ import annotations

from pathlib import Path

import torch

from advmix.data.images import ImageSet, to_bytes
from advmix.utils.files import read_tensors, write_tensors
from experiments.photo_generator.pictures import Pyramids, listed_pictures
from experiments.photo_generator.study import pool_images
from experiments.shifts.sets import ShiftImages, in_size

BOTH = "photographs-and-sites"

DONORS = ("home", "photographs", "sites", BOTH)
"""Of `sites` all sites of a set together, as many images of each: one classifier is trained for all of them."""

PHOTOGRAPHS = 1000
"""Crops of unrelated photographs, every second one in another light: the first of those of the shipped pools."""

FILE = "photographs.safetensors"


def donor_images(kind: str, images: ShiftImages, pictures: Path, out: Path) -> ImageSet:
    """Donors of a kind, in the size of the images; their labels mean nothing.

    Args:
        kind: one of `DONORS`.
        images: of the set.
        pictures: folder of the photographs, which `photo-pictures` wrote.
        out: folder where their crops are kept.
    """
    if kind == "home":
        return images.train
    sites = lent_by_sites(images)
    if kind == "sites":
        return sites
    photographs = in_size(photograph_crops(pictures, out), images.train.shape[1])
    return photographs if kind == "photographs" else _unlabelled([photographs, sites])


def lent_by_sites(images: ShiftImages) -> ImageSet:
    """Unlabelled images of all new sites, as many of each: those of a small one come several times."""
    parts = [site.unlabelled for site in images.sites.values()]
    most = max(len(part) for part in parts)
    return _unlabelled([part[torch.arange(most) % len(part)] for part in parts])


def _unlabelled(parts: list[ImageSet]) -> ImageSet:
    pixels = torch.cat([part.pixels for part in parts])
    return ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("",))


def photograph_crops(pictures: Path, out: Path) -> ImageSet:
    """Crops of photographs, 64 pixels, from their file where it is there."""
    path = out / FILE
    if not path.is_file():
        pyramids = Pyramids.read(pictures, listed_pictures())
        pixels = to_bytes(torch.cat(list(pool_images(pyramids, PHOTOGRAPHS)))).contiguous()
        write_tensors(path, "images", {"pixels": pixels}, {"pictures_fingerprint": pyramids.fingerprint})
    pixels = read_tensors(path, "images")[0]["pixels"]
    return ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("",))
