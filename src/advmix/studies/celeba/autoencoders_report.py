"""Table and figure of the photo autoencoder's variants. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from advmix.report.canvas import Canvas
from advmix.report.style import INK, MUTED, TRACK, method_color, method_label
from advmix.studies.celeba.report import new_table, percent, signed_span, span
from advmix.studies.celeba.survival_report import interval, nice_ticks
from advmix.studies.celeba.variants import BASE

Record = Mapping[str, Any]
DECODED, RESIDUAL = method_color("randmix"), method_color("advmix")


JUDGES = ("classifier", "reference")
"""Whose accuracy counts: that of the classifier that some variants learn from, of the reference that none does."""


def reached(row: Record, target: Record) -> list[bool]:
    """Whether a variant keeps enough labels and loses little enough accuracy, in the eyes of both `JUDGES`."""
    kept = row["survival_decoded"]
    keeps = kept is not None and kept["value"] >= target["survival"]
    return [keeps and row[f"{judge}_lost"]["value"] <= target["accuracy_lost"] for judge in JUDGES]


def yes_no(row: Record, target: Record) -> list[str]:
    """The same in words."""
    return ["yes" if found else "no" for found in reached(row, target)]


def variants_table(records: Sequence[Record], target: Record) -> Table:
    """A row per variant. Of two numbers in a cell, the second is with the residual; of two words, by the reference."""
    view = new_table(
        "error", "points\nlost", "by the\nreference", "survive, %,\nresidual", "range, %,\nresidual", "seconds", "ok"
    )
    for row in records:
        ranges = [f"{100 * row[f'range_{key}']:.1f}" for key in ("decoded", "residual")]
        cells = [f"{row['error']:.4f}", percent(row["classifier_lost"]), percent(row["reference_lost"])]
        cells += [" / ".join(survivals(row)), " / ".join(ranges), f"{row['fit_seconds']:.0f}"]
        view.add_row(row["variant"], *cells, " / ".join(yes_no(row, target)))
    return view


def survivals(row: Record) -> list[str]:
    """Labels that survive in percent, as decoded and with the residual; a dash where the reference saw none unmixed."""
    found = [row[f"survival_{key}"] for key in ("decoded", "residual")]
    return [percent(share) if share else "–" for share in found]


LEFT, WIDTH, GAP, HEAD, LINE = 1.2, 1.75, 0.3, 0.66, 0.32


def variants_figure(records: Sequence[Record], target: Record) -> Figure:
    """A line per variant, a panel per number; dotted: what is to be reached."""
    height = LINE * len(records)
    canvas = Canvas(LEFT + 4 * (WIDTH + GAP), HEAD + height + 0.72)
    panels = [
        ("Error", "mean square, [-1, 1]"),
        ("Accuracy lost", "points, on reconstructions"),
        ("Labels that survive", "percent of random mixes"),
        ("Range", "mean change of a pixel, %"),
    ]
    for place, (title, hint) in enumerate(panels):
        axes = _panel(canvas, LEFT + place * (WIDTH + GAP), (WIDTH, height), (title, hint), len(records))
        for line, row in enumerate(records):
            _draw(axes, place, line, row)
        if place in (0, 3):
            axes.set_xlim(left=0)
        if place in (1, 2):
            goal = 100 * target["accuracy_lost"] if place == 1 else 100 * target["survival"]
            axes.axvline(goal, color=INK, linewidth=0.8, linestyle=":")
    for line, row in enumerate(records):
        canvas.text(LEFT - 0.14, HEAD + (line + 0.5) * LINE, row["variant"], 9.5, ha="right")
    note = "Light: as decoded, dark: with the residual; 95 % intervals; dotted: what is to be reached"
    canvas.text(LEFT, canvas.height - 0.1, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure


def _panel(canvas: Canvas, x: float, size: tuple[float, float], words: tuple[str, str], lines: int) -> Axes:
    """Axes of a width and height at `x`, for so many lines, under a title and a hint."""
    title, hint = words
    canvas.text(x, HEAD - 0.42, title, 10.5, ha="left", weight="bold")
    canvas.text(x, HEAD - 0.2, hint, 8.5, ha="left", color=MUTED)
    axes = canvas.axes(x, HEAD, *size)
    axes.set(ylim=(lines - 0.5, -0.5))
    axes.xaxis.set_major_locator(nice_ticks())
    axes.tick_params(labelsize=8, colors=MUTED, length=0)
    axes.grid(axis="x", color=TRACK, linewidth=1)
    axes.set_axisbelow(True)
    return axes


def _draw(axes: Axes, place: int, line: int, row: Record) -> None:
    looks = (("decoded", DECODED, -0.15), ("residual", RESIDUAL, 0.15))
    if place == 0:
        axes.barh(line, row["error"], height=0.55, color=MUTED)
    elif place == 1:
        interval(axes, line, row["classifier_lost"], MUTED)
    else:
        for key, color, shift in looks:
            if place == 3:
                axes.barh(line + shift, 100 * row[f"range_{key}"], height=0.26, color=color)
            elif row[f"survival_{key}"]:
                interval(axes, line + shift, row[f"survival_{key}"], color)


def by_variant(rows: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Classifiers by variant, then by method; both in their order."""
    found: dict[str, dict[str, Record]] = {}
    for row in rows:
        found.setdefault(row["variant"], {})[row["method"]] = row
    return found


