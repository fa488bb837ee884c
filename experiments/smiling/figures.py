"""Table and figure of `python -m experiments smiling`. No picture of a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from advmix.report.drawing import INK, MUTED, TRACK, Canvas
from advmix.report.tables import in_percent
from experiments.faces.figures import mean_seconds, new_table, percent, relative, relative_span
from experiments.faces.label_survival import interval, nice_ticks
from experiments.smiling.settings import CONSISTENCY

Row = Mapping[str, Any]

LEFT, WIDTH, GAP, HEAD, LINE = 2.75, 3.3, 0.5, 0.62, 0.27

UNLABELLED, LABELLED = "#0072b2", "#e69f00"


def smiling_table(rows: Sequence[Row]) -> Table:
    """A row per method, with intervals of 95 % over persons."""
    view = new_table("error, %", "change", "interval", "worst\ncase, %", "epochs", "CPU\nseconds")
    for row in rows:
        cells = [in_percent(row["error_by_seed"]), relative(row["change"]), relative_span(row["change"])]
        cells += [percent(row["accuracy_worst_case"]), mean_epochs(row), mean_seconds(row["cpu_seconds"])]
        view.add_row(row["method"], *cells)
    return view


def mean_epochs(row: Row) -> str:
    """Passes over the labelled images, averaged over the seeds."""
    return f"{sum(row['epochs']) / len(row['epochs']):.0f}"


def smiling_figure(rows: Sequence[Row]) -> Figure:
    """A line per method: its error, and the change against nominal training; dots are seeds."""
    height = LINE * len(rows)
    canvas = Canvas(LEFT + 2 * WIDTH + GAP + 0.2, HEAD + height + 0.75)
    panels = (
        ("Error", "percent of the judged images", "error"),
        ("Change against nominal", "percent, paired; left is better", "change"),
    )
    for place, (title, hint, key) in enumerate(panels):
        x = LEFT + place * (WIDTH + GAP)
        canvas.text(x, HEAD - 0.42, title, 10.5, ha="left", weight="bold")
        canvas.text(x, HEAD - 0.2, hint, 8.5, ha="left", color=MUTED)
        axes = canvas.axes(x, HEAD, WIDTH, height)
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_locator(nice_ticks())
        axes.tick_params(labelsize=8, colors=MUTED, length=0)
        axes.grid(axis="x", color=TRACK, linewidth=1)
        axes.set_axisbelow(True)
        for line, row in enumerate(rows):
            interval(axes, line, row[key], UNLABELLED if CONSISTENCY in row["method"] else LABELLED)
            if key == "error":
                seeds = [100 * value for value in row["error_by_seed"]]
                axes.plot(seeds, [line] * len(seeds), ".", markersize=4, color=INK)
        nominal = 100 * next(row["error"]["value"] for row in rows if row["method"] == "nominal")
        axes.axvline(nominal if key == "error" else 0, color=INK, linewidth=0.8, linestyle=":")
    for line, row in enumerate(rows):
        canvas.text(LEFT - 0.14, HEAD + (line + 0.5) * LINE, row["method"], 9, ha="right")
    note = "95 % intervals over persons, black: seeds; blue: with unlabelled faces; dotted: nominal training"
    canvas.text(LEFT, canvas.height - 0.1, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure
