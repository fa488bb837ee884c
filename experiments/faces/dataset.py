"""Faces: who is in which part."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from advmix.data.digits import MEAN_COLORS
from advmix.data.images import ImageSet, to_bytes
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, PhotoSet, load_photos, open_source
from advmix.data.photos.rows import make_table
from advmix.utils.config import check_values
from advmix.utils.errors import UserError, naming
from advmix.utils.torch_tools import derive, generator

SIZE = 64

"""Pixels of a side, where nothing else is said."""

DATA_DIR = Path("data")

"""Of torchvision's data sets, where nothing else is said."""

SELECT_SHARE = 0.1

"""Of the persons of the training split, held out for choosing settings; the same ones under every seed."""


@dataclass(frozen=True, eq=False)
class Grouped:
    """Images, and which of the four groups of a stress test each belongs to, `(N,)`."""

    images: ImageSet
    groups: Tensor


@dataclass(frozen=True, eq=False)
class Cues:
    """The other attribute of a stress test: `(N,)` of 0 and 1, and what the two are called."""

    values: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Faces:
    """The parts of one seed.

    Args:
        unlabelled: what generator and encoder are trained on, without labels.
        labelled: what classifiers are trained on, drawn from it.
        judged: what they are judged on.
        persons: `(N,)`, who is on each judged image.
        groups: `(N,)`, of the judged images in a stress test.
        refit: balanced images of other persons, for refitting a last layer, in a stress test.
        trained: how many of the unlabelled images are in each group of a stress test, `(4,)`.
        group_names: of the groups of a stress test, `"Smiling, not Male"`.
    """

    unlabelled: ImageSet
    labelled: ImageSet
    judged: ImageSet
    persons: Tensor
    groups: Tensor | None = None
    refit: Grouped | None = None
    trained: Tensor | None = None
    group_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stress:
    """A declared stress test: `cue` says in training what `target` is, and nothing in the test.

    Args:
        cue: column of the other attribute; none for an ordinary study.
        agreement: share of the training images in which the two agree, in [0.5, 1].
        stress_images: of each of the four groups in the test, moved there by person from the training split.
        refit_images: of each of the four groups for refitting a last layer, likewise.
    """

    cue: str | None = None
    agreement: float = 0.95
    stress_images: int = 150
    refit_images: int = 30

    def __post_init__(self) -> None:
        check_values(self, "agreement", within=(0.5, 1))
        check_values(self, "stress_images refit_images", least=2)

    @property
    def moved(self) -> str:
        """How many images leave the training split, as a part of a folder's name; empty where they are as usual."""
        parts = (("test", "stress_images"), ("refit", "refit_images"))
        usual = Stress()
        return "".join(
            f"-{word}{getattr(self, name)}" for word, name in parts if getattr(self, name) != getattr(usual, name)
        )


def load(data: str, target: str, persons: str, size: int = SIZE, data_dir: Path = DATA_DIR) -> Photos:
    """All faces, `size` pixels wide and high, with persons for groups."""
    options = PhotoOptions(target=target, group=(persons,), split_by=persons, size=size, data_dir=data_dir)
    with naming("--persons", "--group"):
        return load_photos(data, options)


def load_cues(data: str, cue: str, photos: Photos, data_dir: Path = DATA_DIR) -> Cues:
    """Another attribute of the training images.

    Raises:
        UserError: there is no such column, or it has not two values.
    """
    options = PhotoOptions(target=cue, data_dir=data_dir)
    with naming("--cue", "--target"), closing(open_source(data, options)) as source:
        table = make_table(source, options, seed=0)
    if len(table.classes) != 2:
        raise UserError(f"--cue {cue}: has {len(table.classes)} values; a stress test takes two")
    values = {entry.name: entry.label for entry in table.entries}
    return Cues(torch.tensor([values[name] for name in photos.train.names]), table.classes)


