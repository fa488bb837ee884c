"""Kinds of images that `photo` never saw: it is judged on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from advmix.data.digits import load_gray
from advmix.data.images import ImageSet
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import PhotoSet, load_photos
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator

MNIST = "MNIST"


@dataclass(frozen=True)
class Domain:
    """One kind.

    Args:
        name: in tables.
        folder: below the folder of all data.
        sizes: sides in pixels at which it is judged.
        target: column of the labels.
        part: value of the column `domain` that is meant, where the folder holds several kinds.
        flip: whether an image may be mirrored in training.
        classified: whether classifiers are trained on it; otherwise there is an error alone.
    """

    name: str
    folder: str
    sizes: tuple[int, ...] = (32, 64)
    target: str = "label"
    part: str | None = None
    flip: bool = True
    classified: bool = True


DOMAINS = (
    Domain("faces", "faces", target="Smiling"),
    Domain("faces, native", "faces-native", sizes=(128, 224), target="Smiling", classified=False),
    Domain("photographs", "pacs", part="photo"),
    Domain("art paintings", "pacs", part="art_painting"),
    Domain("cartoons", "pacs", part="cartoon"),
    Domain("sketches", "pacs", part="sketch"),
    Domain("blood cells, sites", "wbc-sites"),
    Domain("blood cells, lamp", "wbc-lamp"),
    Domain("digits on photographs", "mnist-m", sizes=(32,), flip=False),
    Domain("digits", MNIST, sizes=(32,), flip=False),
)


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one domain and size to train classifiers on, none where there are no classifiers, and to judge."""

    train: ImageSet | None
    judged: ImageSet


def open_domain(domain: Domain, size: int, data: Path, split: str, train_images: int, images: int) -> Split:
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
    is_mnist = domain.folder == MNIST
    train, judged = _digits(data, split) if is_mnist else _photos(domain, size, data, split)
    return Split(None if train is None else _some(train, train_images), _some(judged, images))


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


def _photos(domain: Domain, size: int, data: Path, split: str) -> tuple[ImageSet | None, ImageSet]:
    group = () if domain.part is None else ("domain",)
    photos = load_photos(str(data / domain.folder), PhotoOptions(target=domain.target, group=group, size=size))

    def of_part(found: PhotoSet) -> ImageSet:
        if domain.part is None:
            return found.images
        return found.images[found.groups == photos.groups.index(domain.part)]

    judged = photos.splits.get(split) or (None if domain.classified else photos.test)
    if judged is None:
        raise UserError(f"{data / domain.folder}: has no {split} images")
    return of_part(photos.train) if domain.classified else None, of_part(judged)


def tasks() -> Iterator[tuple[Domain, int]]:
    """Every domain at every size."""
    for domain in DOMAINS:
        for size in domain.sizes:
            yield domain, size
