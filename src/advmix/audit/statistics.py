"""Which pictures tell most, and what became of the label: rules that a reader can check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from advmix.audit.records import LARGE_CHANGE, LARGE_CLIPPED, AuditRecords, ClassifierRecords, ImageRecords
from advmix.calibration import score_probabilities
from advmix.change_description import ChangeDescription
from advmix.change_kinds import change_kinds
from advmix.intervals import Interval, Resamples, share_of
from advmix.latents import Split
from advmix.smallest_change import LEVELS
from advmix.training.reference import MIN_REFERENCE_ACCURACY, MIN_REFERENCE_RATIO
from advmix.utils.torch_tools import answers, generator, mistakes

MIN_PIXEL_CHANGE = 0.02

"""Root mean square pixel change below which one mix is not smaller than another to the eye: 5 of 255."""


@dataclass(frozen=True, eq=False)
class LabelCheck:
    """What a reference says of the smallest changes that flip a classifier's answer: `(N,)` boolean each.

    The reference votes where it is right on the image itself; elsewhere it cannot say what the mix has lost.
    """

    images: ImageRecords
    records: ClassifierRecords

    @cached_property
    def flipped(self) -> Tensor:
        """Right as they are, and wrong on what was found."""
        return self.records.right_clean & ~self.records.right_worst_case & ~self.records.unanswered

    @cached_property
    def changed(self) -> Tensor:
        """Flipped by a smallest change: not by what the mixes begin with."""
        strength = self.records.flip_strength
        return self.flipped & (strength > 0) & strength.isfinite()

    @cached_property
    def asked(self) -> Tensor:
        """Flipped, and a person has said what became of the label."""
        return self.flipped & (self._person >= 0)

    @cached_property
    def votes(self) -> Tensor:
        """Images on which the reference is right, or a person has answered."""
        return (self.images.reference_before == self.images.labels) | self.asked

    @cached_property
    def kept(self) -> Tensor:
        """Flipped, and the smallest change still shows the label to a person or, where none was asked, to the
        reference: the classifier's own mistake.
        """
        seen = self.records.reference_flip == self.images.labels
        return self.flipped & self.votes & torch.where(self.asked, self._person == 1, seen)

    @cached_property
    def lost(self) -> Tensor:
        """Flipped, and the smallest change shows another class as well."""
        return self.flipped & self.votes & ~self.kept

    @cached_property
    def no_vote(self) -> Tensor:
        """Flipped, the reference is wrong on the image itself, and nobody was asked."""
        return self.flipped & ~self.votes

    @property
    def _person(self) -> Tensor:
        votes = self.records.label_votes
        return torch.full_like(self.images.labels, -1) if votes is None else votes

    @cached_property
    def checked(self) -> Tensor:
        """Images of the checked figure: those where the reference votes, without those whose label was lost."""
        return self.votes & ~self.lost


def is_trusted(found: AuditRecords) -> bool:
    """Whether the reference's votes count; where they do not, they appear nowhere."""
    right = float((found.images.reference_before == found.images.labels).double().mean())
    known = found.metadata["reference"]["accuracy_train"]
    return known is not None and right >= max(MIN_REFERENCE_RATIO * float(known), MIN_REFERENCE_ACCURACY)


def probability_drop(images: ImageRecords, records: ClassifierRecords) -> Tensor:
    """How far the probability of the true class falls, `(N,)` in [-1, 1]."""
    rows = torch.arange(len(images.labels))
    return (records.before - records.after)[rows, images.labels]


def strongest_failures(images: ImageRecords, records: ClassifierRecords, among: Tensor, count: int) -> list[int]:
    """Places of the images whose probability swings furthest for the change of the image, best first.

    The rule: fall of the true class's probability, divided by the root mean square pixel change (at least 0.02).

    Args:
        images: the images.
        records: the classifier's answers.
        among: `(N,)` boolean, those that may be chosen; a mix that the classifier is right on is never chosen.
        count: at most so many.
    """
    wrong = mistakes(answers(records.after), images.labels)
    score = probability_drop(images, records) / records.change.clamp_min(MIN_PIXEL_CHANGE)
    order = score.masked_fill(~(among & wrong), -torch.inf).sort(descending=True, stable=True)
    return [place for place, value in zip(order.indices.tolist(), order.values.tolist(), strict=True) if value > 0][
        :count
    ]


FIGURES = (
    "right_clean",
    "right_small",
    "right_reconstruction",
    "right_random_mix",
    "right_worst_case",
    "right_worst_natural",
    "right_random_mix_drawn",
    "right_worst_case_drawn",
)

"""The shares of right answers that are given for all images, each class and each group."""

CROSSED = 24

"""At most so many combinations of class and group get a row each."""

Entry = dict[str, Any]


def figures_of(found: AuditRecords) -> tuple[str, ...]:
    """`FIGURES`, and what another's attack leaves where one was tried; without what was not searched, and of an exact
    generator, whose reconstructions are the images, without what is said of reconstructions.
    """
    attacked = found.classifiers[0].right_attacked is not None
    return tuple(
        figure
        for figure in (*FIGURES, "right_attacked")
        if (attacked or figure != "right_attacked")
        and (found.metadata["drawn"] or figure not in DRAWN)
        and not (found.metadata["exact"] and figure in RECONSTRUCTED)
    )


DRAWN = ("right_random_mix_drawn", "right_worst_case_drawn")
RECONSTRUCTED = ("right_small", "right_reconstruction", *DRAWN)


def accuracy_of(figure: str) -> str:
    """The key in `results.json` of the share of a record's answers, `right_clean` to `accuracy_clean`."""
    return figure.replace("right", "accuracy", 1)


def parts_of(found: AuditRecords) -> Iterator[tuple[str, str, Tensor]]:
    """What numbers are given for: all, each site, each class, each group, each class in each group; kind, name, and a
    mask `(N,)`.
    """
    labels, groups = found.images.labels, found.images.groups
    classes, names = found.metadata["classes"], found.metadata["groups"]
    yield "all", "all", torch.ones(len(found), dtype=torch.bool)
    for index, name in enumerate(found.metadata["sites"]):
        yield "site", name, found.images.sites == index
    for index, name in enumerate(classes):
        yield "class", name, labels == index
    for index, name in enumerate(names):
        yield "group", name, groups == index
    if len(classes) * len(names) <= CROSSED:
        for (label, name), (group, other) in product(enumerate(classes), enumerate(names)):
            yield "class in group", f"{name}, {other}", (labels == label) & (groups == group)


def part_entries(found: AuditRecords, records: ClassifierRecords) -> list[Entry]:
    """A row for each part that has images, the worst site first."""
    check = LabelCheck(found.images, records)
    votes = check.checked & is_trusted(found)
    rows = []
    for kind, name, mask in parts_of(found):
        if not mask.any():
            continue
        row: Entry = {"kind": kind, "name": name, "images": int(mask.sum())}
        for figure in figures_of(found):
            row[accuracy_of(figure)] = entry(share_of(getattr(records, figure), mask))
        checked = votes & mask
        row["accuracy_checked"] = entry(share_of(records.right_worst_case, checked))
        row["checked_images"] = int(checked.sum())
        if kind in SCORED:
            scores = score_probabilities(records.before[mask], found.images.labels[mask])
            row |= {key: entry(score) for key, score in scores.items()}
        rows.append(row)
    sites = sorted((row for row in rows if row["kind"] == "site"), key=_worst_case)
    return [rows[0], *sites, *(row for row in rows[1:] if row["kind"] != "site")]


SCORED = ("all", "site", "group")
"""Parts whose probabilities are scored: of a single class they say nothing of the others."""


def _worst_case(row: Entry) -> float:
    return float(row["accuracy_worst_case"]["value"])


def commonest_entry(found: AuditRecords, records: ClassifierRecords) -> Entry:
    """The class that is answered most often for images as they are, and how often."""
    seen = answers(records.before)
    counts = torch.bincount(seen[seen >= 0], minlength=records.before.shape[1])
    name = found.metadata["classes"][int(counts.argmax())]
    return {"class": name, "share": int(counts.max()) / len(found)}


def swap_entries(found: AuditRecords, records: ClassifierRecords) -> list[Entry]:
    """A row for each swap: how many right answers it flips, how far it changes the images, and what of them."""
    images, split = found.images, found.split
    begun = records.right_clean if found.metadata["residual"] else records.right_reconstruction
    votes, labels = images.reference_before == images.labels, images.labels
    rows, trusted = [], is_trusted(found)
    for place, swap in enumerate(found.metadata["swaps"]):
        flips = mistakes(records.swap_answers[:, place], labels)
        lost = mistakes(images.reference_swaps[:, place], labels)
        mine = Split(split.layers, tuple(swap["layers"]), swap["grid"])
        rows.append(
            {
                **swap,
                "perp": mine.within(split),
                "flips": entry(share_of(flips, begun)),
                "flipped": int((flips & begun).sum()),
                "label_lost": entry(share_of(lost, votes)) if trusted else None,
                "change": float(images.swap_change[:, place].mean()),
                "color": float(images.swap_color[:, place].mean()),
                "broad": float(images.swap_broad[:, place].mean()),
            }
        )
    return rows


