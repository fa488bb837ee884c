"""Errors of every method with intervals over persons, and what is due to what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advmix.intervals import GroupBootstrap
from advmix.utils.torch_tools import generator
from experiments.smiling.settings import BOTH

Run = Mapping[str, Any]

DUE = (
    ("head", "4x4 in place of 2x2 averages", "nominal", "nominal-2x2"),
    ("unlabelled images", "mirrored alone", "consistency-flip", "nominal"),
    ("augmentation", "RandAugment beside the labelled", "randaugment", "nominal"),
    ("augmentation", "colour jitter beside the labelled", "jitter", "nominal"),
    ("augmentation", "AugMix with its loss", "augmix", "nominal"),
    ("augmentation", "RandAugment as the view", "consistency-randaugment", "consistency-flip"),
    ("augmentation", "colour jitter as the view", "consistency-jitter", "consistency-flip"),
    ("mixing", "RandMix beside the labelled", "randmix", "nominal"),
    ("mixing", "RandMix as the view", "consistency-randmix", "consistency-flip"),
    ("mixing", "half RandMix, half RandAugment", "consistency-half", "consistency-randaugment"),
    ("mixing", "RandMix beside the labelled, RandAugment as the view", BOTH, "consistency-randaugment"),
    ("unlabelled images", "RandAugment as the view, RandMix beside the labelled", BOTH, "randmix"),
    ("search", "AdvMix, not RandMix, beside the labelled", "advmix", "randmix"),
    ("search", "AdvMix, not RandMix, as the view", "consistency-advmix", "consistency-randmix"),
)
"""To what a difference is due, in what way, and which two methods it is between."""


@dataclass(frozen=True, eq=False)
class PersonMeasure:
    """What all methods are measured by, so that their intervals are paired.

    Args:
        boot: of the persons on the judged images.
        searched: of the persons on those that are searched.
    """

    boot: GroupBootstrap
    searched: GroupBootstrap

    @classmethod
    def of(cls, persons: Tensor, searched: Tensor, resamples: int) -> PersonMeasure:
        """Who is on each judged image, `(N,)`, and places of those that are searched."""
        both = (persons, persons[searched])
        return cls(*(GroupBootstrap.draw(who, resamples, generator(0, "smiling", "bootstrap")) for who in both))

    def row(self, runs: Sequence[Run], nominal: Sequence[Run]) -> dict[str, Any]:
        """Of a method, whose runs are given seed by seed, and those of nominal training."""
        wrong, base, worst = self._wrong(runs), self._wrong(nominal), self._wrong_worst(runs)
        return {
            "method": runs[0]["method"],
            "error": self.boot.interval(wrong).to_dict(),
            "change": self.boot.interval(wrong, base, statistic=lambda ours, theirs: ours / theirs - 1).to_dict(),
            "error_by_seed": [len(run["wrong"]) / len(self.boot.groups) for run in runs],
            "accuracy_worst_case": self.searched.interval(1 - worst).to_dict(),
            "accuracy_worst_case_by_seed": [1 - len(run["wrong_worst"]) / len(self.searched.groups) for run in runs],
            "epochs": [run["epochs"] for run in runs],
            "cpu_seconds": [run["cpu_seconds"] for run in runs],
        }

    def difference(self, first: Sequence[Run], second: Sequence[Run]) -> dict[str, Any]:
        """Error and worst-case accuracy of the first less those of the second, paired."""
        errors, worst = self._wrong(first) - self._wrong(second), self._wrong_worst(second) - self._wrong_worst(first)
        return {
            "error": self.boot.interval(errors).to_dict(),
            "accuracy_worst_case": self.searched.interval(worst).to_dict(),
        }

    def _wrong(self, runs: Sequence[Run]) -> Tensor:
        return share_of_runs([run["wrong"] for run in runs], len(self.boot.groups))

    def _wrong_worst(self, runs: Sequence[Run]) -> Tensor:
        return share_of_runs([run["wrong_worst"] for run in runs], len(self.searched.groups))


def share_of_runs(places: Sequence[Sequence[int]], count: int) -> Tensor:
    """In which share of the runs each of `count` places is named, `(count,)`."""
    found = torch.zeros(count, dtype=torch.float64)
    for some in places:
        found[torch.tensor(some, dtype=torch.int64)] += 1 / len(places)
    return found


def method_rows(runs: Mapping[str, Sequence[Run]], measure: PersonMeasure) -> list[dict[str, Any]]:
    """A row for each method."""
    return [measure.row(own, runs["nominal"]) for own in runs.values()]


def due_rows(runs: Mapping[str, Sequence[Run]], measure: PersonMeasure) -> list[dict[str, Any]]:
    """A row for each difference both of whose methods were run."""
    return [
        {"due": due, "way": way, "first": first, "second": second, **measure.difference(runs[first], runs[second])}
        for due, way, first, second in DUE
        if {first, second} <= runs.keys()
    ]
