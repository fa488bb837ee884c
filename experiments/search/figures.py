"""Charts of the search study: saturation, what is held against what, and the transfer matrix."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from advmix.report.drawing import INK, MUTED, RIGHT, TRACK, WRONG, Canvas, frame, method_color, method_label, shorten
from advmix.report.tables import Score, score

MATRIX_NOTE = (
    "large: worst-case accuracy, %; small: on that generator's reconstructions; frame: trained with that generator. "
    "Each column has a generator, a pool and so a search of its own: never compare numbers of two columns"
)

CHARACTERS = 15

"""Of the note, to an inch."""

SHADE = (0x00 / 255, 0x72 / 255, 0xB2 / 255)


@dataclass(frozen=True)
class Sweep:
    """Searches of which one number is varied.

    Args:
        title: what is varied, `Steps`.
        values: as they are called on the axis, weakest first.
        setting: place of the study's own setting among them, None when it is not there.
        curves: method to one score for each value.
    """

    title: str
    values: Sequence[str]
    setting: int | None
    curves: Mapping[str, Sequence[Score]]


@dataclass(frozen=True)
class Panel:
    """A test: title, a few words, and each method's score in [0, 1]."""

    title: str
    hint: str
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Strip:
    """A set of images: name, colour, quantiles (10, 50, 90 %) of contrast and of what no recolouring explains, and the
    share that a reference classifier reads."""

    name: str
    color: str
    contrast: Sequence[float]
    unexplained: Sequence[float]
    read: float


