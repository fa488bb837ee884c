"""Tables of results in a terminal: whatever is longer stands in the rows, and nothing is lost in 80 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from advmix.intervals import wilson
from advmix.report.tables import interval_cell, sweep_table

METHODS = ("nominal", "randmix", "advmix", "ceiling")


def run(method: str, variance: float, seed: int) -> dict[str, Any]:
    return {"method": method, "seed": seed, "color_variance": variance, "accuracy_shuffled": 0.9 + seed / 100}


@pytest.mark.parametrize("spreads", [(0.02,), (0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05)])
def test_every_name_and_number_is_there_in_eighty_columns(spreads: tuple[float, ...]) -> None:
    runs = [run(method, spread, seed) for method in METHODS for spread in spreads for seed in (0, 1)]
    out = io.StringIO()
    Console(file=out, width=80).print(sweep_table(runs, "accuracy_shuffled"))
    text = out.getvalue()
    assert all(method in text for method in METHODS)
    assert all(f"{spread:g}" in text for spread in spreads)
    assert text.count("90.5 ± 0.7") == len(METHODS) * len(spreads)


@pytest.mark.parametrize(
    ("hits", "total", "cell"),
    [(157, 500, "31.4 (27–36)"), (1, 300, "0.3 (0.1–1.9)"), (499, 500, "99.8 (98.9–100.0)"), (0, 20, "0.0 (0–16)")],
)
def test_an_interval_holds_the_figure_that_it_is_of(hits: int, total: int, cell: str) -> None:
    assert interval_cell(wilson(hits, total).to_dict()) == cell
