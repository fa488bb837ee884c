"""What the page says in words and numbers, drawn from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from advmix.report.style import Method, method
from advmix.report.summary import COLUMNS, Run, Score, best, method_names, scores

CAPTIONS = {
    "data": (
        "Training digits grouped by class, each class in its own colour, above test digits in random colours",
        "In training every digit has its own colour, so a classifier that reads the colour is hardly ever wrong. "
        "In the test any digit may have any of these colours.",
    ),
    "mixing": (
        "A grid of mixes: each row keeps the shape of its digit, each column lends its colour",
        "Every picture in the grid is decoded from the z∥ of the digit on its left and the z⊥ of the digit above it.",
    ),
    "training": (
        "Reconstruction error of the generator falling during training",
        "Reconstruction error while the generator was fitted.",
    ),
    "accuracy": (
        "Bar charts of the accuracy of each method on each test",
        "In the colours of the training set all may look alike; the other tests tell who has learned the digit.",
    ),
    "variations": (
        "test images, the worst variation found of each with the classifier's answer, and the difference",
        "",
    ),
}
SEARCH = {
    "restarts": "other images whose z⊥ the search starts from, for each test image",
    "steps": "gradient steps from each start, towards a higher loss",
    "step_size": "length of a step, in standard deviations of the pool",
    "radius": "half-width of the box around each start, in the same unit; – is no box",
    "step": "direction of a step: along the gradient or along its sign",
    "stop_early": "whether an image is left alone once it is misclassified",
}
HEADLINES = (
    ("accuracy_unbiased", "in random colours"),
    ("accuracy_worst_case", "on the worst variation found"),
    ("accuracy_biased", "in the colours of training"),
)


@dataclass(frozen=True)
class Card:
    """One headline number of ordinary training beside the one of the method that is shown off."""

    title: str
    before: Score
    after: Score


@dataclass(frozen=True)
class Headline:
    """Who is compared, the numbers, and what they say: `colour`, `both` or `digit` for each."""

    before: Method
    after: Method
    cards: tuple[Card, ...]
    before_looks: str
    after_looks: str


@dataclass(frozen=True)
class Cell:
    """One number of the table, or None, and whether it is the best of its column."""

    score: Score | None
    best: bool


@dataclass(frozen=True)
class Row:
    """One method of the table: a cell per column, then training seconds."""

    method: Method
    cells: tuple[Cell, ...]
    seconds: Cell


def headline(runs: Sequence[Run]) -> Headline | None:
    """Nominal against AdvMix (or RandMix, where AdvMix was not run); None when that cannot be said."""
    names = method_names(runs)
    after = next((name for name in ("advmix", "randmix") if name in names), None)
    if after is None or "nominal" not in names:
        return None
    cards = []
    for key, title in HEADLINES:
        found = scores(runs, key)
        if "nominal" in found and after in found:
            cards.append(Card(title, found["nominal"], found[after]))
    looks = (looks_at(runs, "nominal"), looks_at(runs, after))
    return Headline(method("nominal"), method(after), tuple(cards), *looks) if cards else None


def looks_at(runs: Sequence[Run], name: str) -> str:
    """What a classifier looks at, `digit` where it should: when random colours cost less than a tenth of the accuracy;
    `colour` when they cost more than half, else `both`. In the reversed task, where it should look at the colour, the
    other way round.
    """
    biased, unbiased = (scores(runs, f"accuracy_{test}").get(name) for test in ("biased", "unbiased"))
    if biased is None or unbiased is None:
        return ""
    kept = unbiased.mean / max(biased.mean, 1e-12)
    right, wrong = ("colour", "digit") if any(run.get("target") == "color" for run in runs) else ("digit", "colour")
    return right if kept > 0.9 else wrong if kept < 0.5 else "both"


def rows(runs: Sequence[Run]) -> list[Row]:
    """The table, controls last."""
    table = {column.key: scores(runs, column.key) for column in COLUMNS}
    seconds = scores(runs, "train_seconds")
    return [
        Row(
            method(name),
            tuple(Cell(found.get(name), name in best(found)) for found in table.values()),
            Cell(seconds.get(name), name in best(seconds, highest=False)),
        )
        for name in method_names(runs)
    ]


def facts(runs: Sequence[Run]) -> list[str]:
    """Data and seeds in a few words; several values of one thing are listed, the usual look and target go unsaid."""
    wanted = {
        "data": "{}",
        "look": "look {}",
        "target": "target {}",
        "train_images": "{} training images",
        "test_images": "{} test images",
        "color_std": "colours with standard deviation {}",
        "color_variance": "colours with variance {}",
        "seed": "seed {}",
    }
    found = []
    for key, words in wanted.items():
        values = list(
            dict.fromkeys(_number(run[key]) for run in runs if run.get(key) not in (None, "colored", "digit"))
        )
        if values:
            found.append(words.format(", ".join(values)))
    return found


def settings(runs: Sequence[Run]) -> dict[str, Any]:
    """Of each method's first run, by display name."""
    first = {name: next(run for run in runs if run["method"] == name) for name in method_names(runs)}
    return {method(name).label: run["setting"] for name, run in first.items() if run.get("setting")}


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