def check_entry(images: ImageRecords, records: ClassifierRecords, trusted: bool) -> Entry:
    """How many images are flipped, and what the reference says of these; None of votes that are not trusted."""
    check = LabelCheck(images, records)
    votes = {
        "votes": check.votes,
        "flipped_label_kept": check.kept,
        "flipped_label_lost": check.lost,
        "flipped_no_vote": check.no_vote,
    }
    return {
        "images": len(images.labels),
        "right": int(records.right_clean.sum()),
        "flipped": int(check.flipped.sum()),
        "asked": int(check.asked.sum()),
        "asked_label_kept": int((check.asked & check.kept).sum()),
        "clipped": int((check.flipped & (records.flip_clipped > LARGE_CLIPPED)).sum()),
        "unlike": None
        if records.flip_unlike is None
        else int((check.flipped & (records.flip_unlike > LARGE_CHANGE)).sum()),
        **{name: int(mask.sum()) if trusted else None for name, mask in votes.items()},
    }


SHEET = 20
"""Pictures on the sheet that a person is asked about."""


def sheet_places(images: ImageRecords, records: ClassifierRecords, trusted: bool, seed: int) -> list[int]:
    """At most `SHEET` flips whose label a person is asked about: those that the reference is least sure of, or, where
    its votes do not count, some drawn at random, so that their share is that of all flips.
    """
    flips = LabelCheck(images, records).changed.nonzero()[:, 0]
    if trusted:
        order = (records.reference_label[flips] - 0.5).abs().argsort(stable=True)
    else:
        order = torch.randperm(len(flips), generator=generator(seed, "audit", "sheet"))
    found: list[int] = flips[order[:SHEET]].tolist()
    return found


STRENGTHS = tuple(level / LEVELS for level in range(LEVELS + 1))
"""At which the curve of accuracy against strength is read."""


def curve_entries(records: ClassifierRecords) -> list[Entry]:
    """Accuracy against strength: how many images are right as they are and after every change on the way to a random
    donor, or to what the search found, that goes at most so far. At strength 1 the latter is the worst case.
    """
    rows = []
    for strength in STRENGTHS:
        row: Entry = {"strength": strength}
        for figure, reached in (("random_mix", records.random_strength), ("worst_case", records.flip_strength)):
            withstood = reached > strength + 1e-6
            row[f"accuracy_{figure}"] = entry(share_of(withstood & ~records.unanswered))
        rows.append(row)
    return rows


def smallest_entry(images: ImageRecords, records: ClassifierRecords) -> Entry:
    """How little the flips take: their number, quartiles of their sizes in three units, and how many are extreme."""
    flipped = LabelCheck(images, records).changed
    by_chance = records.right_clean & records.random_strength.isfinite() & (records.random_strength > 0)
    sizes = {"strength": records.flip_strength, "change": records.flip_change, "natural": records.flip_natural}
    return {
        "flips": int(flipped.sum()),
        "extreme": int((flipped & records.extreme).sum()),
        **{name: None if size is None else quartiles(size[flipped]) for name, size in sizes.items()},
        "random_flips": int(by_chance.sum()),
        "random_strength": quartiles(records.random_strength[by_chance]),
    }


def kind_entries(images: ImageRecords, records: ClassifierRecords) -> list[Entry]:
    """Kinds of changes that flip, the commonest first, each with the places of its members."""
    places = LabelCheck(images, records).changed.nonzero()[:, 0]
    found = change_kinds(ChangeDescription.from_tensor(records.flip_terms[places]))
    return [kind.to_dict() | {"members": places[kind.members].tolist()} for kind in found]


def quartiles(values: Tensor) -> list[float] | None:
    """The quarter, the half and three quarters of `(N,)`; None of nothing."""
    if not len(values):
        return None
    found: list[float] = values.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return found


def gate_entry(found: AuditRecords, records: ClassifierRecords) -> Entry | None:
    """Of the right answers to images, at the generator's size where mixes keep details, those that reconstruction
    flips, with their number; None of an exact generator.
    """
    if found.metadata["exact"]:
        return None
    right = records.right_small if found.metadata["residual"] else records.right_clean
    flips = share_of(~records.right_reconstruction, right)
    return None if flips is None else {**flips.to_dict(), "images": int(right.sum())}


def comparison_entries(found: AuditRecords, names: Sequence[str], resamples: Resamples) -> list[Entry]:
    """Every classifier less every one before it: paired differences of shares, on the same images."""
    rows, trusted = [], is_trusted(found)
    named = list(zip(names, found.classifiers, strict=True))
    for (other, first), (name, records) in combinations(named, 2):
        row: Entry = {"classifier": name, "less": other}
        for figure in figures_of(found):
            pair = getattr(records, figure), getattr(first, figure)
            row[accuracy_of(figure)] = entry(resamples.difference(*pair, f"{figure} {name} {other}"))
        among = LabelCheck(found.images, first).checked & LabelCheck(found.images, records).checked & trusted
        pair = records.right_worst_case, first.right_worst_case
        row["accuracy_checked"] = entry(resamples.difference(*pair, f"checked {name} {other}", among))
        row["checked_images"] = int(among.sum())
        rows.append(row)
    return rows


def entry(interval: Interval | None) -> Mapping[str, float] | None:
    """As it goes into `results.json`."""
    return None if interval is None else interval.to_dict()
