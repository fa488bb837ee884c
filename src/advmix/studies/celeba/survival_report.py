"""Tables and figures about mixes of faces. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from advmix.report.canvas import Canvas
from advmix.report.style import INK, MUTED, TRACK, method_color
from advmix.studies.celeba.report import new_table, percent, span

Record = Mapping[str, Any]
RANDOM, SEARCHED = method_color("randmix"), method_color("advmix")


def survival_table(records: Sequence[Record]) -> Table:
    """A section per attribute, a row per split."""
    view = new_table("random\nmixes, %", "interval", "searched\nmixes, %", "interval", "range, %")
    for record in records:
        view.add_row(f"[bold]{record['target']}[/]")
        for row in record["splits"]:
            cells = [cell for key in ("survival", "survival_searched") for cell in _cells(row[key])]
            view.add_row(row["name"], *cells, f"{100 * row['range']:.1f}")
        view.add_section()
    return view


def _cells(share: Record | None) -> tuple[str, str]:
    return ("–", "–") if share is None else (percent(share), span(share))


LEFT, WIDTH, GAP, HEAD, LINE = 2.4, 3.4, 0.35, 0.66, 0.27


def survival_figure(records: Sequence[Record], threshold: float) -> Figure:
    """A block per attribute, a line per split: labels that survive random mixes and searched ones; then the range of
    variation, without which survival says nothing.
    """
    rows = [(record["target"], row) for record in records for row in record["splits"]]
    canvas = Canvas(LEFT + WIDTH + GAP + 1.75, HEAD + LINE * len(rows) + 0.62)
    canvas.text(LEFT, 0.2, "Labels that survive", 11, ha="left", weight="bold")
    canvas.text(LEFT, 0.42, "percent of the mixes; light: random, dark: searched for", 8.5, ha="left", color=MUTED)
    canvas.text(LEFT + WIDTH + GAP, 0.2, "Range", 11, ha="left", weight="bold")
    canvas.text(LEFT + WIDTH + GAP, 0.42, "mean change of a pixel, %", 8.5, ha="left", color=MUTED)
    shares = canvas.axes(LEFT, HEAD, WIDTH, LINE * len(rows))
    ranges = canvas.axes(LEFT + WIDTH + GAP, HEAD, 1.2, LINE * len(rows))
    shares.axvline(100 * threshold, color=INK, linewidth=0.8, linestyle=":")
    for line, (target, row) in enumerate(rows):
        y = HEAD + (line + 0.5) * LINE
        canvas.text(LEFT - 0.14, y, row["name"], 9, ha="right")
        if not line or rows[line - 1][0] != target:
            canvas.text(0.1, y, target.replace("_", " "), 9.5, ha="left", weight="bold")
        for key, color, shift in (("survival", RANDOM, -0.13), ("survival_searched", SEARCHED, 0.13)):
            if row[key] is not None:
                interval(shares, line + shift, row[key], color)
        ranges.barh(line, 100 * row["range"], height=0.55, color=MUTED)
    for axes in (shares, ranges):
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_locator(nice_ticks())
        axes.tick_params(labelsize=8, colors=MUTED, length=0)
        axes.grid(axis="x", color=TRACK, linewidth=1)
        axes.set_axisbelow(True)
    ranges.set_xlim(left=0)
    note = f"Of what the reference gets right unmixed, with 95 % intervals; dotted: {100 * threshold:g} %"
    canvas.text(LEFT, canvas.height - 0.1, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure


def nice_ticks() -> Any:
    """A few round numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def interval(axes: Axes, line: float, share: Record, color: str) -> None:
    """A dot with its interval, in percent."""
    axes.plot([100 * share["low"], 100 * share["high"]], [line, line], color=color, linewidth=2)
    axes.plot(100 * share["value"], line, "o", color=color, markersize=5, markeredgecolor="white")
