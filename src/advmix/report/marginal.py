"""Accuracy against the number of z⊥ that a prediction is averaged over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from advmix.report.canvas import Canvas
from advmix.report.curves import spread_apart
from advmix.report.style import INK, MUTED, TRACK, method_color, method_label
from advmix.report.summary import Score, score

Run = Mapping[str, Any]
WIDTH, HEIGHT, GAP = 2.6, 2.7, 0.55
NAMES = 1.3
SHORT = {"reconstruction": "recon."}
HINTS = {
    "biased": "each class in its own colour",
    "shuffled": "the same colours, drawn at random",
    "uniform": "any bright colour",
}


def marginal_figure(runs: Sequence[Run]) -> Figure:
    """A panel for each test: the plain answer, that on the reconstruction, the mean over N z⊥; a line per classifier.

    Args:
        runs: `method`, `seed`, `test`, `prediction`, `samples`, `accuracy` in [0, 1]; tests in the order of the panels.
    """
    tests = list(dict.fromkeys(run["test"] for run in runs))
    canvas = Canvas(0.8 + len(tests) * (WIDTH + GAP) + NAMES, HEIGHT + 1.9)
    for place, test in enumerate(tests):
        left = 0.75 + place * (WIDTH + GAP)
        axes = canvas.axes(left, 1.0, WIDTH, HEIGHT)
        _panel(axes, [run for run in runs if run["test"] == test], names=place == len(tests) - 1)
        canvas.text(left, 0.75, test.capitalize(), 10, ha="left", weight="bold")
        canvas.text(left + 0.85, 0.76, HINTS.get(test, ""), 8, ha="left", color=MUTED)
        canvas.text(left + WIDTH / 2, HEIGHT + 1.45, "mean over N z⊥, beside plain and reconstructed", 8)
    canvas.text(0.3, 0.25, "Averaging over random z⊥, beside retraining", 12, ha="left", weight="bold")
    seeds = len({run["seed"] for run in runs})
    words = "Mean over the seeds; bars: lowest to highest seed." if seeds > 1 else "One seed."
    canvas.text(0.3, HEIGHT + 1.75, f"Accuracy in percent. {words}", 8, ha="left", color=MUTED)
    return canvas.figure


def _panel(axes: Axes, runs: Sequence[Run], names: bool) -> None:
    """Plain and reconstruction are points, the means a line."""
    ways = list(dict.fromkeys((run["prediction"], run["samples"]) for run in runs))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(-0.4, len(ways) - 0.6)
    axes.set_xticks(range(len(ways)), [str(samples) if samples else SHORT.get(way, str(way)) for way, samples in ways])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)
    axes.grid(axis="y", color=TRACK)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=MUTED)
    methods = list(dict.fromkeys(run["method"] for run in runs))
    last = [_line(axes, method, [_score(runs, method, way) for way in ways]) for method in methods]
    if names:
        inside = axes.get_yaxis_transform()
        for method, end, place in zip(methods, last, spread_apart(last, 0.075, 0, 1), strict=True):
            style: dict[str, Any] = {"color": method_color(method), "transform": inside, "clip_on": False}
            axes.plot((1, 1.03, 1.06), (end, place, place), linewidth=0.8, **style)
            axes.text(1.08, place, method_label(method), transform=inside, fontsize=9, va="center", color=INK)


def _score(runs: Sequence[Run], method: str, way: tuple[str, int]) -> Score:
    found = score(
        run["accuracy"] for run in runs if run["method"] == method and (run["prediction"], run["samples"]) == way
    )
    assert found is not None
    return found


def _line(axes: Axes, method: str, points: Sequence[Score]) -> float:
    """The last mean."""
    color = method_color(method)
    means = [point.mean for point in points]
    spread = [[p.mean - p.low for p in points], [p.high - p.mean for p in points]]
    axes.errorbar(range(len(points)), means, yerr=spread, fmt="o", color=color, markersize=4, elinewidth=1)
    axes.plot(range(2, len(points)), means[2:], color=color, linewidth=1.8)
    axes.plot([0, 1, 2], means[:3], color=color, linewidth=0.8, linestyle=":")
    return means[-1]
