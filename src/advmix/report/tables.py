"""`results.json`: its version, its schema, and the table that a person reads."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from advmix.report.drawing import METHODS
from advmix.utils.config import to_dict
from advmix.utils.device import environment
from advmix.utils.errors import UserError, printable

Run = Mapping[str, Any]

RESULTS = "results.json"

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Column:
    """A measured quantity: what it is called, and what it counts, known here alone.

    Attributes:
        key: in `results.json`, in [0, 1] where it is a share.
        title: on pages, in figures and in the docs.
        short: in a terminal, a line for each word.
        meaning: a sentence for a reader who is new here.
        hint: a few words for a chart.
        shown: `digits`, in what evaluate measures on painted digits; `page` and `terminal`, in what audit measures;
            `probabilities`, in both, in a table of their own; `sites`, of classifiers that were trained elsewhere.
        unit: `%`, a share that is shown in percent; or none, a number.
    """

    key: str
    title: str
    short: str
    meaning: str
    hint: str = ""
    shown: tuple[str, ...] = ("page",)
    unit: str = "%"


COLUMNS = (
    Column(
        "accuracy_biased",
        "Biased",
        "biased",
        "New digits, each in the colour its class had in training. The two go together, so that looking at the wrong "
        "one is enough here.",
        "colours as in training",
        ("digits",),
    ),
    Column(
        "accuracy_shuffled",
        "Shuffled",
        "shuffled",
        "The same digits in the same ten colours, drawn at random: digit and colour say nothing about each other.",
        "training colours at random",
        ("digits",),
    ),
    Column(
        "accuracy_uniform",
        "Uniform",
        "uniform",
        "The same digits in colours drawn evenly from all bright ones, most of them never seen in training.",
        "any colour at all",
        ("digits",),
    ),
    Column("accuracy_clean", "As it is", "as it\nis", "The image itself.", shown=("page", "terminal", "sites")),
    Column(
        "accuracy_balanced",
        "Balanced accuracy",
        "balan-\nced",
        "Mean over the classes of the share of right answers in each.",
        shown=("sites",),
    ),
    Column(
        "accuracy_others",
        "Other sites",
        "other\nsites",
        "Balanced accuracy on held-out images of the sites that it was trained at.",
        shown=("sites",),
    ),
    Column("accuracy_small", "At the generator's size", "small", "The image made as small as the generator's."),
    Column(
        "accuracy_reconstruction",
        "Reconstruction",
        "recon-\nstruct.",
        "Encoded and decoded again. What is lost here is lost by the generator, not by the search.",
        "as the generator draws them",
        ("digits", "page", "terminal"),
    ),
    Column(
        "accuracy_random_mix",
        "Random mix",
        "random\nmix",
        "With the z⊥ of one other image, drawn at random.",
        "the z⊥ of any other image",
        ("digits", "page", "terminal"),
    ),
    Column(
        "accuracy_worst_case",
        "Worst case",
        "worst\ncase",
        "Right on what the mixes begin with, the image or its reconstruction, and on every mix that the search tried.",
        "right on all the search tried",
        ("digits", "page", "terminal"),
    ),
    Column(
        "accuracy_worst_natural",
        "Worst case, none extreme",
        "worst\nnatural",
        "The worst case, where a change counts for nothing that is larger than 95 % of the differences in style "
        "between two of the images, or drives more than 5 % of the pixels to black or white.",
    ),
    Column(
        "accuracy_checked",
        "Worst case, label checked",
        "label\nchecked",
        "The worst case where the reference reads the image rightly, without those images whose flipped mix shows it "
        "another class.",
        shown=("page", "terminal"),
    ),
    Column(
        "accuracy_attacked",
        "Attacked",
        "attacked",
        "Right as it is, and under a third-party attack on its pixels (--attack).",
        shown=("page", "terminal"),
    ),
    Column(
        "accuracy_random_mix_drawn",
        "Random, drawn",
        "random\ndrawn",
        "The random mix as the generator draws it, without the image's details.",
    ),
    Column(
        "accuracy_worst_case_drawn",
        "Worst, drawn",
        "worst\ndrawn",
        "The worst case of another search, in what the generator draws alone.",
    ),
    Column(
        "accuracy_recolor_worst",
        "Worst recolour",
        "worst\nrecolour",
        "Right on the real digit under every colour of a fixed grid: an exact worst case, no generator needed.",
        "right in every colour of a grid",
        ("digits",),
    ),
    Column(
        "brier",
        "Brier score",
        "Brier\nscore",
        "Squared distance of the probabilities to the truth, summed over the classes (Brier, 1950, not halved): 0 is "
        "perfect, 2 is sure and wrong. Like all of this table, of the images as they are.",
        shown=("probabilities", "sites"),
        unit="",
    ),
    Column(
        "calibration_error",
        "Calibration error",
        "calibr.\nerror, %",
        "Expected calibration error (Guo et al., 2017): how far accuracy is from the probability of the answer, in 15 "
        "bins of equal width.",
        shown=("probabilities", "sites"),
    ),
    Column(
        "calibration_error_chance",
        "The same by chance",
        "by\nchance",
        "The calibration error of so few images if all probabilities were right: an error within this interval says "
        "nothing.",
        shown=("probabilities", "sites"),
    ),
    Column(
        "sensitivity_at_specificity",
        "Sensitivity at 90 % specificity",
        "sensit. at\n90 % spec.",
        "Of two classes: the share of the second one that is found, at the threshold where 90 % of the first one are "
        "not taken for it. The threshold is each row's own.",
        shown=("probabilities", "sites"),
    ),
)


SHORT_NAME = 48
"""Characters of a name where there is little room."""


def short_name(name: str) -> str:
    """A name of at most `SHORT_NAME` characters, with the middle left out."""
    half = (SHORT_NAME - 1) // 2
    return name if len(name) <= SHORT_NAME else f"{name[:half]}…{name[-half:]}"


def columns_of(place: str) -> tuple[Column, ...]:
    """The columns that are shown in a place: `digits`, `page`, `terminal`, `probabilities` or `sites`."""
    return tuple(column for column in COLUMNS if place in column.shown)


DIGIT_COLUMNS = columns_of("digits")


def schema() -> dict[str, Any]:
    """The JSON Schema of `results.json`, format version 1."""
    text = resources.files("advmix").joinpath("results.schema.json").read_text()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def header(command: str, config: Any) -> dict[str, Any]:
    """How every `results.json` begins: the command and its config, and the machine."""
    return {
        "schema": SCHEMA_VERSION,
        "study": command.removeprefix("study "),
        "config": {"command": command, **to_dict(config)},
        "environment": environment(),
    }


def plain_table(first: str, columns: Sequence[str]) -> Table:
    """A table for the terminal, with names on the left and numbers in the columns."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 2), show_edge=False)
    view.add_column(first, overflow="fold")
    for column in columns:
        view.add_column(column, justify="right", min_width=9)
    return view


