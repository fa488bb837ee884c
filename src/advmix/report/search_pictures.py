"""Pictures of the search study: one search step by step, and the worst mixes found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.canvas import Canvas, frame, shorten
from advmix.report.search import plain_axes
from advmix.report.style import INK, MUTED, RIGHT, WRONG, method_color, method_label

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
