"""Faces: who is in which part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.data import ImageSet, to_bytes
from advmix.data.looks import MEAN_COLORS
from advmix.data.photos import PhotoOptions, Photos, PhotoSet, load_photos
from advmix.errors import UserError
from advmix.seeds import derive, generator

SELECT_SHARE = 0.1
"""Of the persons of the training split, held out for choosing settings; the same ones under every seed."""


@dataclass(frozen=True, eq=False)
class Faces:
    """The parts of one seed.

    Args:
        unlabelled: what generator and encoder are trained on; its labels are not used.
        labelled: what classifiers are trained on, drawn from it.
        judged: what they are judged on.
        persons: `(N,)`, who is on each judged image.
    """

    unlabelled: ImageSet
    labelled: ImageSet
    judged: ImageSet
    persons: Tensor


def load(data: str, target: str, persons: str) -> Photos:
    """All faces, with persons for groups."""
    return load_photos(data, PhotoOptions(target=target, group=(persons,), split_by=persons))


def divide(photos: Photos, labelled: int, judge: str, tint: float, seed: int) -> Faces:
    """The parts under a seed.

    Args:
        photos: with persons for groups.
        labelled: how many training images keep their label.
        judge: `select` or `test`.
        tint: weight of a class colour; 0 for none.
        seed: fixes which images are labelled, and the colours of judged ones.

    Raises:
        UserError: too few images.
    """
    train = photos.train
    held = held_out(train.groups)
    rest, select = torch.nonzero(~held)[:, 0], torch.nonzero(held)[:, 0]
    if labelled > len(rest):
        raise UserError(f"--labelled {labelled}: there are {len(rest):,} training images")
    rng = generator(derive(seed, "celeba"), "labelled")
    chosen = rest[torch.randperm(len(rest), generator=rng)[:labelled]]
    judged, persons = (train.images[select], train.groups[select]) if judge == "select" else _together(photos)
    unlabelled = train.images[rest]
    if tint:
        unlabelled = tinted(unlabelled, unlabelled.labels, tint)
        judged = tinted(judged, _any_class(judged, seed), tint)
    few = train.images[chosen]
    return Faces(unlabelled, tinted(few, few.labels, tint) if tint else few, judged, persons)


def held_out(persons: Tensor) -> Tensor:
    """Which images `(N,)` show the persons that are held out for choosing settings: `(N,)` booleans."""
    names, index = persons.unique(return_inverse=True)
    order = torch.randperm(len(names), generator=generator(0, "celeba", "select"))
    chosen = torch.zeros(len(names), dtype=torch.bool)
    chosen[order[: round(SELECT_SHARE * len(names))]] = True
    return chosen[index]


def tinted(images: ImageSet, classes: Tensor, weight: float) -> ImageSet:
    """Every image mixed with the colour of a class, as a coloured light would."""
    colors = MEAN_COLORS[classes % len(MEAN_COLORS)][:, :, None, None]
    parts = [
        to_bytes((1 - weight) * images.pixels[rows] / 255 + weight * colors[rows] * images.pixels[rows] / 255)
        for rows in torch.arange(len(images)).split(4096)
    ]
    return ImageSet(torch.cat(parts), images.labels, images.classes)


def _any_class(images: ImageSet, seed: int) -> Tensor:
    rng = generator(derive(seed, "celeba"), "tint")
    return torch.randint(len(images.classes), (len(images),), generator=rng)


def _together(photos: Photos) -> tuple[ImageSet, Tensor]:
    """The splits `val` and `test` as one."""
    parts: Sequence[PhotoSet] = [part for name, part in photos.splits.items() if name != "train"]
    if not parts:
        raise UserError("the data have no val and no test images; --judge select needs none")
    pixels, labels = (torch.cat([getattr(part.images, name) for part in parts]) for name in ("pixels", "labels"))
    return ImageSet(pixels, labels, photos.classes), torch.cat([part.groups for part in parts])
