"""Charts of the encoders: reconstruction error against time, and what is lost when their latents are mixed.

A run is a row of `encodings` in the study's `results.json`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from torch import Tensor

from advmix.report.drawing import INK, MUTED, TRACK, Canvas, sheet_pitch

Run = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """How an encoder is called and drawn: label, colour, dashes of its line."""

    label: str
    color: str
    dashes: str = "-"


ENCODERS = {
    "network": Look("Network's guess", "#1c2430"),
    "mean": Look("From the mean", "#882255"),
    "mean-no-mixing": Look("From the mean, no mixing loss", "#cf8fb4", "--"),
    "refine": Look("From the guess", "#1b7f79"),
    "refine-no-mixing": Look("From the guess, no mixing loss", "#7cc5bc", "--"),
}

"""Wine and teal, apart for colour-blind readers; the lighter of each is the one without the mixing loss."""


@dataclass(frozen=True)
class Measure:
    """A panel of bars: its title, a hint, and the key of a number; with `lost`, what a share leaves to one, in %.

    `floor` is the key of the same number for images that no encoder has touched.
    """

    title: str
    hint: str
    key: str
    lost: bool = False
    floor: str | None = None

    def of(self, runs: Sequence[Run], key: str) -> list[float]:
        """The numbers to draw, of the runs that have them."""
        found = [run[key] for run in runs if run[key] is not None]
        return [100 * (1 - value) for value in found] if self.lost else found

    def text(self, value: float) -> str:
        """As it stands beside the bar."""
        return f"{value:.1f} %" if self.lost else f"{value:#.2g}"


MEASURES = (
    Measure("Reconstruction error", "mean square, pixels in [-1, 1]", "error"),
    Measure("Reconstructions misread", "dotted: of the real images", "accuracy_reconstruction", True, "accuracy_image"),
    Measure("Labels lost in mixing", "of those read rightly unmixed", "mixability", True),
    Measure("Colour error of mixes", "distance from the donor's colour", "color_error_mix"),
)


def encoder_names(runs: Sequence[Run]) -> list[str]:
    """The encoders that were run, in the order of all charts."""
    return [name for name in ENCODERS if any(run["encoder"] == name for run in runs)]


def error_curves(runs: Sequence[Run]) -> Figure:
    """Reconstruction error against gradient steps and against time: mean over the seeds, and their range.

    Times are the shortest of the seeds: whatever else runs on a machine can only add to them.
    """
    canvas, top, size = Canvas(9.6, 4.3), 0.9, (4.15, 2.6)
    panels = {"steps": canvas.axes(0.75, top, *size), "milliseconds": canvas.axes(5.25, top, *size)}
    for along, axes in panels.items():
        for name in encoder_names(runs):
            _curve(axes, ENCODERS[name], [run["trace"] for run in runs if run["encoder"] == name], along)
        _error_axes(axes)
    _step_axis(panels["steps"], max(run["trace"]["steps"][-1] for run in runs))
    _time_axis(panels["milliseconds"])
    limits = [axes.get_ylim() for axes in panels.values()]
    for axes in panels.values():
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    panels["milliseconds"].yaxis.set_major_formatter(NullFormatter())
    panels["steps"].set_ylabel("mean squared error", fontsize=9.5, color=INK)
    _legend(canvas, encoder_names(runs))
    note = "Images in [-1, 1]. Lines: mean over the seeds; shaded: lowest to highest seed. Time: of the fastest seed."
    canvas.text(0.75, canvas.height - 0.16, note, 8.5, ha="left", color=MUTED)
    return canvas.figure


def _curve(axes: Axes, look: Look, traces: Sequence[Mapping[str, Any]], along: str) -> None:
    errors = list(zip(*(trace["error"] for trace in traces), strict=True))
    places = [min(column) for column in zip(*(trace[along] for trace in traces), strict=True)]
    means, low, high = ([pick(column) for column in errors] for pick in (statistics.mean, min, max))
    if len(places) > 1:
        axes.fill_between(places, low, high, color=look.color, alpha=0.18, linewidth=0)
        axes.plot(places, means, color=look.color, linestyle=look.dashes, linewidth=1.8)
        return
    axes.axhline(means[0], color=look.color, linestyle=":", linewidth=1)  # a level for the others to reach
    axes.plot(places, means, "*", color=look.color, markersize=12, zorder=3)


def _error_axes(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(_plain)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color=TRACK, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)
    axes.tick_params(labelsize=9, colors=MUTED)


def _step_axis(axes: Axes, last: int) -> None:
    """Logarithmic, but with a place for step 0."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(-0.25, 1.15 * max(last, 1))
    ticks = [m * 10**power for power in range(len(str(last))) for m in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator([0, *(tick for tick in ticks if tick <= last)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_plain)
    axes.set_xlabel("gradient steps", fontsize=9.5, color=INK)


def _time_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_plain)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("milliseconds per image", fontsize=9.5, color=INK)


_plain = FuncFormatter(lambda value, _: f"{value:g}")


def _legend(canvas: Canvas, names: Sequence[str]) -> None:
    """Three columns: the network, then each start with and without the mixing loss."""
    columns = {"network": (0.75, 0.24), "mean": (3.1, 0.24), "mean-no-mixing": (3.1, 0.54)}
    columns |= {"refine": (6.4, 0.24), "refine-no-mixing": (6.4, 0.54)}
    for name in names:
        look, (left, top) = ENCODERS[name], columns[name]
        sample = canvas.axes(left, top - 0.1, 0.36, 0.2)
        sample.set(xlim=(0, 1), ylim=(-1, 1))
        marker = "*" if name == "network" else ""
        sample.plot((0.5,) if marker else (0, 1), (0,) if marker else (0, 0), look.dashes, color=look.color)
        sample.lines[0].set(marker=marker, markersize=12, linewidth=2)
        canvas.text(left + 0.46, top, look.label, 10, ha="left")


def mixability_bars(runs: Sequence[Run]) -> Figure:
    """Four panels, a bar for each encoder: mean over the seeds, with a line from the lowest to the highest."""
    names, left, width, pitch, line, head = encoder_names(runs), 2.35, 1.85, 2.75, 0.3, 0.66
    canvas = Canvas(left + len(MEASURES) * pitch - 0.15, head + line * len(names) + 0.42)
    for row, name in enumerate(names):
        canvas.text(left - 0.14, head + (row + 0.5) * line, ENCODERS[name].label, 9.5, ha="right")
    for index, measure in enumerate(MEASURES):
        x = left + index * pitch
        canvas.text(x, head - 0.4, measure.title, 11, ha="left", weight="bold")
        canvas.text(x, head - 0.18, measure.hint, 8.5, ha="left", color=MUTED)
        _bars(canvas.axes(x, head, width, line * len(names)), measure, names, runs)
    note = "Mean over the seeds; black line: lowest to highest seed. Shorter is better everywhere."
    canvas.text(left, canvas.height - 0.16, note, 8.5, ha="left", color=MUTED)
    return canvas.figure


def _bars(axes: Axes, measure: Measure, names: Sequence[str], runs: Sequence[Run]) -> None:
    found = {name: measure.of([run for run in runs if run["encoder"] == name], measure.key) for name in names}
    floor = measure.of(runs, measure.floor) if measure.floor else []
    longest = max([value for values in (floor, *found.values()) for value in values] or [0]) or 1
    axes.set(xlim=(0, longest), ylim=(len(names) - 0.5, -0.5))
    if floor:
        axes.axvline(statistics.mean(floor), color=INK, linestyle=":", linewidth=1.2, zorder=3)
    for row, name in enumerate(names):
        if not found[name]:
            axes.text(0.02 * longest, row, "–", fontsize=9, va="center", color=INK)
            continue
        mean, low, high = statistics.mean(found[name]), min(found[name]), max(found[name])
        axes.barh(row, mean, height=0.62, color=ENCODERS[name].color)
        axes.text(max(mean, high) + 0.04 * longest, row, measure.text(mean), fontsize=9, va="center", color=INK)
        if high > low:
            for color, thick in (("white", 3.4), ("black", 1.4)):
                axes.plot((low, high), (row, row), color=color, linewidth=thick, solid_capstyle="butt")


def convergence(targets: Tensor, frames: Mapping[str, Tensor], steps: Sequence[int]) -> Figure:
    """A block for each start; a row for each target, a column for each step.

    Args:
        targets: K images.
        frames: encoder to its reconstructions, `(len(steps), K, 3, H, W)`.
        steps: of the columns.
    """
    size, left, head, gap = 0.72, 1.45, 0.62, 0.22
    pitch = sheet_pitch(size, targets)
    block, first = len(targets) * pitch + gap, left + pitch + gap
    canvas = Canvas(first + len(steps) * pitch + 0.05, head + len(frames) * block - gap + 0.05)
    canvas.text(left + size / 2, head - 0.16, "target", 10, weight="bold")
    canvas.text(first + len(steps) * pitch / 2, head - 0.42, "gradient steps", 9.5, color=MUTED)
    for column, step in enumerate(steps):
        canvas.text(first + column * pitch + size / 2, head - 0.16, str(step), 10, weight="bold")
    for place, (name, pictures) in enumerate(frames.items()):
        look, top = ENCODERS[name], head + place * block
        words = look.label.replace(" the ", "\nthe ")
        canvas.text(left - 0.15, top + (block - gap) / 2, words, 11, ha="right", color=look.color, weight="bold")
        _columns(canvas, targets[None], left, top, size)
        _columns(canvas, pictures, first, top, size)
    return canvas.figure


def encoded_variations(
    targets: Tensor, donors: Tensor, reconstructions: Mapping[str, Tensor], mixes: Mapping[str, Tensor]
) -> Figure:
    """A row for each target: the target, its donors, then for each encoder the reconstruction and the mixes.

    Args:
        targets: K images.
        donors: `(V, K, 3, H, W)`, the images that lend their z⊥.
        reconstructions: encoder to K images.
        mixes: encoder to `(V, K, 3, H, W)`.
    """
    size, gap, left, head, columns = 0.56, 0.26, 0.1, 0.86, 1 + len(donors)
    pitch = sheet_pitch(size, targets)
    block = columns * pitch + gap
    canvas = Canvas(left + (1 + len(mixes)) * block - gap + 0.05, head + len(targets) * pitch + 0.05)
    groups = [("Real images", INK, ("target", "donor"), torch.cat([targets[None], donors]))]
    for name, found in mixes.items():
        look = ENCODERS[name]
        pictures = torch.cat([reconstructions[name][None], found])
        groups.append((look.label.replace(", ", ",\n"), look.color, ("as is", "mixed"), pictures))
    for place, (title, color, (first, others), pictures) in enumerate(groups):
        start = left + place * block
        canvas.text(start, 0.25, title, 9.5, ha="left", weight="bold", linespacing=1.25)
        canvas.axes(start, 0.52, block - gap + size - pitch, 0.045).set_facecolor(color)
        for column in range(columns):
            word = others if column else first
            canvas.text(start + column * pitch + size / 2, head - 0.14, word, 8, color=MUTED)
        _columns(canvas, pictures, start, head, size)
    return canvas.figure


def _columns(canvas: Canvas, pictures: Tensor, left: float, top: float, size: float) -> None:
    """`(columns, rows, 3, H, W)` as one picture."""
    columns, rows = pictures.shape[:2]
    canvas.sheet(pictures.transpose(0, 1).flatten(0, 1), columns, rows, left, top, size)
