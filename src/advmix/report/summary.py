"""From the runs of `results.json` to one score per method and test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from advmix.report.style import METHODS

Run = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One test: key in a run, title, a few words for a chart, a sentence for a reader who is new here."""

    key: str
    title: str
    hint: str
    meaning: str


COLUMNS = (
    Column(
        "accuracy_biased",
        "Biased",
        "colours as in training",
        "New digits, each in the colour its class had in training. The two go together, so that looking at the wrong "
        "one is enough here.",
    ),
    Column(
        "accuracy_unbiased",
        "Shuffled",
        "training colours at random",
        "The same digits in the same ten colours, drawn at random: digit and colour say nothing about each other.",
    ),
    Column(
        "accuracy_uniform",
        "Uniform",
        "any colour at all",
        "The same digits in colours drawn evenly from all bright ones, most of them never seen in training.",
    ),
    Column(
        "accuracy_reconstruction",
        "Reconstruction",
        "as the generator draws them",
        "Digits encoded and decoded again. What is lost here is lost by the generator, not by the search.",
    ),
    Column(
        "accuracy_worst_case",
        "Worst case",
        "right on all the search tried",
        "Right on the reconstruction and on every variation of it that the latent search tried.",
    ),
    Column(
        "accuracy_recolor_worst",
        "Worst recolour",
        "right in every colour of a grid",
        "Right on the real digit under every colour of a fixed grid: an exact worst case, no generator needed.",
    ),
)


def columns(runs: Sequence[Run]) -> tuple[Column, ...]:
    """`COLUMNS`, in words that suit the look of the runs."""
    if not any(run.get("look") == "wildlife" for run in runs):
        return COLUMNS
    return tuple(
        replace(
            column,
            hint=column.hint.replace("colour", "texture"),
            meaning=column.meaning.replace("colour", "texture"),
        )
        for column in COLUMNS
    )


@dataclass(frozen=True)
class Score:
    """Mean, lowest and highest over the seeds."""

    mean: float
    low: float
    high: float

    @property
    def spread(self) -> bool:
        """Whether seeds differ."""
        return self.low < self.high


def score(values: Iterable[float | None]) -> Score | None:
    """Over the values that are there; None when there are none."""
    known = [value for value in values if value is not None]
    return Score(sum(known) / len(known), min(known), max(known)) if known else None


def method_names(runs: Sequence[Run]) -> list[str]:
    """Methods that were run: known ones in the order of `METHODS`, others after them."""
    found = list(dict.fromkeys(str(run["method"]) for run in runs))
    return [name for name in METHODS if name in found] + [name for name in found if name not in METHODS]


def scores(runs: Sequence[Run], key: str) -> dict[str, Score]:
    """Score of every method that has a number under `key`."""
    found = {name: score(run.get(key) for run in runs if run["method"] == name) for name in method_names(runs)}
    return {name: value for name, value in found.items() if value is not None}


def best(found: Mapping[str, Score], highest: bool = True) -> set[str]:
    """Methods, controls left aside, whose mean is the best one to the digit that the table shows."""
    digits = 3 if highest else 1
    means = {name: round(value.mean, digits) for name, value in found.items() if not is_control(name)}
    wanted = (max if highest else min)(means.values(), default=None)
    return {name for name, mean in means.items() if mean == wanted}


def is_control(name: str) -> bool:
    """Whether a method is there to be compared with."""
    return name in METHODS and METHODS[name].control