def load_also(data: str, target: str | None, like: Photos, data_dir: Path = DATA_DIR) -> ImageSet:
    """All images of another source, whatever their split.

    Raises:
        UserError: as `load_photos`; or the classes are not those of `like`.
    """
    side = int(like.train.images.pixels.shape[-1])
    with naming("--also-target", "--target"):
        photos = load_photos(data, PhotoOptions(target=target, size=side, data_dir=data_dir))
    ours, theirs = ([name.casefold() for name in found.classes] for found in (like, photos))
    if ours != theirs:
        raise UserError(f"--also {data}: tells {', '.join(theirs)} apart, but the study {', '.join(ours)}")
    parts = [part.images for part in photos.splits.values()]
    return ImageSet(
        torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]), like.classes
    )


def without_labels(images: ImageSet) -> ImageSet:
    """The same pixels, all of one class: generators are the same ones whatever is recognised."""
    return ImageSet(images.pixels, torch.zeros_like(images.labels), ("face",))


def divide(photos: Photos, labelled: int | None, judge: str, tint: float, seed: int) -> Faces:
    """The parts under a seed.

    Args:
        photos: with persons for groups.
        labelled: how many training images keep their label; None for all.
        judge: `select` or `test`.
        tint: weight of a class colour; 0 for none.
        seed: fixes which images are labelled, and the colours of judged ones.

    Raises:
        UserError: too few images.
    """
    train = photos.train
    rest = torch.nonzero(~held_out(train.groups))[:, 0]
    few = draw_labelled(train.images, rest, labelled, seed)
    judged, persons = judged_images(photos, judge)
    pool = train.images[rest]
    if tint:
        pool, few = (tinted(images, images.labels, tint) for images in (pool, few))
        judged = tinted(judged, _any_class(judged, seed), tint)
    return Faces(without_labels(pool), few, judged, persons)


def judged_images(photos: Photos, judge: str) -> tuple[ImageSet, Tensor]:
    """The images of a `select` or a `test`, without any tint, and who is on each."""
    if judge != "select":
        return _together(photos)
    select = torch.nonzero(held_out(photos.train.groups))[:, 0]
    return photos.train.images[select], photos.train.groups[select]


def divide_under_stress(photos: Photos, cues: Cues, stress: Stress, labelled: int | None, seed: int) -> Faces:
    """The parts of a stress test under a seed: test and refitting are the same ones under every seed.

    Args:
        photos: two classes, with persons for groups; the training split alone is used.
        cues: of its images.
        stress: how they are divided.
        labelled: how many training images keep their label; None for all.
        seed: fixes which.

    Raises:
        UserError: not two classes, or too few images.
    """
    images, persons = photos.train.images, photos.train.groups
    if len(photos.classes) != 2:
        raise UserError(f"--target: has {len(photos.classes)} classes; a stress test takes two")
    found = divide_by_cue(
        images.labels,
        cues.values,
        persons,
        judged=stress.stress_images,
        refit=stress.refit_images,
        agreement=stress.agreement,
        rng=generator(0, "celeba", "stress"),
    )
    groups = groups_of(images.labels, cues.values)
    return Faces(
        without_labels(images[found.train]),
        draw_labelled(images, found.train, labelled, seed),
        images[found.judged],
        persons[found.judged],
        groups[found.judged],
        Grouped(images[found.refit], groups[found.refit]),
        torch.bincount(groups[found.train], minlength=GROUPS),
        tuple(f"{name}, {cue}" for name in photos.classes for cue in cues.classes),
    )


def draw_labelled(images: ImageSet, rows: Tensor, count: int | None, seed: int) -> ImageSet:
    """`count` of these rows at random (all where it is None), the same ones for every method.

    Raises:
        UserError: there are not so many.
    """
    if count is not None and count > len(rows):
        raise UserError(f"--labelled {count}: there are {len(rows):,} training images")
    rng = generator(derive(seed, "celeba"), "labelled")
    return images[rows[torch.randperm(len(rows), generator=rng)[:count]]]


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


GROUPS = 4

"""Two classes, with and without the cue: group `2 * label + cue`."""


@dataclass(frozen=True, eq=False)
class Division:
    """Rows of one set of images; no person is in two of the parts.

    Attributes:
        train: label and cue agree as often as was asked for.
        refit: as many images of each of the four groups.
        judged: as many images of each of the four groups.
    """

    train: Tensor
    refit: Tensor
    judged: Tensor


