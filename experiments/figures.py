"""Accuracy against colour spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log, sqrt
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from torch import Tensor

import experiments.controls  # noqa: F401  names and colours of its methods
from advmix.report.drawing import INK, MUTED, TRACK, Canvas, frame, method_color, method_label, shorten, tile
from advmix.report.tables import Run, Score, color_spread, columns, comparable, is_control, method_names, score

GOOD = 0.9

"""Methods that are never worse than this are shown once more, enlarged."""

LABEL_PITCH, LETTER = 0.175, 0.07

"""Inches that a label takes in height, and each of its letters in width, generously."""

MARGIN, TICK_SHARE = 0.03, 0.08

"""Shares of an axis: free at both ends, and taken by a number below it."""

CHANGES = "Every colour spread and seed has a generator of its own: compare methods above one spread."


@dataclass(frozen=True)
class Line:
    """One curve: a score at some of the colour spreads."""

    label: str
    color: str
    width: float
    dashes: str
    points: Mapping[float, Score]

    @property
    def last(self) -> float:
        """Its mean at the largest of its spreads."""
        return self.points[max(self.points)].mean

    @property
    def marker(self) -> str:
        """A single point is a diamond, to be found again beside its name."""
        return "o" if len(self.points) > 1 else "D"

    @property
    def lowest(self) -> float:
        """Its lowest mean."""
        return min(point.mean for point in self.points.values())


def curves(runs: Sequence[Run], key: str, published: Sequence[Published] = ()) -> Figure:
    """One accuracy against the colour spread in training, a line per method: mean and range over the seeds.

    Methods that all stay above 90 % are shown again on the right, enlarged.

    Args:
        runs: at several colour spreads, all as standard deviations or all as variances.
        key: of the accuracy.
        published: rows of others, drawn in grey where the test is like theirs.

    Raises:
        UserError: worst cases that cannot be compared.
    """
    comparable(runs)
    lines, others = method_lines(runs, key), published_lines(runs, published if key == TEST else ())
    zoom = enlarged(lines)
    panels = [(0.0, 1.0, 4.9)] if zoom is None else [(0.0, 1.0, 4.2), (*zoom, 3.1)]
    top, height = 0.72, max(3.1, LABEL_PITCH * len([*lines, *others]))
    gap = 0.8 + LETTER * max(len(line.label) for line in [*lines, *others])
    canvas = Canvas(0.4 + sum(width + gap for *_, width in panels), top + height + 1.1)
    left = 0.75
    for low, high, width in panels:
        _panel(canvas.axes(left, top, width, height), lines, others, (low, high), LABEL_PITCH / height)
        canvas.text(left + width / 2, top + height + 0.42, _axis_title(runs), 9)
        if low:
            hint = f"the same, {100 * low:g} to {100 * high:g} %"
            canvas.text(left - 0.45, 0.45, hint, 9, ha="left", color=MUTED)
        left += width + gap
    _words(canvas, runs, key, others)
    return canvas.figure


def enlarged(lines: Sequence[Line]) -> tuple[float, float] | None:
    """The range, in steps of two percent, of the lines that never fall below `GOOD`; None where there are not two."""
    good = [line for line in lines if line.lowest >= GOOD]
    if len(good) < 2:
        return None
    means = [point.mean for line in good for point in line.points.values()]
    high = ceil(50 * max(means)) / 50
    return min(floor(50 * min(means)) / 50, high - 0.02), high


def method_lines(runs: Sequence[Run], key: str) -> list[Line]:
    """Of every method that has numbers; controls thin and dashed."""
    lines = []
    for name in method_names(runs):
        mine = [run for run in runs if run["method"] == name]
        found = {
            spread: score(run.get(key) for run in mine if color_spread(run) == spread) for spread in _spreads(mine)
        }
        points = {spread: value for spread, value in found.items() if value is not None}
        width, dashes = (1.2, "--") if is_control(name) else (2.0, "-")
        if points:
            lines.append(Line(method_label(name), method_color(name), width, dashes, points))
    return lines


def published_lines(runs: Sequence[Run], published: Sequence[Published]) -> list[Line]:
    """What others published at the colour spreads of the runs, in grey."""
    lines = []
    for row in published:
        found = {spread: row.at(spread) for spread in _spreads(runs)}
        points = {spread: Score(value, value, value) for spread, value in found.items() if value is not None}
        if points:
            lines.append(Line(f"{row.label}, published", MUTED, 1.2, ":", points))
    return lines


def _spreads(runs: Sequence[Run]) -> list[float]:
    return sorted({color_spread(run) for run in runs})


def _panel(
    axes: Axes, lines: Sequence[Line], others: Sequence[Line], limits: tuple[float, float], pitch: float
) -> None:
    """What lies within the limits, every line with its name on the right; `pitch` is a label's share of the height."""
    (low, high), spreads = limits, sorted({spread for line in lines for spread in line.points})
    room = 0.02 * (high - low)
    axes.set_ylim(low - room, high + room)
    _spread_axis(axes, spreads)
    for line in [*others, *sorted(lines, key=lambda line: line.width)]:
        _curve(axes, line)
    shown = [line for line in [*lines, *others] if low <= line.last <= high]
    places = spread_apart([line.last for line in shown], pitch * (high - low + 2 * room), low, high)
    inside = axes.get_yaxis_transform()
    for line, place in zip(shown, places, strict=True):
        style: dict[str, Any] = {"transform": inside, "clip_on": False, "color": line.color}
        if spreads[-1] in line.points:
            axes.plot((1, 1.025, 1.05), (line.last, place, place), linewidth=0.8, **style)
        else:
            axes.plot(1.035, place, marker=line.marker, markersize=4, **style)
        axes.text(1.065, place, line.label, transform=inside, fontsize=9, va="center", color=INK)


