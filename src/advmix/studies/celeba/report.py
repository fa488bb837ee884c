"""Table and figure of the face study. No picture of a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.table import Table

from advmix.report.canvas import Canvas
from advmix.report.style import INK, MUTED, TRACK, method_color, method_label
from advmix.results import in_percent

Row = Mapping[str, Any]


def error_table(rows: Sequence[Row]) -> Table:
    """A row per method."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("")
    for head in ("error, %", "95 % interval", "change", "95 % interval", "mixed", "worst\ncase", "train\nseconds"):
        view.add_column(head, justify="right")
    for row in rows:
        error, change, seconds = row["error"], row["change"], row["train_seconds"]
        view.add_row(
            row["method"],
            in_percent(row["error_by_seed"]),
            f"{100 * error['low']:.1f} to {100 * error['high']:.1f}",
            f"{100 * change['value']:+.0f} %" if change else "–",
            f"{100 * change['low']:+.0f} to {100 * change['high']:+.0f} %" if change else "–",
            in_percent(row["accuracy_mixed_by_seed"]),
            in_percent(row["accuracy_worst_case_by_seed"]),
            f"{sum(seconds) / len(seconds):.0f}",
        )
    return view


LEFT, WIDTH, GAP, HEAD, LINE = 1.75, 3.1, 0.85, 0.62, 0.31


def error_figure(rows: Sequence[Row]) -> Figure:
    """A line per method: error with the errors of the seeds, and its change against nominal training; 95 % intervals
    over persons.
    """
    height = LINE * len(rows)
    canvas = Canvas(LEFT + 2 * WIDTH + GAP + 0.3, HEAD + height + 0.75)
    for place, (key, title, hint) in enumerate(
        (
            ("error", "Error", "percent of the judged images"),
            ("change", "Change of the error", "percent of the error of nominal training; left is better"),
        )
    ):
        x = LEFT + place * (WIDTH + GAP)
        canvas.text(x, HEAD - 0.36, title, 11, ha="left", weight="bold")
        canvas.text(x, HEAD - 0.15, hint, 8.5, ha="left", color=MUTED)
        axes = canvas.axes(x, HEAD, WIDTH, height)
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        for line, row in enumerate(rows):
            if row[key] is not None:
                _interval(axes, line, row, key)
        if key == "change":
            axes.axvline(0, color=INK, linewidth=0.8)
        axes.tick_params(labelsize=8, colors=MUTED, length=0)
        axes.grid(axis="x", color=TRACK, linewidth=1)
    for line, row in enumerate(rows):
        canvas.text(LEFT - 0.14, HEAD + (line + 0.5) * LINE, method_label(row["method"]), 9.5, ha="right")
    note = "Dot and line: mean over the seeds with its 95 % interval over persons; small dots: the seeds"
    canvas.text(LEFT, canvas.height - 0.08, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure


def _interval(axes: Axes, line: int, row: Row, key: str) -> None:
    value, color = row[key], method_color(row["method"])
    axes.plot([100 * value["low"], 100 * value["high"]], [line, line], color=color, linewidth=2.4)
    axes.plot(100 * value["value"], line, "o", color=color, markersize=7, markeredgecolor="white")
    if key == "error":
        seeds = [100 * error for error in row["error_by_seed"]]
        axes.plot(seeds, [line + 0.28] * len(seeds), "o", color=color, markersize=2.5)