def parts_table(parts: Sequence[Mapping[str, Any]], place: str = "terminal") -> Table:
    """What was measured of parts of the images, with 95 % intervals, a row each and the kinds of parts apart.

    Args:
        parts: `kind`, `name`, `images`, and what was measured, by key.
        place: whose columns are shown; `probabilities` without the number of images.
    """
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("probabilities" if place == "probabilities" else "accuracy, %")
    if place != "probabilities":
        view.add_column("images", justify="right")
    shown = [column for column in columns_of(place) if column.key in parts[0]]
    parts = [part for part in parts if shown[0].key in part]
    for column in shown:
        view.add_column(column.short, justify="right")
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None and before["kind"] != part["kind"]:
            view.add_section()
        cells = [dimmed(interval_cell(part[column.key], column.unit)) for column in shown]
        counts = [] if place == "probabilities" else [f"{part['images']:,}"]
        view.add_row(safe_markup(part["name"]), *counts, *cells)
    return view


NARROW = 0.02
"""A narrower interval has the figure's decimals: whole numbers could leave the figure out."""


def interval_cell(share: Mapping[str, float] | None, unit: str = "%") -> str:
    """`31.4 (28–34)`, a share in percent with its interval, or `0.31 (0.28–0.34)`, a number; a dash where nothing was
    counted.
    """
    if share is None:
        return "–"
    if unit != "%":
        return f"{share['value']:.2f} ({share['low']:.2f}–{share['high']:.2f})"
    digits = 0 if share["high"] - share["low"] >= NARROW else 1
    return f"{100 * share['value']:.1f} ({100 * share['low']:.{digits}f}–{100 * share['high']:.{digits}f})"