def _curve(axes: Axes, line: Line) -> None:
    places = sorted(line.points)
    means, lows, highs = ([getattr(line.points[place], name) for place in places] for name in ("mean", "low", "high"))
    axes.fill_between(places, lows, highs, color=line.color, alpha=0.16, linewidth=0)
    style: dict[str, Any] = {"color": line.color, "linewidth": line.width, "linestyle": line.dashes}
    axes.plot(places, means, marker=line.marker, markersize=2 + 1.2 * line.width, **style)


def spread_apart(wanted: Sequence[float], pitch: float, low: float, high: float) -> list[float]:
    """Places in [low, high], at least `pitch` apart (less where there is no room), in the order of `wanted` and as near
    to it as can be: what labels at the ends of lines need. Least squares, by isotonic regression.
    """
    from sklearn.isotonic import isotonic_regression

    pitch = min(pitch, (high - low) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    steps = [rank * pitch for rank in range(len(order))]
    if not order:
        return []
    free = [wanted[index] - step for index, step in zip(order, steps, strict=True)]
    fitted = isotonic_regression(free, y_min=low, y_max=high - steps[-1])
    placed = {index: float(value + step) for index, value, step in zip(order, fitted, steps, strict=True)}
    return [placed[index] for index in range(len(wanted))]


def _spread_axis(axes: Axes, spreads: Sequence[float]) -> None:
    """Each spread has its tick; spreads far from each other are on a logarithmic axis."""
    first, last, logarithmic = spreads[0], spreads[-1], is_logarithmic(spreads)
    if logarithmic:
        axes.set_xscale("log")
        margin = (last / first) ** MARGIN
        axes.set_xlim(first / margin, last * margin)
    else:
        axes.set_xlim(first - MARGIN * (last - first), last + MARGIN * (last - first))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(spreads, tick_labels(spreads, logarithmic))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)
    axes.grid(axis="y", color=TRACK)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=MUTED)


def is_logarithmic(spreads: Sequence[float]) -> bool:
    """Whether the largest is at least five times the smallest, and none is zero."""
    return spreads[0] > 0 and spreads[-1] / spreads[0] >= 5


def _axis_title(runs: Sequence[Run]) -> str:
    unit = "variance" if "color_variance" in runs[0] else "standard deviation"
    return f"{unit} of the colours in training" + (", log scale" if is_logarithmic(_spreads(runs)) else "")


def tick_labels(spreads: Sequence[float], logarithmic: bool) -> list[str]:
    """A number for each spread, none where it would touch the one before it."""
    labels, taken = [], float("-inf")
    for spread in spreads:
        ends = (spreads[0], spread, spreads[-1])
        first, place, last = (log(value) for value in ends) if logarithmic else ends
        share = (place - first) / (last - first)
        labels.append(f"{spread:g}" if share - taken >= TICK_SHARE else "")
        taken = share if labels[-1] else taken
    return labels


def _words(canvas: Canvas, runs: Sequence[Run], key: str, others: Sequence[Line]) -> None:
    """Title, and how to read it."""
    column = next(column for column in columns(runs) if column.key == key)
    canvas.text(0.3, 0.2, column.title, 12, ha="left", weight="bold")
    canvas.text(0.3, 0.45, f"{column.hint}; accuracy in percent", 9, ha="left", color=MUTED)
    controls = " Dashed: controls." if any(is_control(name) for name in method_names(runs)) else ""
    several = len({run["seed"] for run in runs}) > 1
    notes = [("Mean over the seeds; band: lowest to highest seed." if several else "One seed.") + controls]
    notes += [CHANGES] if key == "accuracy_worst_case" else []
    notes += [f"Dotted: {caveat(runs)}."] if others else []
    canvas.text(0.3, canvas.height - 0.3, "\n".join(notes), 8, ha="left", color=MUTED, linespacing=1.4)


def mean_colors(classes: Sequence[str], names: Sequence[str], means: Tensor, samples: Mapping[str, Tensor]) -> Figure:
    """What each class looks like without noise, and under the noise of every colour spread.

    Args:
        classes: C class names.
        names: of the C colours; none where a look is more than a colour.
        means: `(C, 3, H, W)`, the looks without noise.
        samples: by the row's title, `(C, N, 3, H, W)`, N images of each class.
    """
    margin, pitch, width, top, below = 1.35, 0.84, 0.74, 0.38, 0.36 if names else 0.2
    blocks = {title: [_block(images) for images in drawn] for title, drawn in samples.items()}
    heights = {title: width * row[0].shape[1] / row[0].shape[2] for title, row in blocks.items()}
    canvas = Canvas(margin + pitch * len(classes), top + width + below + sum(heights.values()) + 0.14 * len(heights))
    canvas.text(margin - 0.2, top + width / 2, "Mean" if names else "No noise", 11, ha="right", weight="bold")
    for index, (name, mean) in enumerate(zip(classes, means, strict=True)):
        canvas.text(margin + index * pitch + width / 2, 0.2, shorten(name, 9), 10, weight="bold")
        frame(canvas.image(mean, margin + index * pitch, top, width, width), MUTED, 0.5)
    for index, name in enumerate(names):
        canvas.text(margin + index * pitch + width / 2, top + width + 0.14, shorten(name, 9), 9, color=MUTED)
    top += width + below
    for title, row in blocks.items():
        canvas.text(margin - 0.2, top + heights[title] / 2, title, 9.5, ha="right")
        for index, block in enumerate(row):
            frame(canvas.image(block, margin + index * pitch, top, width, heights[title]), MUTED, 0.5)
        top += heights[title] + 0.14
    return canvas.figure


def _block(images: Tensor) -> Tensor:
    columns = ceil(sqrt(len(images)))
    return tile(images, columns, ceil(len(images) / columns))


TEST = "accuracy_shuffled"

"""The one test of ours that theirs can stand beside."""

LNL_PAPER = "Kim et al., Learning Not to Learn, CVPR 2019"

CGN_AGAIN = "Counterfactual Generative Networks (Sauer and Geiger, ICLR 2021), in an independent reproduction"


@dataclass(frozen=True)
class Published:
    """One row of somebody's table.

    Args:
        label: of their method.
        source: who published it.
        values: accuracy in [0, 1] by colour variance in training; None stands for any.
    """

    label: str
    source: str
    values: Mapping[float | None, float]

    def at(self, spread: float) -> float | None:
        """Accuracy at a colour spread, None where they have none."""
        return self.values.get(spread, self.values.get(None))


LNL = (
    Published(
        "Baseline",
        LNL_PAPER,
        {0.02: 0.4055, 0.025: 0.4813, 0.03: 0.5996, 0.035: 0.6626, 0.04: 0.7333, 0.045: 0.7973, 0.05: 0.8450},
    ),
    Published(
        "LNL",
        LNL_PAPER,
        {0.02: 0.8185, 0.025: 0.8854, 0.03: 0.9137, 0.035: 0.9306, 0.04: 0.9406, 0.045: 0.9555, 0.05: 0.9618},
    ),
    Published("CGN", CGN_AGAIN, {0.02: 0.929}),
)

LOOKS = {
    "double-colored": (Published("Original", CGN_AGAIN, {None: 0.101}), Published("CGN", CGN_AGAIN, {None: 0.866})),
    "wildlife": (Published("Original", CGN_AGAIN, {None: 0.108}), Published("CGN", CGN_AGAIN, {None: 0.814})),
}

"""`Original` is training on the biased images alone, `CGN` with their counterfactual images."""


def published(runs: Sequence[Run]) -> tuple[Published, ...]:
    """What stands beside runs on MNIST's digits: under colour variances, or on one of the harder looks."""
    if any((run["data"], run.get("target", "digit")) != ("mnist", "digit") for run in runs):
        return ()
    looks = {run.get("look", "colored") for run in runs}
    if looks == {"colored"}:
        return LNL if all("color_variance" in run for run in runs) else ()
    return LOOKS.get(looks.pop(), ()) if len(looks) == 1 else ()


def caveat(runs: Sequence[Run]) -> str:
    """What is to be said wherever they are shown."""
    others = "textures" if any(run.get("look") == "wildlife" for run in runs) else "mean colours"
    return f"published, made with other {others}: neighbours, not a strict comparison"


def beside(runs: Sequence[Run]) -> dict[str, float]:
    """What others have at the colour spread of runs, by their method."""
    spread = color_spread(runs[0])
    return {row.label: value for row in published(runs) if (value := row.at(spread)) is not None}
