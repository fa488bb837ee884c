"""Figures and table of `advmix study encoding`. Nothing is picked: the first seed, the first images drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from advmix.report.encoding import encoder_names, error_curves, mixability_bars
from advmix.report.encoding_pictures import convergence, encoded_variations
from advmix.studies.encoding.parts import VARIATIONS, Bench, Part

ROWS = 3
STARTS = ("mean", "refine")
COLUMNS = {
    "error": ("error", 1.0, "{:.4f}"),
    "milliseconds": ("ms per\nimage,\nleast", 1.0, "{:.1f}"),
    "accuracy_reconstruction": ("recon-\nstruct.\n%", 100.0, "{:.1f}"),
    "mixability": ("mixa-\nbility\n%", 100.0, "{:.1f}"),
    "accuracy_mix": ("mixes\nright\n%", 100.0, "{:.1f}"),
    "color_error_mix": ("colour\nerror", 1.0, "{:.3f}"),
}
"""Key to head, factor, form of a number."""


def draw(bench: Bench, parts: Mapping[str, Part], runs: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """All figures by name.

    Args:
        bench: of the first seed.
        parts: of the first seed, by encoder.
        runs: of all seeds.
    """
    images, lenders = bench.tests.batch(slice(None))[0], bench.lenders.batch(slice(None))[0]
    steps = parts["mean"].run["trace"]["steps"]
    shown = [place for place, step in enumerate(steps) if str(step)[0] in "0125" or step == steps[-1]]
    frames = {name: parts[name].frames[shown, :ROWS] for name in STARTS}
    count = parts["mean"].mixes.shape[1]
    donors = lenders[bench.donors[:VARIATIONS, :count]]
    as_is = {name: part.frames[-1] for name, part in parts.items()}
    mixes = {name: part.mixes for name, part in parts.items()}
    return {
        "error": error_curves(runs),
        "mixability": mixability_bars(runs),
        "convergence": convergence(images[:ROWS], frames, [steps[place] for place in shown]),
        "variations": encoded_variations(images[:count], donors, as_is, mixes),
    }


def encoding_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each encoder, mean over the seeds."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("mean over the seeds", no_wrap=True)
    for head, _, _ in COLUMNS.values():
        view.add_column(head, justify="right")
    for name in encoder_names(runs):
        mine = [run for run in runs if run["encoder"] == name]
        cells = [_cell(key, [run[key] for run in mine]) for key in COLUMNS]
        view.add_row(name, *cells)
    return view


def _cell(key: str, values: Sequence[float | None]) -> str:
    """Of times the least, because whatever else runs on a machine can only add to them."""
    _, factor, form = COLUMNS[key]
    known = [factor * value for value in values if value is not None]
    return form.format(min(known) if key == "milliseconds" else mean(known)) if known else "–"
