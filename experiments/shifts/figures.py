"""The figures of the study of shifts: accuracy at the new sites, and forecasts beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from advmix.report.drawing import INK, MUTED, TRACK, Canvas
from experiments.shifts.donors import BOTH
from experiments.shifts.results import Forecasted, Spread, Variant, summarise
from experiments.shifts.sets import SETS
from experiments.shifts.tables import FORECAST_WORDS, Record, variants_of, words_of

ROW, LEFT, PLOT, GAP = 0.2, 3.6, 2.6, 0.35
"""Inches: of a row, of the names, of a panel's width, between panels."""

DONOR_COLORS = {"": "#4a4f57", "home": "#e69f00", "photographs": "#0072b2", "sites": "#009e73", BOTH: "#cc79a7"}
"""What a classifier was given beside labelled images of home."""

DONOR_TITLES = {
    "": "no donors",
    "home": "donors: home",
    "photographs": "donors: unrelated photographs",
    "sites": "donors: unlabelled images of the new sites",
    BOTH: "donors: both",
}


def site_figure(results: Record, set_name: str) -> Figure:
    """Balanced accuracy at the new sites and at home with the studies' network, a row for each method: mean and
    standard deviation over seeds.

    Filled: as trained. Hollow: with normalisation statistics of unlabelled images of the site.
    """
    rows = variants_of(results, set_name)
    order = sorted(rows, key=lambda one: summarise(rows[one])["sites"].mean)
    height = ROW * len(order)
    canvas = Canvas(LEFT + 2 * PLOT + GAP + 0.4, height + 1.85)
    found = {variant: summarise(rows[variant]) for variant in order}
    panels = [("new sites", ("sites", "sites_estimated")), ("home", ("home",))]
    for place, (title, keys) in enumerate(panels):
        axes = canvas.axes(LEFT + place * (PLOT + GAP), 0.75, PLOT, height)
        _rows(axes, order, [{variant: found[variant][key] for variant in order} for key in keys])
        canvas.text(LEFT + place * (PLOT + GAP) + PLOT / 2, 0.6, title, 10)
    for number, variant in enumerate(order):
        title, _ = words_of(variant)
        top = 0.75 + height - (number + 0.5) * ROW
        canvas.text(LEFT - 0.12, top, title, 8.5, ha="right", color=DONOR_COLORS[variant.donors])
    canvas.text(0.15, 0.22, f"{SETS[set_name].title}: balanced accuracy, %", 12, ha="left", weight="bold")
    _legend(canvas, height + 1.35, [donors for donors in DONOR_COLORS if any(one.donors == donors for one in order)])
    return canvas.figure


def _rows(axes: Axes, order: Sequence[Variant], columns: Sequence[Mapping[Variant, Spread]]) -> None:
    axes.set(xlim=(0, 1.02), ylim=(-0.5, len(order) - 0.5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(axis="x", length=0, labelsize=8, colors=MUTED)
    axes.grid(axis="x", color=TRACK, linewidth=1)
    axes.set_axisbelow(True)
    for number, variant in enumerate(order):
        color = DONOR_COLORS[variant.donors]
        for column, values in enumerate(columns):
            value = values[variant]
            axes.plot([value.mean - spread(value), value.mean + spread(value)], [number] * 2, color=color, linewidth=1)
            face = "white" if column else color
            axes.plot([value.mean], [number], "o", color=color, markerfacecolor=face, markersize=5, zorder=3)


def spread(value: Spread) -> float:
    """Standard deviation, 0 of a single seed."""
    return value.deviation or 0.0


def _legend(canvas: Canvas, top: float, donors: Sequence[str]) -> None:
    left = 0.15
    for kind in donors:
        canvas.text(left, top, f"● {DONOR_TITLES[kind]}", 8.5, ha="left", color=DONOR_COLORS[kind])
        left += 0.062 * len(DONOR_TITLES[kind]) + 0.4
    words = "○ with normalisation re-estimated on unlabelled images of the site"
    canvas.text(0.15, top + 0.24, words, 8.5, ha="left", color=INK)


FORECAST_COLORS = {"styles": "#0072b2", "confidence": "#d55e00", "threshold": "#cc79a7"}


def forecast_figure(found: Sequence[Forecasted]) -> Figure:
    """Forecasts against the truth, a point for each classifier and site, a panel for each forecast."""
    canvas = Canvas(0.75 + 3 * 2.75, 3.95)
    for place, (name, color) in enumerate(FORECAST_COLORS.items()):
        left = 0.65 + place * 2.75
        axes = canvas.axes(left, 0.75, 2.4, 2.4)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, zorder=1)
        axes.scatter([getattr(one, name) for one in found], [one.truth for one in found], s=7, color=color, alpha=0.45)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
        axes.tick_params(length=0, labelsize=8, colors=MUTED)
        axes.spines[:].set(visible=True, color=TRACK)
        canvas.text(left + 1.2, 0.58, FORECAST_WORDS[name], 9)
        canvas.text(left + 1.2, 3.5, "forecast, %", 8.5, color=MUTED)
    canvas.text(0.2, 1.95, "balanced accuracy at the site, %", 8.5, color=MUTED, rotation=90)
    canvas.text(0.15, 0.2, "Forecast from unlabelled images, beside the truth", 12, ha="left", weight="bold")
    canvas.text(0.15, 3.78, "Below the line: the forecast was too high.", 8.5, ha="left", color=MUTED)
    return canvas.figure