def dimmed(text: str) -> str:
    """A cell for rich, what stands in brackets fainter."""
    return text.replace("(", "[dim](").replace(")", ")[/]")


def safe_markup(name: str) -> str:
    """A name of a user's, as text for rich."""
    return escape(printable(name))


def as_text(parts: Iterable[Any]) -> str:
    """What rich would print of tables and sentences, without colours."""
    file = io.StringIO()
    view = Console(file=file, width=100, color_system=None)
    for part in parts:
        view.print(part, markup=not isinstance(part, str), highlight=False)
    return file.getvalue()


def table(runs: list[dict[str, Any]]) -> Table:
    """Accuracies in percent, one row per run."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("accuracy, %")
    for column in DIGIT_COLUMNS:
        view.add_column(column.short, justify="right")
    view.add_column("train\nseconds", justify="right")
    for run in runs:
        cells = [_percent(run.get(column.key)) for column in DIGIT_COLUMNS]
        view.add_row(run["method"], *cells, _seconds(run["train_seconds"]))
    return view


def comparable(runs: Sequence[Run]) -> None:
    """Refuse runs whose worst cases were found under different generators or with different data of one seed.

    Raises:
        UserError: naming the two.
    """
    first: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        if run["accuracy_worst_case"] is None:
            continue
        other = first.setdefault((*training_set(run), run["seed"]), run)
        for key in ("generator", "worst_case_images"):
            if run[key] != other[key]:
                raise UserError(
                    f"{run['method']} (seed {run['seed']}): worst case looked for with {key} {run[key]}, that of "
                    f"{other['method']} with {other[key]}; they compare only under one generator, pool and search"
                )


def training_set(run: Run) -> tuple[Any, ...]:
    """What a run was trained on, but for the seed: runs that share it are averaged over their seeds."""
    keys = ("data", "look", "target", "color_std", "color_variance", "train_images")
    return tuple(run.get(key) for key in keys)


def color_spread(run: Run) -> float:
    """Standard deviation or variance, as the run has it."""
    value: float = run["color_variance"] if "color_variance" in run else run["color_std"]
    return value


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard deviation over the seeds (of a sample; 0 for one)."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def sweep_table(runs: Sequence[Run], key: str) -> Table:
    """One accuracy in percent, mean and standard deviation over seeds, for each method and colour spread; rows are
    those of which there are more, methods where there are as many, so that the table is as narrow as can be.
    """
    unit = "variance" if "color_variance" in runs[0] else "std"
    spreads = sorted({color_spread(run) for run in runs})
    methods = list(dict.fromkeys(run["method"] for run in runs))
    upright = len(methods) >= len(spreads)
    headings = [f"{unit}\n{spread:g}" for spread in spreads] if upright else methods
    short = next(column.title.lower() for column in DIGIT_COLUMNS if column.key == key)
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column(f"{short}, %", no_wrap=True)
    for heading in headings:
        view.add_column(heading, justify="right", no_wrap=True)

    def cell(method: str, spread: float) -> str:
        return in_percent([run[key] for run in runs if (run["method"], color_spread(run)) == (method, spread)])

    if upright:
        for method in methods:
            view.add_row(method, *(cell(method, spread) for spread in spreads))
    else:
        for spread in spreads:
            view.add_row(f"{unit} {spread:g}", *(cell(method, spread) for method in methods))
    return view


def in_percent(values: Sequence[float | None]) -> str:
    """`[0.971, 0.969]` to `97.0 ± 0.1`; what was not measured is left out, and a dash where nothing was."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "–"
    mean, spread = mean_and_spread(known)
    return f"{mean:.1f}" + (f" ± {spread:.1f}" if len(known) > 1 else "")


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def columns(runs: Sequence[Run]) -> tuple[Column, ...]:
    """`DIGIT_COLUMNS`, in words that suit the look of the runs."""
    if not any(run.get("look") == "wildlife" for run in runs):
        return DIGIT_COLUMNS
    return tuple(
        replace(
            column,
            hint=column.hint.replace("colour", "texture"),
            meaning=column.meaning.replace("colour", "texture"),
        )
        for column in DIGIT_COLUMNS
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
