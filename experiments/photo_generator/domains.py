"""Kinds of images that `photo` never saw: it is judged on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from advmix.data.digits import load_gray
from advmix.data.images import ImageSet
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, PhotoSet, load_photos
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator

MNIST = "MNIST"


@dataclass(frozen=True)
class Domain:
    """One kind.

    Args:
        name: in tables.
        folder: below the folder of all data.
        sizes: sides in pixels at which errors are measured.
        target: column of the labels.
        part: value of the column `domain` that is meant, where the folder holds several kinds.
        flip: whether an image may be mirrored in training.
        classified: the side at which classifiers are trained on it, too; None: there are errors alone.
    """

    name: str
    folder: str
    sizes: tuple[int, ...] = (32, 64)
    target: str = "label"
    part: str | None = None
    flip: bool = True
    classified: int | None = 64


DOMAINS = (
    Domain("faces", "faces", target="Smiling"),
    Domain("faces, native", "faces-native", sizes=(128, 224), target="Smiling", classified=None),
    Domain("photographs", "pacs", part="photo"),
    Domain("art paintings", "pacs", part="art_painting"),
    Domain("cartoons", "pacs", part="cartoon"),
    Domain("sketches", "pacs", part="sketch"),
    Domain("blood cells, sites", "wbc-sites"),
    Domain("blood cells, lamp", "wbc-lamp"),
    Domain("digits on photographs", "mnist-m", sizes=(32,), flip=False, classified=32),
    Domain("digits", MNIST, sizes=(32,), flip=False, classified=32),
)


@dataclass(frozen=True, eq=False)
class Kind:
    """Images of one domain and size to train classifiers on, none where there are no classifiers, and to judge."""

    train: ImageSet | None
    judged: ImageSet


def open_domain(domain: Domain, size: int, data: Path, split: str, train_images: int, images: int) -> Kind:
    """The images of a domain.

    Args:
        domain: which.
        size: side in pixels.
        data: folder of all data.
        split: `val` or `test`: what is judged.
        train_images: at most so many to train classifiers on.
        images: at most so many judged ones.

    Raises:
        UserError: they are not there.
    """
    if domain.folder == MNIST:
        train, judged = _digits(data, split)
    else:
        limit = None if domain.part else max(train_images, images)
        train, judged = _photos(
            domain, split, _read(data / domain.folder, domain.target, bool(domain.part), size, limit)
        )
    if train is None or size != domain.classified:
        return Kind(None, _some(judged, images))
    return Kind(_some(train, train_images), _some(judged, images))


def _some(images: ImageSet, count: int) -> ImageSet:
    return images[torch.randperm(len(images), generator=generator(0, "photo", "some"))[:count]]


def _digits(data: Path, split: str) -> tuple[ImageSet | None, ImageSet]:
    """MNIST as grey RGB images; of its training images the last 10,000 are `val`."""
    classes = tuple("0123456789")

    def of_part(part: Literal["train", "test"]) -> ImageSet:
        pixels, labels = load_gray("mnist", data, part, download=False)
        return ImageSet(pixels.expand(-1, 3, -1, -1), labels, classes)

    train = of_part("train")
    return train[:-10_000], of_part("test") if split == "test" else train[-10_000:]


@lru_cache(maxsize=1)
def _read(folder: Path, target: str, parts: bool, size: int, limit: int | None) -> Photos:
    """A folder; the one that was read last is kept, for its other parts."""
    group = ("domain",) if parts else ()
    return load_photos(str(folder), PhotoOptions(target=target, group=group, size=size, limit=limit))


def _photos(domain: Domain, split: str, photos: Photos) -> tuple[ImageSet | None, ImageSet]:
    def of_part(found: PhotoSet) -> ImageSet:
        if domain.part is None:
            return found.images
        return found.images[found.groups == photos.groups.index(domain.part)]

    if domain.classified is None:
        return None, of_part(photos.test)
    if split not in photos.splits:
        raise UserError(f"{domain.folder}: has no {split} images")
    return of_part(photos.train), of_part(photos.splits[split])


def tasks() -> list[tuple[Domain, int]]:
    """Every domain at every size; parts of one folder at one size behind one another."""
    every = [(domain, size) for domain in DOMAINS for size in domain.sizes]
    return sorted(every, key=lambda task: (DOMAINS.index(_first(task[0])), task[1]))


def _first(domain: Domain) -> Domain:
    return next(other for other in DOMAINS if other.folder == domain.folder)