@dataclass(frozen=True)
class Matrix:
    """Worst cases of classifiers (rows) under generators (columns).

    Args:
        rows: names of the classifiers.
        columns: names of the generators.
        worst: `rows x columns`, each the numbers of the seeds, in [0, 1].
        reconstruction: likewise, accuracy on that generator's reconstructions.
        own: cells `(row, column)` whose classifier was trained with that very generator.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    worst: Sequence[Sequence[Sequence[float]]]
    reconstruction: Sequence[Sequence[Sequence[float]]]
    own: frozenset[tuple[int, int]]


def saturation_chart(accuracy: Sequence[Sweep], loss: Sequence[Sweep]) -> Figure:
    """Worst-case accuracy above, loss of the worst mix below; a column for each number that is varied."""
    width, height, pitch, left, tops = 2.75, 1.85, 3.1, 0.75, (0.72, 2.95)
    canvas = Canvas(left + pitch * len(accuracy) + 0.05, 5.5)
    _legend(canvas, list(accuracy[0].curves), left)
    for row, (sweeps, top) in enumerate(zip((accuracy, loss), tops, strict=True)):
        for place, sweep in enumerate(sweeps):
            axes = canvas.axes(left + place * pitch, top, width, height)
            _curves(axes, sweep, factor=100 if row == 0 else 1)
            axes.set_ylim((-3, 103) if row == 0 else (0, _highest(loss) * 1.05))
            if row == 1:
                axes.set_xlabel(sweep.title, fontsize=9.5, color=INK)
            if place == 0:
                axes.set_ylabel(("worst case, %", "loss of the worst mix, nats")[row], fontsize=9.5, color=INK)
    canvas.text(left, 5.38, _several(accuracy), 8, ha="left", color=MUTED)
    return canvas.figure


def _highest(sweeps: Sequence[Sweep]) -> float:
    return max(value.high for sweep in sweeps for curve in sweep.curves.values() for value in curve)


def _several(sweeps: Sequence[Sweep]) -> str:
    spread = any(value.spread for sweep in sweeps for curve in sweep.curves.values() for value in curve)
    note = "dotted: the study's setting, which the other two panels keep"
    return note + ("; lines: mean over the seeds, bands: lowest to highest seed" if spread else "")


def _legend(canvas: Canvas, names: Sequence[str], left: float) -> None:
    pitch = min(1.5, (canvas.width - left) / len(names))
    for place, name in enumerate(names):
        x = left + place * pitch
        canvas.text(x, 0.3, "■", 12, ha="left", color=method_color(name))
        canvas.text(x + 0.2, 0.3, method_label(name), 10, ha="left")


def _curves(axes: Axes, sweep: Sweep, factor: float) -> None:
    places = range(len(sweep.values))
    if sweep.setting is not None:
        axes.axvline(sweep.setting, color=MUTED, linewidth=1, linestyle=":")
    for name, curve in sweep.curves.items():
        color = method_color(name)
        axes.fill_between(
            places, [factor * p.low for p in curve], [factor * p.high for p in curve], color=color, alpha=0.18, lw=0
        )
        axes.plot(places, [factor * p.mean for p in curve], color=color, linewidth=1.8, marker="o", markersize=3.5)
    plain_axes(axes)
    axes.set_xticks(places, sweep.values)


def plain_axes(axes: Axes) -> None:
    """Two thin axes with small ticks."""
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)
    axes.tick_params(labelsize=8.5, colors=MUTED, length=3, left=True, bottom=True)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=TRACK, linewidth=0.8)
    axes.set_axisbelow(True)


def bar_panels(panels: Sequence[Panel], note: str) -> Figure:
    """A panel per test, a bar per method: mean over the seeds, with a line from the lowest to the highest seed."""
    names = list(panels[0].scores)
    left, width, pitch, top, line = 1.3, 1.25, 1.72, 0.78, 0.29
    canvas = Canvas(left + pitch * len(panels) + 0.05, top + line * len(names) + 0.4)
    for place, panel in enumerate(panels):
        x = left + place * pitch
        canvas.text(x, 0.2, panel.title, 10, ha="left", weight="bold")
        canvas.text(x, 0.36, panel.hint, 8, ha="left", va="top", color=MUTED, linespacing=1.15)
        axes = canvas.axes(x, top, width, line * len(names))
        axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
        for row, name in enumerate(names):
            bar(axes, row, panel.scores[name], method_color(name))
    for row, name in enumerate(names):
        canvas.text(left - 0.14, top + (row + 0.5) * line, method_label(name), 9.5, ha="right")
    canvas.text(left, canvas.height - 0.16, note, 8, ha="left", color=MUTED)
    return canvas.figure


def bar(axes: Axes, row: int, value: Score, color: str) -> None:
    """A score in [0, 1] on its track, with a line from the lowest to the highest seed."""
    axes.barh(row, 1, height=0.6, color=TRACK)
    axes.barh(row, value.mean, height=0.6, color=color)
    axes.text(1.04, row, f"{100 * value.mean:.1f}", fontsize=9, va="center", color=INK)
    if value.spread:
        for outline, width in (("white", 3.4), ("black", 1.4)):
            axes.plot((value.low, value.high), (row, row), color=outline, linewidth=width, solid_capstyle="butt")


def strips(sets: Sequence[Strip], floor: float, reference: str) -> Figure:
    """Sets of images, a line each: contrast, what no recolouring explains, and how many a reference still reads."""
    left, width, pitch, top, line = 1.75, 2.3, 2.75, 0.78, 0.29
    canvas = Canvas(left + 3 * pitch, top + line * len(sets) + 0.62)
    heads = (
        ("Contrast", "luma of the digit less that of the ground"),
        ("Unexplained", "share of variance that no flat recolouring has"),
        ("Still read", f"by the {reference} classifier of another seed, %"),
    )
    for place, (title, hint) in enumerate(heads):
        canvas.text(left + place * pitch, 0.26, title, 11, ha="left", weight="bold")
        canvas.text(left + place * pitch, 0.5, hint, 8, ha="left", color=MUTED)
    panels = [canvas.axes(left + place * pitch, top, width, line * len(sets)) for place in range(3)]
    for axes in panels:
        axes.set(xlim=(0, 1), ylim=(len(sets) - 0.5, -0.5))
    for axes in panels[:2]:
        axes.spines["bottom"].set(visible=True, color=MUTED)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        axes.tick_params(labelsize=8.5, colors=MUTED, length=3)
    panels[0].axvline(floor, color=MUTED, linewidth=1, linestyle=":")
    for row, strip in enumerate(sets):
        canvas.text(left - 0.14, top + (row + 0.5) * line, strip.name, 9.5, ha="right")
        for axes, (low, middle, high) in zip(panels, (strip.contrast, strip.unexplained), strict=False):
            axes.plot((low, high), (row, row), color=strip.color, linewidth=5, alpha=0.35, solid_capstyle="butt")
            axes.plot(middle, row, "o", color=strip.color, markersize=6, clip_on=False)
        bar(panels[2], row, Score(strip.read, strip.read, strip.read), strip.color)
    note = f"dot: median; bar: 10 to 90 % of the images; dotted: no colour of the grid is below {floor:g}"
    canvas.text(left, canvas.height - 0.16, note, 8, ha="left", color=MUTED)
    return canvas.figure


def transfer_matrix(matrix: Matrix) -> Figure:
    """Worst cases in percent, shaded; columns stand apart, because numbers compare down a column only."""
    left, top, width, height, pitch = 1.95, 1.05, 1.55, 0.52, 1.8
    across, down = left + pitch * len(matrix.columns) + 0.1, top + height * len(matrix.rows)
    lines = textwrap.wrap(MATRIX_NOTE, int((across - 0.2) * CHARACTERS))
    canvas = Canvas(across, down + 0.28 + 0.22 * len(lines))
    canvas.text(left, 0.22, "Searched with", 11, ha="left", weight="bold")
    canvas.text(0.1, 0.8, "Classifier", 11, ha="left", weight="bold")
    for row, name in enumerate(matrix.rows):
        canvas.text(left - 0.15, top + (row + 0.5) * height, name, 9.5, ha="right")
    for place, name in enumerate(matrix.columns):
        x = left + place * pitch
        canvas.text(x + width / 2, 0.56, name, 10.5)
        canvas.text(x + width / 2, 0.82, "compare within this column", 7.5, color=MUTED)
        for row in range(len(matrix.rows)):
            axes = canvas.axes(x, top + row * height, width, height * 0.92)
            _cell(axes, matrix.worst[row][place], matrix.reconstruction[row][place])
            if (row, place) in matrix.own:
                frame(axes, INK)
    for line, note in enumerate(lines):
        canvas.text(0.1, down + 0.3 + 0.22 * line, note, 7.5, ha="left", color=MUTED)
    return canvas.figure


def _cell(axes: Axes, worst: Sequence[float], reconstruction: Sequence[float]) -> None:
    value, plain = score(worst), score(reconstruction)
    assert value is not None
    assert plain is not None
    color = tuple(1 - 0.7 * value.mean * (1 - part) for part in SHADE)  # never too dark for dark print
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=color, edgecolor=TRACK, linewidth=2))
    spread = f"  {100 * value.low:.0f}–{100 * value.high:.0f}" if value.spread else ""
    axes.text(0.5, 0.62, f"{100 * value.mean:.1f}{spread}", fontsize=11, ha="center", va="center", color=INK)
    axes.text(0.5, 0.22, f"{100 * plain.mean:.1f}", fontsize=7.5, ha="center", va="center", color=INK)


SIZE = 0.66


@dataclass(frozen=True, eq=False)
class Steps:
    """One search over one image, `R` restarts of `K` steps; images in [0, 1].

    Args:
        method: how the classifier was trained.
        classes: class names.
        original: `(3, H, W)`, the test image.
        reconstruction: `(3, H, W)`.
        label: `()`, the truth.
        images: `(K + 1, R, 3, H, W)`; step 0 is the start.
        losses: `(K + 1, R)`, nats.
        predictions: `(K + 1, R)`, class indices.
        confidence: `(K + 1, R)` in [0, 1].
        path: `(K + 1, R, 2)`, where they lie in the plane of the map.
        cloud: `(M, 2)`, the pool in that plane.
        colors: `(M, 3)`, its images' colours.
        box: `(V, 2)`, outline of the box around the origin, or `(0, 2)`.
        explained: `(2,)`, shares of the pool's variance.
    """

    method: str
    classes: tuple[str, ...]
    original: Tensor
    reconstruction: Tensor
    label: Tensor
    images: Tensor
    losses: Tensor
    predictions: Tensor
    confidence: Tensor
    path: Tensor
    cloud: Tensor
    colors: Tensor
    box: Tensor
    explained: Tensor

    @property
    def worst(self) -> int:
        """The restart with the highest loss."""
        return int(self.losses.amax(dim=0).argmax())


@dataclass(frozen=True, eq=False)
class Worst:
    """The worst mixes of one classifier: `variations (N, 3, H, W)`, its `predictions` and those of a `reference`, both
    `(N,)`."""

    method: str
    variations: Tensor
    predictions: Tensor
    reference: Tensor


def steps_figure(steps: Steps) -> Figure:
    """Restarts as rows, steps as columns; on the right the map of the pool with all paths, and the losses."""
    count, restarts = steps.losses.shape
    left, top, pitch, line = 1.75, 0.95, SIZE + 0.1, SIZE + 0.36
    right = left + count * pitch + 0.6
    body = max(restarts * line, 4.6)
    canvas = Canvas(right + 3.9, top + body + 0.35)
    canvas.text(0.15, 0.28, "■", 13, ha="left", color=method_color(steps.method))
    name = steps.classes[int(steps.label)]
    title = f"{method_label(steps.method)} classifier: the search on the first test image, a {name}"
    canvas.text(0.37, 0.28, title, 11, ha="left", weight="bold")
    for place, (image, name) in enumerate(((steps.original, "test image"), (steps.reconstruction, "reconstruction"))):
        canvas.image(image, 0.2, top + place * line, SIZE, SIZE)
        canvas.text(0.2 + SIZE / 2, top + place * line + SIZE + 0.12, name, 7.5, color=MUTED)
    for step in range(count):
        canvas.text(left + step * pitch + SIZE / 2, 0.78, "start" if step == 0 else f"step {step}", 9)
    for restart in range(restarts):
        _row(canvas, steps, restart, left, top + restart * line, pitch)
    _map(canvas.axes(right, top, 3.7, body - 1.95), steps)
    _losses(canvas.axes(right + 0.35, top + body - 1.4, 3.35, 1.25), steps)
    return canvas.figure


def _row(canvas: Canvas, steps: Steps, restart: int, left: float, top: float, pitch: float) -> None:
    worst = restart == steps.worst
    canvas.text(
        left - 0.12, top + SIZE / 2, f"restart {restart + 1}", 9, ha="right", weight="bold" if worst else "normal"
    )
    if worst:
        canvas.text(left - 0.12, top + SIZE / 2 + 0.17, "the worst", 8, ha="right", color=MUTED)
    for step in range(len(steps.losses)):
        answer = int(steps.predictions[step, restart])
        right = answer == int(steps.label)
        color, x = RIGHT if right else WRONG, left + step * pitch
        frame(canvas.image(steps.images[step, restart], x, top, SIZE, SIZE), color)
        text = f"{'✓' if right else '✗'} {shorten(steps.classes[answer], 4)}  {float(steps.losses[step, restart]):.2f}"
        canvas.text(x + SIZE / 2, top + SIZE + 0.13, text, 7.5, color=color)


def _map(axes: Axes, steps: Steps) -> None:
    axes.scatter(
        steps.cloud[:, 0], steps.cloud[:, 1], c=steps.colors.clamp(0, 1).numpy(), s=9, alpha=0.45, linewidths=0
    )
    for restart in range(steps.path.shape[1]):
        worst = restart == steps.worst
        _path(axes, steps, restart, INK, 2.0 if worst else 1.1)
    if len(steps.box):
        outline = (steps.box + steps.path[0, steps.worst]).tolist()
        axes.plot(*zip(*outline, outline[0], strict=True), color=INK, linewidth=0.9, linestyle="--")
    axes.set_xlabel(f"first principal component of z⊥ ({100 * float(steps.explained[0]):.0f} % of the pool's variance)")
    axes.set_ylabel(f"second ({100 * float(steps.explained[1]):.0f} %)")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=8.5, color=INK)
    axes.spines[:].set(visible=True, color=MUTED)
    axes.set_aspect("equal", adjustable="datalim")


def _path(axes: Axes, steps: Steps, restart: int, color: str, width: float) -> None:
    points = steps.path[:, restart]
    axes.plot(points[:, 0], points[:, 1], color="white", linewidth=width + 1.6)
    axes.plot(points[:, 0], points[:, 1], color=color, linewidth=width)
    right = steps.predictions[:, restart] == steps.label
    for mask, marker, paint in ((right, "o", RIGHT), (~right, "X", WRONG)):
        axes.scatter(
            points[mask, 0],
            points[mask, 1],
            marker=marker,
            s=34,
            color=paint,
            edgecolors="white",
            linewidths=0.7,
            zorder=5,
        )
    start = (float(points[0, 0]), float(points[0, 1]))
    axes.annotate(str(restart + 1), start, (-7, 5), textcoords="offset points", fontsize=9, weight="bold")


def _losses(axes: Axes, steps: Steps) -> None:
    for restart in range(steps.losses.shape[1]):
        worst = restart == steps.worst
        axes.plot(steps.losses[:, restart], color=INK if worst else MUTED, linewidth=2 if worst else 1)
    for place, y in enumerate(apart(steps.losses[-1].tolist(), 0.1 * float(steps.losses.max() - steps.losses.min()))):
        axes.text(len(steps.losses) - 0.93, y, str(place + 1), fontsize=8, va="center")
    plain_axes(axes)
    axes.set_xticks(range(len(steps.losses)))
    axes.set_xlabel("step", fontsize=8.5, color=INK)
    axes.set_ylabel("loss, nats", fontsize=8.5, color=INK)


def apart(values: Sequence[float], gap: float) -> list[float]:
    """The values in their order, moved up so far that no two are closer than `gap`: where labels go."""
    places = list(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    for below, above in pairwise(order):
        places[above] = max(places[above], places[below] + gap)
    return places


def worst_figure(
    originals: Tensor, labels: Sequence[int], classes: Sequence[str], found: Sequence[Worst], reference: str
) -> Figure:
    """The first test images `(N, 3, H, W)` above the worst mix that was found of each against each classifier."""
    size, pitch, left, top, line = 0.72, 0.86, 1.5, 0.45, 1.14
    canvas = Canvas(left + pitch * len(originals) + 0.05, top + line * (len(found) + 1) - 0.1)
    canvas.text(left - 0.15, top + size / 2, "Test image", 9.5, ha="right")
    for column, image in enumerate(originals):
        canvas.image(image, left + column * pitch, top, size, size)
        canvas.text(left + column * pitch + size / 2, 0.26, shorten(classes[labels[column]]), 10, weight="bold")
    for row, worst in enumerate(found, start=1):
        y = top + row * line - 0.22
        canvas.text(left - 0.15, y + size / 2 - 0.1, method_label(worst.method), 10, ha="right", weight="bold")
        canvas.text(left - 0.15, y + size / 2 + 0.12, "worst mix found", 8, ha="right", color=MUTED)
        canvas.text(left - 0.15, y + size + 0.29, f"{reference}'s answer", 7.5, ha="right", color=MUTED)
        for column, label in enumerate(labels):
            x, answer = left + column * pitch, int(worst.predictions[column])
            color = RIGHT if answer == label else WRONG
            frame(canvas.image(worst.variations[column], x, y, size, size), color)
            _answer(canvas, x + size / 2, y + size + 0.13, answer, label, classes, 9)
            _answer(canvas, x + size / 2, y + size + 0.29, int(worst.reference[column]), label, classes, 7.5)
    return canvas.figure


def _answer(canvas: Canvas, x: float, y: float, answer: int, label: int, classes: Sequence[str], size: float) -> None:
    right = answer == label
    text = f"{'✓' if right else '✗'} {shorten(classes[answer], 9)}"
    canvas.text(x, y, text, size, color=RIGHT if right else WRONG)