def classifiers_table(rows: Sequence[Record]) -> Table:
    """A row for each method under each variant: its error, less its error under `base` in points, and its accuracy in
    the worst case under the variant's own generator.
    """
    view = new_table("error, %", "interval", "less base", "interval", "worst\ncase, %")
    for row in rows:
        difference = compared_with_base(row)
        value, ends = (
            ("–", "–") if difference is None else (f"{100 * difference['value']:+.1f}", signed_span(difference))
        )
        cells = [percent(row["error"]), span(row["error"]), value, ends, percent(row["accuracy_worst_case"])]
        view.add_row(f"{row['variant']}: {row['method']}", *cells)
    return view


def compared_with_base(row: Record) -> Record | None:
    """The error less that of the same method under `base`; None where there is nothing to compare."""
    is_same = row["variant"] == BASE or row["method"] == "nominal"
    return None if is_same else row["less_base"]


def classifiers_figure(rows: Sequence[Record]) -> Figure:
    """A line per variant, a dot per method: its error, and that less its error under `base`; dotted: nominal training,
    which knows no generator.
    """
    found = by_variant(rows)
    nominal = next(iter(found.values()))["nominal"]["error"]["value"]
    mixed = [method for method in next(iter(found.values())) if method != "nominal"]
    line_height = 0.14 + 0.16 * len(mixed)
    height, width = line_height * len(found), 1.6 * WIDTH
    canvas = Canvas(LEFT + 2 * (width + GAP), HEAD + height + 0.9)
    panels = [
        ("Error", "percent of the held-out images", "error"),
        ("Less that under base", "points, paired; left is better", "less_base"),
    ]
    for place, (title, hint, key) in enumerate(panels):
        axes = _panel(canvas, LEFT + place * (width + GAP), (width, height), (title, hint), len(found))
        for line, variant in enumerate(found.values()):
            for rank, method in enumerate(mixed):
                shift = (rank - (len(mixed) - 1) / 2) * 0.16 / line_height
                row = variant[method]
                shown = row["error"] if key == "error" else compared_with_base(row)
                if shown is not None:
                    interval(axes, line + shift, shown, method_color(method))
        axes.axvline(100 * nominal if key == "error" else 0, color=INK, linewidth=0.8, linestyle=":")
    for line, name in enumerate(found):
        canvas.text(LEFT - 0.14, HEAD + (line + 0.5) * line_height, name, 9.5, ha="right")
    for rank, method in enumerate(mixed):
        x = LEFT + rank * 1.6
        canvas.text(x, canvas.height - 0.34, method_label(method), 8.5, ha="left", color=method_color(method))
    note = "95 % intervals over persons; dotted: nominal training, and no difference"
    canvas.text(LEFT, canvas.height - 0.1, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure
