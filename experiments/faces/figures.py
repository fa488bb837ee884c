"""Tables and figures of the face study. No picture of a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.table import Table

from advmix.report.drawing import INK, MUTED, TRACK, Canvas, method_color, method_label
from advmix.report.tables import in_percent

Row = Mapping[str, Any]
TITLES = {
    "error": ("Error", "percent of the judged images"),
    "worst_group_error": ("Error of the worst group", "percent of the group that is judged worst"),
}


def error_table(rows: Sequence[Row]) -> Table:
    """A row per method, with intervals of 95 %."""
    view = new_table("error, %", "interval", "change", "interval", "balanced\nerror, %", "ROC\nAUC")
    for row in rows:
        cells = [in_percent(row["error_by_seed"]), span(row["error"]), relative(row["change"])]
        cells += [relative_span(row["change"]), percent(row["balanced_error"]), auc(row["roc_auc"])]
        view.add_row(row["method"], *cells)
    return view


def searched_table(rows: Sequence[Row]) -> Table:
    """A row per method: accuracies under mixes, with intervals of 95 %."""
    view = new_table("random mix, %", "interval", "worst case, %", "interval")
    for row in rows:
        keys = ("accuracy_mixed", "accuracy_worst_case")
        cells = [cell for key in keys for cell in (in_percent(row[f"{key}_by_seed"]), span(row[key]))]
        view.add_row(row["method"], *cells)
    return view


def seconds_table(rows: Sequence[Row]) -> Table:
    """A row per method: what its generator took, encoding its images, and training; means over the seeds."""
    view = new_table("generator, seconds", "encode, seconds", "train, seconds")
    for row in rows:
        view.add_row(
            row["method"], *(mean_seconds(row[f"{part}_seconds"]) for part in ("generator", "encode", "train"))
        )
    return view


def mean_seconds(values: Sequence[float | None]) -> str:
    """Over the seeds; a dash where there is nothing to measure, or nobody measured it."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.1f}" if known else "–"


def compared(rows: Sequence[Row]) -> dict[str, str]:
    """What the differences of pairs are shown in, by key, with a word for each: in a stress test, whose purpose it is,
    the worst group stands in the place of the random mix.
    """
    if rows and "worst_group_error" in rows[0]:
        return {"error": "error", "worst_group_error": "worst group", "accuracy_worst_case": "worst case"}
    return {"error": "error", "accuracy_mixed": "random mix", "accuracy_worst_case": "worst case"}


def comparison_table(rows: Sequence[Row]) -> Table:
    """Two lines per pair: the first one's errors and accuracies less the second one's, in points; their intervals."""
    keys = compared(rows)
    view = new_table(*(f"{word},\npoints" for word in keys.values()))
    for row in rows:
        differences = [row[key] for key in keys]
        view.add_row(row["first"], *(f"{100 * difference['value']:+.1f}" for difference in differences))
        view.add_row(f"- {row['second']}", *map(signed_span, differences))
    return view


def group_table(rows: Sequence[Row]) -> Table:
    """Errors of the groups of a stress test, the worst first; the mean is the error of the balanced test. Intervals are
    in the figure.
    """
    names = [name.replace("not ", "not\n", 1).replace(", ", ",\n") for name in rows[0]["group_errors"]]
    view = new_table("worst\ngroup, %", *names)
    for row in rows:
        errors = [percent(found) for found in row["group_errors"].values()]
        view.add_row(row["method"], percent(row["worst_group_error"]), *errors)
    return view


def new_table(*heads: str) -> Table:
    """Empty, a column for the methods and one for each of the heads."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("", no_wrap=True)
    for head in heads:
        view.add_column(head, justify="right", no_wrap=True)
    return view


def percent(interval: Row) -> str:
    """The value of an interval."""
    return f"{100 * interval['value']:.1f}"


def span(interval: Row) -> str:
    """Its ends in percent."""
    return f"{100 * interval['low']:.1f}–{100 * interval['high']:.1f}"


def signed_span(interval: Row) -> str:
    """The ends of a difference in points."""
    return f"{100 * interval['low']:+.1f} to {100 * interval['high']:+.1f}"


def relative(change: Row | None) -> str:
    """A relative change in percent."""
    return f"{100 * change['value']:+.0f} %" if change else "–"


def relative_span(change: Row | None) -> str:
    """The ends of its interval."""
    return f"{100 * change['low']:+.0f} to {100 * change['high']:+.0f} %" if change else "–"


def auc(found: Row | None) -> str:
    """Area under the ROC curve, as is usual not in percent."""
    return f"{found['value']:.3f}" if found else "–"


LEFT, WIDTH, GAP, HEAD, LINE = 1.75, 3.1, 0.85, 0.62, 0.31


CUT = 2.0
"""Methods with more than so many times the error of nominal training lie beyond the end of the axis: one that learns
nothing would press all others together.
"""


def error_figure(rows: Sequence[Row], key: str = "error") -> Figure:
    """A line per method: an error (with the errors of the seeds, where it is that of all images), and its change
    against nominal training; 95 % intervals over persons. Methods beyond `CUT` are an arrow with a number.
    """
    height, change = LINE * len(rows), key.replace("error", "change")
    nominal = next(row for row in rows if row["method"] == "nominal")
    cuts = {key: CUT * nominal[key]["value"] or math.inf, change: CUT - 1}
    canvas = Canvas(LEFT + 2 * WIDTH + GAP + 0.3, HEAD + height + 0.75)
    hint = "percent of the error of nominal training; left is better"
    for place, (shown, title, words) in enumerate(((key, *TITLES[key]), (change, "Change of the error", hint))):
        x = LEFT + place * (WIDTH + GAP)
        canvas.text(x, HEAD - 0.36, title, 11, ha="left", weight="bold")
        canvas.text(x, HEAD - 0.15, words, 8.5, ha="left", color=MUTED)
        axes = canvas.axes(x, HEAD, WIDTH, height)
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        for line, row in enumerate(rows):
            if row[shown] is not None:
                _interval(axes, line, row, shown, cuts[shown])
        if shown == change:
            axes.axvline(0, color=INK, linewidth=0.8)
        axes.tick_params(labelsize=8, colors=MUTED, length=0)
        axes.grid(axis="x", color=TRACK, linewidth=1)
    for line, row in enumerate(rows):
        canvas.text(LEFT - 0.14, HEAD + (line + 0.5) * LINE, method_label(row["method"]), 9.5, ha="right")
    note = "Dot and line: mean over the seeds with its 95 % bootstrap interval" + (
        "; small dots: the seeds" if key == "error" else ""
    )
    canvas.text(LEFT, canvas.height - 0.08, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure


def _interval(axes: Axes, line: int, row: Row, key: str, cut: float) -> None:
    value, color = row[key], method_color(row["method"])
    if value["value"] > cut:
        axes.plot(100 * cut, line, ">", color=color, markersize=7)
        number = f"{100 * value['value']:+.0f} %" if "change" in key else f"{100 * value['value']:.1f}"
        axes.annotate(number, (100 * cut, line), (-9, 0), textcoords="offset points", ha="right", va="center", size=8.5)
        return
    axes.plot([100 * value["low"], 100 * value["high"]], [line, line], color=color, linewidth=2.4)
    axes.plot(100 * value["value"], line, "o", color=color, markersize=7, markeredgecolor="white")
    if key == "error":
        seeds = [100 * error for error in row["error_by_seed"]]
        axes.plot(seeds, [line + 0.28] * len(seeds), "o", color=color, markersize=2.5)
