"""`results.json`: its version, its schema, and the table that a person reads."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from rich import box
from rich.table import Table

from advmix.report.drawing import METHODS
from advmix.utils.config import to_dict
from advmix.utils.device import environment
from advmix.utils.errors import UserError

Run = Mapping[str, Any]

RESULTS = "results.json"

SCHEMA_VERSION = 1

TERMINAL_COLUMNS = {
    "accuracy_biased": "biased",
    "accuracy_unbiased": "shuffled",
    "accuracy_uniform": "uniform",
    "accuracy_reconstruction": "recon- struct.",
    "accuracy_worst_case": "worst case",
    "accuracy_recolor_worst": "worst recolour",
}


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


def table(runs: list[dict[str, Any]]) -> Table:
    """Accuracies in percent, one row per run."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("accuracy, %")
    for name in TERMINAL_COLUMNS.values():
        view.add_column("\n".join(name.split()), justify="right")
    view.add_column("train\nseconds", justify="right")
    for run in runs:
        cells = [_percent(run[key]) for key in TERMINAL_COLUMNS]
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
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column(f"{TERMINAL_COLUMNS[key].replace('- ', '')}, %", no_wrap=True)
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


@dataclass(frozen=True)
class Column:
    """One test: key in a run, title, a few words for a chart, a sentence for a reader who is new here."""

    key: str
    title: str
    hint: str
    meaning: str


RUN_COLUMNS = (
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
    """`RUN_COLUMNS`, in words that suit the look of the runs."""
    if not any(run.get("look") == "wildlife" for run in runs):
        return RUN_COLUMNS
    return tuple(
        replace(
            column,
            hint=column.hint.replace("colour", "texture"),
            meaning=column.meaning.replace("colour", "texture"),
        )
        for column in RUN_COLUMNS
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
