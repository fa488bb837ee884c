"""`results.json`: its version, its schema, and the table that a person reads."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from rich import box
from rich.table import Table

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


def table(runs: list[dict[str, Any]]) -> Table:
    """Accuracies in percent, one row per run."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("accuracy, %")
    for name in COLUMNS.values():
        view.add_column("\n".join(name.split()), justify="right")
    view.add_column("train\nseconds", justify="right")
    for run in runs:
        cells = [_percent(run[key]) for key in COLUMNS]
        view.add_row(run["method"], *cells, f"{run['train_seconds']:.0f}")
    return view


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
