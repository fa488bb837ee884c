"""`results.json`: its version, its schema, and the table that a person reads."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from rich import box
from rich.table import Table

from advmix.config import to_dict
from advmix.engine import environment
from advmix.errors import UserError

Run = Mapping[str, Any]
RESULTS = "results.json"
SCHEMA_VERSION = 1
COLUMNS = {
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
    for name in COLUMNS.values():
        view.add_column("\n".join(name.split()), justify="right")
    view.add_column("train\nseconds", justify="right")
    for run in runs:
        cells = [_percent(run[key]) for key in COLUMNS]
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
    view.add_column(f"{COLUMNS[key].replace('- ', '')}, %", no_wrap=True)
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
