"""The sets: labelled images of a home, and what other sites make of the same classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.data.digits import load_gray
from advmix.data.images import ImageSet, to_bytes
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, load_photos
from advmix.utils.torch_tools import generator


@dataclass(frozen=True, eq=False)
class SiteImages:
    """A site that a classifier was not trained at.

    Attributes:
        unlabelled: images whose labels nobody looks at: donors, and statistics for normalisation.
        judged: the other half. The two are disjoint.
    """

    unlabelled: ImageSet
    judged: ImageSet


@dataclass(frozen=True, eq=False)
class ShiftImages:
    """All images of a set, as one seed divides them.

    Attributes:
        train: labelled images of home.
        train_units: `(N,)`, the same for training images of one photograph.
        chosen_by: labelled images of home by which settings are chosen, as they are and at made sites.
        home: labelled images of home that are judged.
        home_units: `(N,)`, the same for judged images of one photograph.
        sites: by name.
        flip: whether an image may be mirrored in training.
    """

    train: ImageSet
    train_units: Tensor
    chosen_by: ImageSet
    home: ImageSet
    home_units: Tensor
    sites: Mapping[str, SiteImages]
    flip: bool


@dataclass(frozen=True)
class ShiftSet:
    """One set.

    Args:
        title: in tables and figures.
        shift: what is other at the other sites.
        folder: below the folder of all data.
        column: of the sites.
        home: the site whose labels are known.
        rare: classes that are hardly there at other sites, and are not judged there.
        units: column of what belongs together, such as the photograph that images were cut from.
        flip: whether an image may be mirrored.
    """

    title: str
    shift: str
    folder: str
    column: str
    home: str
    rare: tuple[str, ...] = ()
    units: str | None = None
    flip: bool = True


SETS = {
    "wbc-sites": ShiftSet(
        "blood cells, five laboratories", "stain, microscope, camera", "wbc-sites", "site", "barcelona", ("basophil",)
    ),
    "wbc-lamp": ShiftSet(
        "blood cells, light goes with the class",
        "the lamp, which tells the class at home; laboratory",
        "wbc-lamp",
        "site",
        "deepbionet",
        units="group",
    ),
    "pacs": ShiftSet("PACS, from photographs", "medium: painting, cartoon, sketch", "pacs", "domain", "photo"),
    "mnist-m": ShiftSet("MNIST to MNIST-M", "background and colour", "mnist-m", "domain", "mnist", flip=False),
}
"""By name."""


def open_set(name: str, data: Path, size: int, train_images: int, seed: int) -> ShiftImages:
    """The images of a set. The seed draws the training images, and which half of a site's images is judged; over
    several seeds all of them are.

    Args:
        name: one of `SETS`.
        data: folder of all data.
        size: side in pixels.
        train_images: at most so many labelled ones.
        seed: fixes what is drawn.

    Raises:
        UserError: the data are not there.
    """
    known = SETS[name]
    options = PhotoOptions(target="label", site=known.column, split_by=known.units, size=size, data_dir=data)
    photos = load_photos(str(data / known.folder), options)
    if name == "mnist-m":
        return _from_digits(photos, data, size, train_images, seed)
    return _from_photos(known, photos, train_images, seed)


def _from_photos(known: ShiftSet, photos: Photos, train_images: int, seed: int) -> ShiftImages:
    home = photos.sites.index(known.home)

    def at_home(split: str) -> tuple[ImageSet, Tensor]:
        found = photos.splits[split]
        rows = found.sites == home
        return found.images[rows], found.units[rows]

    train, units = at_home("train")
    drawn = _some(len(train), train_images, seed, "train")
    validation, validation_units = at_home("val")
    if (photos.splits["test"].sites == home).any():
        judged, judged_units = at_home("test")
    else:  # the photographs of the validation part are divided: those by which settings are chosen are not judged
        first = _half_of_units(validation_units, validation.labels)
        judged, judged_units = validation[~first], validation_units[~first]
        validation = validation[first]
    sites = {
        site: _divided(_everything(photos, number), seed, site, known.rare)
        for number, site in enumerate(photos.sites)
        if number != home
    }
    return ShiftImages(train[drawn], units[drawn], validation, judged, judged_units, sites, known.flip)


def _everything(photos: Photos, site: int) -> ImageSet:
    """All images of a site, whatever split they are in."""
    parts = [found.images[found.sites == site] for found in photos.splits.values()]
    return ImageSet(
        torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]), photos.classes
    )


def _divided(images: ImageSet, seed: int, site: str, rare: tuple[str, ...]) -> SiteImages:
    """Two halves, of every class alike; `rare` classes are not judged."""
    order = torch.randperm(len(images), generator=generator(seed, "shifts", "site", site))
    rank = torch.empty_like(order)
    for label in range(len(images.classes)):
        own = order[images.labels[order] == label]
        rank[own] = torch.arange(len(own))
    first = rank % 2 == 0
    known = torch.tensor([name not in rare for name in images.classes])
    return SiteImages(images[first], images[~first & known[images.labels]])


def _half_of_units(units: Tensor, labels: Tensor) -> Tensor:
    """Every second unit of each class, `(N,)` boolean; the same under every seed."""
    first = torch.zeros(len(units), dtype=torch.bool)
    for label in labels.unique():
        own = units[labels == label].unique()
        own = own[torch.randperm(len(own), generator=generator(0, "shifts", "half", int(label)))]
        first |= torch.isin(units, own[::2]) & (labels == label)
    return first


def _some(count: int, at_most: int, seed: int, place: str) -> Tensor:
    return torch.randperm(count, generator=generator(seed, "shifts", place))[:at_most].sort().values


def _from_digits(photos: Photos, data: Path, size: int, train_images: int, seed: int) -> ShiftImages:
    """MNIST as grey RGB images at home; of its training images the last 10,000 are for choosing."""
    known, classes = SETS["mnist-m"], photos.classes

    def digits(part: Literal["train", "test"]) -> ImageSet:
        pixels, labels = load_gray("mnist", data, part, download=False)
        return ImageSet(pixels.expand(-1, 3, -1, -1), labels, classes)

    every, judged = digits("train"), digits("test")
    train = every[_some(len(every) - 10_000, train_images, seed, "train")]
    chosen_by = every[len(every) - 10_000 + _some(10_000, 1000, 0, "chosen by")]
    judged = judged[_some(len(judged), 2000, 0, "judged")]
    units = torch.arange(max(len(train), len(judged)))
    train_part, test_part = photos.splits["train"].images, photos.splits["test"].images
    rows = _some(len(test_part), 2000, seed, "site")
    site = SiteImages(train_part[_some(len(train_part), 2000, seed, "unlabelled")], test_part[rows])
    train, chosen_by, judged = (_in_size(images, size) for images in (train, chosen_by, judged))
    return ShiftImages(
        train, units[: len(train)], chosen_by, judged, units[: len(judged)], {"mnist-m": site}, known.flip
    )


def _in_size(images: ImageSet, size: int) -> ImageSet:
    if images.shape[1] == size:
        return images
    pixels = F.interpolate(images.pixels / 255, (size, size), mode="bilinear", antialias=True)
    return ImageSet(to_bytes(pixels), images.labels, images.classes)
