"""The sets: labelled images of a home, and what other sites make of the same classes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        images: all of them, in the same order under every seed.
        is_lent: `(N,)`, whether an image is a donor, and serves to estimate normalisation; its label is not looked at.
        is_judged: `(N,)`, whether a classifier is judged on it. Never both.
        twins: of each image the one at home that differs from it by the shift alone, where that is known.
    """

    images: ImageSet
    is_lent: Tensor
    is_judged: Tensor
    twins: ImageSet | None = None

    @property
    def unlabelled(self) -> ImageSet:
        """Donors."""
        return self.images[self.is_lent]

    @property
    def judged(self) -> ImageSet:
        """What is judged."""
        return self.images[self.is_judged]


@dataclass(frozen=True, eq=False)
class ShiftImages:
    """All images of a set, as one seed divides them.

    Attributes:
        train: labelled images of home.
        chosen_by: labelled images of home by which settings are chosen, as they are and at made sites.
        home: labelled images of home that are judged.
        home_units: `(N,)`, the same for judged images of one photograph.
        sites: by name.
        flip: whether an image may be mirrored in training.
    """

    train: ImageSet
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
        units: column that says what belongs together, such as the photograph that images of home were cut from.
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
    folder = data / known.folder
    photos = load_photos(str(folder), PhotoOptions(target="label", site=known.column, size=size, data_dir=data))
    if name == "mnist-m":
        return _from_digits(photos, _column(folder, "mnist_index"), data, size, train_images, seed)
    return _from_photos(known, photos, _units(folder, known.units), train_images, seed)


def _column(folder: Path, column: str) -> dict[str, str]:
    """The entries of a column of the table, by name of the image; empty ones are left out."""
    with (folder / "labels.csv").open(newline="") as file:
        return {row["filename"]: row[column] for row in csv.DictReader(file) if row[column]}


def _units(folder: Path, column: str | None) -> dict[str, int]:
    """What each image belongs to, by name; nothing for images that belong to nothing."""
    if column is None:
        return {}
    found = _column(folder, column)
    numbers = {unit: number for number, unit in enumerate(sorted(set(found.values())))}
    return {name: numbers[unit] for name, unit in found.items()}


def _from_photos(
    known: ShiftSet, photos: Photos, units_of: dict[str, int], train_images: int, seed: int
) -> ShiftImages:
    home = photos.sites.index(known.home)

    def at_home(split: str) -> tuple[ImageSet, Tensor]:
        found = photos.splits[split]
        rows = found.sites == home
        units = torch.tensor([units_of.get(name, len(units_of) + row) for row, name in enumerate(found.names)])
        return found.images[rows], units[rows]

    train, _ = at_home("train")
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
    return ShiftImages(train[drawn], validation, judged, judged_units, sites, known.flip)


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
    return SiteImages(images, first, ~first & known[images.labels])


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


def _from_digits(
    photos: Photos, index_of: dict[str, str], data: Path, size: int, train_images: int, seed: int
) -> ShiftImages:
    """MNIST as grey RGB images at home; of its training images the last sixth is for choosing."""
    known, classes = SETS["mnist-m"], photos.classes

    def digits(part: Literal["train", "test"]) -> ImageSet:
        pixels, labels = load_gray("mnist", data, part, download=False)
        return ImageSet(pixels.expand(-1, 3, -1, -1), labels, classes)

    every, judged = digits("train"), digits("test")
    held_out = len(every) // 6
    train = every[_some(len(every) - held_out, train_images, seed, "train")]
    chosen_by = every[len(every) - held_out + _some(held_out, 1000, 0, "chosen by")]
    there = photos.splits["test"]
    twins = judged[torch.tensor([int(index_of[name]) for name in there.names])]
    judged = judged[_some(len(judged), 2000, 0, "judged")]
    train, chosen_by, judged, twins = (in_size(images, size) for images in (train, chosen_by, judged, twins))
    site = replace(_divided(there.images, seed, "mnist-m", ()), twins=twins)
    return ShiftImages(train, chosen_by, judged, torch.arange(len(judged)), {"mnist-m": site}, known.flip)


def in_size(images: ImageSet, size: int) -> ImageSet:
    """The same images with sides of so many pixels."""
    if images.shape[1] == size:
        return images
    pixels = F.interpolate(images.pixels / 255, (size, size), mode="bilinear", antialias=True)
    return ImageSet(to_bytes(pixels), images.labels, images.classes)
