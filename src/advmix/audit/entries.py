"""What goes into an audit's `results.json`: shares with their intervals, from what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from advmix.answers import answers, mistakes
from advmix.audit.bootstrap import Interval
from advmix.audit.found import Asked, Found, Judged
from advmix.audit.resample import Resamples
from advmix.audit.telling import LabelCheck, is_trusted
from advmix.latents import Split

FIGURES = (
    "right",
    "right_small",
    "right_reconstruction",
    "right_mixed",
    "right_worst",
    "right_mixed_drawn",
    "right_worst_drawn",
)
"""The shares of right answers that are given for all images, each class and each group."""
CROSSED = 24
"""At most so many combinations of class and group get a row each."""

Entry = dict[str, Any]


def figures_of(judged: Judged) -> tuple[str, ...]:
    """`FIGURES`, and what another's attack leaves where one was tried."""
    return FIGURES if judged.right_attacked is None else (*FIGURES, "right_attacked")


def parts_of(found: Found) -> Iterator[tuple[str, str, Tensor]]:
    """What numbers are given for: all, each class, each group, each class in each group; kind, name, and a mask
    `(N,)`.
    """
    labels, groups = found.asked.labels, found.asked.groups
    classes, names = found.metadata["classes"], found.metadata["groups"]
    yield "all", "all", torch.ones(len(found), dtype=torch.bool)
    for index, name in enumerate(classes):
        yield "class", name, labels == index
    for index, name in enumerate(names):
        yield "group", name, groups == index
    if len(classes) * len(names) <= CROSSED:
        for (label, name), (group, other) in product(enumerate(classes), enumerate(names)):
            yield "class in group", f"{name}, {other}", (labels == label) & (groups == group)


def part_entries(found: Found, judged: Judged, resamples: Resamples) -> list[Entry]:
    """A row for each part that has images."""
    check = LabelCheck(found.asked, judged)
    votes = check.checked & is_trusted(found)
    rows = []
    for kind, name, mask in parts_of(found):
        if not mask.any():
            continue
        row: Entry = {"kind": kind, "name": name, "images": int(mask.sum())}
        for figure in figures_of(judged):
            row[figure] = entry(resamples.share(getattr(judged, figure), f"{figure} {kind} {name}", mask))
        checked = votes & mask
        row["right_checked"] = entry(resamples.share(judged.right_worst, f"checked {kind} {name}", checked))
        row["checked_images"] = int(checked.sum())
        rows.append(row)
    return rows


def commonest_entry(found: Found, judged: Judged) -> Entry:
    """The class that is answered most often for images as they are, and how often."""
    seen = answers(judged.before)
    counts = torch.bincount(seen[seen >= 0], minlength=judged.before.shape[1])
    name = found.metadata["classes"][int(counts.argmax())]
    return {"class": name, "share": int(counts.max()) / len(found)}


def swap_entries(found: Found, judged: Judged, resamples: Resamples) -> list[Entry]:
    """A row for each swap: how many right answers it flips, how far it changes the images, and what of them."""
    asked, split = found.asked, found.split
    begun = judged.right if found.metadata["residual"] else judged.right_reconstruction
    votes, labels = asked.reference_before == asked.labels, asked.labels
    rows = []
    for place, swap in enumerate(found.metadata["swaps"]):
        flips = mistakes(judged.swap_answers[:, place], labels)
        lost = mistakes(asked.reference_swaps[:, place], labels)
        mine = Split(split.layers, tuple(swap["layers"]), swap["grid"])
        rows.append(
            {
                **swap,
                "perp": mine.within(split),
                "flips": entry(resamples.share(flips, f"flips {swap['name']}", begun)),
                "label_lost": entry(resamples.share(lost, f"lost {swap['name']}", votes)),
                "change": float(asked.swap_change[:, place].mean()),
                "color": float(asked.swap_color[:, place].mean()),
                "broad": float(asked.swap_broad[:, place].mean()),
            }
        )
    return rows


def check_entry(asked: Asked, judged: Judged) -> Entry:
    """How many images are flipped, and what the reference says of these."""
    check = LabelCheck(asked, judged)
    return {
        "images": len(asked.labels),
        "right": int(judged.right.sum()),
        "votes": int(check.votes.sum()),
        "flipped": int(check.flipped.sum()),
        "flipped_label_kept": int(check.kept.sum()),
        "flipped_label_lost": int(check.lost.sum()),
        "flipped_no_vote": int(check.no_vote.sum()),
        "flipped_unseen": int(check.unseen.sum()),
    }


def comparison_entries(found: Found, names: Sequence[str], resamples: Resamples) -> list[Entry]:
    """Every further classifier less the first: paired differences of shares, on the same images."""
    first, rows = found.judged[0], []
    for name, judged in zip(names[1:], found.judged[1:], strict=True):
        row: Entry = {"classifier": name, "less": names[0]}
        for figure in figures_of(judged):
            pair = getattr(judged, figure), getattr(first, figure)
            row[figure] = entry(resamples.difference(*pair, f"{figure} {name}"))
        among = LabelCheck(found.asked, first).checked & LabelCheck(found.asked, judged).checked & is_trusted(found)
        pair = judged.right_worst, first.right_worst
        row["right_checked"] = entry(resamples.difference(*pair, f"checked {name}", among))
        row["checked_images"] = int(among.sum())
        rows.append(row)
    return rows


def entry(interval: Interval | None) -> Mapping[str, float] | None:
    """As it goes into `results.json`."""
    return None if interval is None else interval.to_dict()