def groups_of(labels: Tensor, cues: Tensor) -> Tensor:
    """Which of the four groups each image belongs to, `(N,)`."""
    return 2 * labels + cues


def go_together(counts: Tensor) -> bool:
    """Whether label and cue are correlated, rather than either with the absence of the other, from the `counts` `(4,)`
    of the groups.
    """
    none, cue, label, both = map(float, counts)
    return none * both >= cue * label


def agreement_of(counts: Tensor) -> float:
    """The share of the images in which label and cue agree, in the sense in which they mostly do."""
    agreeing = counts[[0, 3]] if go_together(counts) else counts[[1, 2]]
    return int(agreeing.sum()) / int(counts.sum())


def agrees(labels: Tensor, cues: Tensor) -> Tensor:
    """Whether label and cue go together as they mostly do, `(N,)`: blond with female, not blond with male.

    The sense is that of their correlation among these images.
    """
    return (labels == cues) == go_together(torch.bincount(groups_of(labels, cues), minlength=GROUPS))


def divide_by_cue(
    labels: Tensor,
    cues: Tensor,
    persons: Tensor,
    *,
    judged: int,
    refit: int,
    agreement: float,
    rng: torch.Generator,
) -> Division:
    """Move whole persons out of the training images until `judged` and `refit` images of every group are there, then
    leave so few conflicting images in training that `agreement` of it agrees: of either class as many, as far as there
    are.

    The rarest group is served first. Of the persons who are moved, images above the number are in no part.

    Args:
        labels: `(N,)`, 0 or 1.
        cues: `(N,)`, 0 or 1.
        persons: `(N,)`, any integers.
        judged: images of each group.
        refit: images of each group.
        agreement: share of the training images in which label and cue agree, in [0.5, 1].
        rng: on the CPU.

    Raises:
        UserError: a group has too few images, or no training image of either class is left.
    """
    groups, (_, person) = groups_of(labels, cues), persons.unique(return_inverse=True)
    free = torch.ones(int(person.max()) + 1, dtype=torch.bool)
    moved = [_balanced(groups, person, free, count, rng) for count in (judged, refit)]
    agree = agrees(labels, cues)
    left = free[person]
    with_cue = torch.nonzero(left & agree)[:, 0]
    wanted = round(len(with_cue) * (1 - agreement) / agreement)
    against = _in_equal_shares([torch.nonzero(left & ~agree & (labels == k))[:, 0] for k in (0, 1)], wanted, rng)
    train = torch.cat([with_cue, against]).sort().values
    if len(labels[train].unique()) < 2:
        raise UserError("the stress test leaves no two classes in training; use fewer images with --stress-images")
    return Division(train, refit=moved[1], judged=moved[0])


def _in_equal_shares(kinds: list[Tensor], count: int, rng: torch.Generator) -> Tensor:
    """`count` of two kinds of rows, as many of each as there are: all of the rarer kind, where it is very rare."""
    few, many = sorted((rows[torch.randperm(len(rows), generator=rng)] for rows in kinds), key=len)
    few = few[: count // 2]
    return torch.cat([few, many[: count - len(few)]])


def _balanced(groups: Tensor, person: Tensor, free: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Rows of `count` images of every group; who is on them is not `free` afterwards."""
    taken = torch.zeros_like(free)
    order = torch.randperm(len(free), generator=rng)
    for group in torch.bincount(groups, minlength=GROUPS).argsort().tolist():
        of_person = torch.bincount(person[groups == group], minlength=len(free))
        missing = count - int(of_person[taken].sum())
        for who in order[(free & ~taken & (of_person > 0))[order]].tolist():
            if missing <= 0:
                break
            taken[who], missing = True, missing - int(of_person[who])
        if missing > 0:
            raise UserError(
                f"--stress-images, --refit-images: too few images of class {group // 2} with cue {group % 2} "
                f"({missing} missing of {count}); use fewer"
            )
    free &= ~taken
    rows = []
    for group in range(GROUPS):
        mine = torch.nonzero((groups == group) & taken[person])[:, 0]
        rows.append(mine[torch.randperm(len(mine), generator=rng)[:count]])
    return torch.cat(rows).sort().values
