"""The pictures of the report, each a function from data to a matplotlib `Figure`; nothing here is global.

Images are `(N, 3, H, W)` in [0, 1], labels `(N,)` int64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from advmix.report.drawing import (
    INK,
    MUTED,
    RIGHT,
    TRACK,
    WRONG,
    Canvas,
    frame,
    method_color,
    method_label,
    of_class,
    sheet_pitch,
    shorten,
    tile,
)
from advmix.report.tables import Column, Run, Score, columns, comparable, method_names, scores


@dataclass(frozen=True, eq=False)
class VariationGallery:
    """Test images beside the worst variation found of each, and what the classifier says of the variation.

    Args:
        method: how the classifier was trained, `"advmix"`.
        originals: `(N, 3, H, W)` in [0, 1].
        variations: the same shape.
        labels: `(N,)`, the truth.
        predictions: `(N,)`, class indices.
        confidence: `(N,)` in [0, 1], probability of the predicted class.
        classes: class names.
    """

    method: str
    originals: Tensor
    variations: Tensor
    labels: Tensor
    predictions: Tensor
    confidence: Tensor
    classes: tuple[str, ...]


def data_strip(
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: Sequence[str],
    hints: tuple[str, str] = ("each class has\nits own colour", "colours drawn\nat random"),
) -> Figure:
    """Training images above test images, one block of six per class; `hints` say what is special about the two."""
    margin, pitch, block, rows = 1.35, 0.84, (0.74, 1.13), 3
    canvas = Canvas(margin + pitch * len(classes), 2.97)
    parts = (("Training", train_images, train_labels), ("Test", test_images, test_labels))
    for (title, images, labels), hint, top in zip(parts, hints, (0.38, 1.72), strict=True):
        canvas.text(margin - 0.2, top + 0.34, title, 11, ha="right", weight="bold")
        canvas.text(margin - 0.2, top + 0.5, hint, 8.5, ha="right", va="top", color=MUTED)
        for index in range(len(classes)):
            picture = tile(of_class(images, labels, index, 2 * rows), 2, rows)
            canvas.image(picture, margin + index * pitch, top, *block)
    for index, name in enumerate(classes):
        canvas.text(margin + index * pitch + block[0] / 2, 0.2, shorten(name, 9), 10, weight="bold")
    return canvas.figure


def mixing_grid(
    parallel_images: Tensor,
    perp_images: Tensor,
    mixes: Tensor,
    keeps: str = "its shape, z∥",
    lends: str = "its colour, z⊥",
) -> Figure:
    """Rows keep `z∥`, columns lend `z⊥`.

    Args:
        parallel_images: `(R, 3, H, W)`, shown on the left.
        perp_images: `(C, 3, H, W)`, shown on top.
        mixes: `(R * C, 3, H, W)`, row by row.
        keeps: what `z∥` is, in words.
        lends: what `z⊥` is.
    """
    rows, columns, size, left, top = len(parallel_images), len(perp_images), 0.72, 0.5, 0.5
    pitch, body = sheet_pitch(size, mixes), size + 0.26
    canvas = Canvas(left + body + columns * pitch + 0.1, top + body + rows * pitch + 0.1)
    canvas.text(left + body + columns * pitch / 2, 0.22, f"lends {lends}  →", 13)
    canvas.text(0.24, top + body + rows * pitch / 2, f"keeps {keeps}  →", 13, rotation=270)
    canvas.sheet(perp_images, columns, 1, left + body, top, size)
    canvas.sheet(parallel_images, 1, rows, left, top + body, size)
    canvas.sheet(mixes, columns, rows, left + body, top + body, size)
    return canvas.figure


def accuracy_chart(runs: Sequence[Run], others: Mapping[str, float] = MappingProxyType({}), caveat: str = "") -> Figure:
    """A panel per test, a bar per method: mean over the seeds, with a line from the lowest to the highest seed.

    Args:
        runs: of one training set, but for the seed.
        others: accuracies in [0, 1] of others on a test like the shuffled one, by name, drawn as dotted lines there.
        caveat: what is to be said of them.

    Raises:
        UserError: worst cases that cannot be compared.
    """
    comparable(runs)
    names = method_names(runs)
    panels = [(column, found) for column in columns(runs) if (found := scores(runs, column.key))]
    left, width, height, head, pitch = 1.75, 2.2, 0.29 * max(len(names), 1), 0.62, 2.78
    canvas = Canvas(left + 3 * pitch - 0.1, -(-len(panels) // 3) * (head + height + 0.12) + (0.5 if others else 0.3))
    for index, (column, found) in enumerate(panels):
        row, place = divmod(index, 3)
        x, y = left + place * pitch, row * (head + height + 0.12) + head
        _panel_head(canvas, column, x, y)
        axes = canvas.axes(x, y, width, height)
        _bars(axes, names, found)
        for value in others.values() if column.key == "accuracy_shuffled" else ():
            axes.axvline(value, color="white", linewidth=3.2, alpha=0.7)
            axes.axvline(value, color=INK, linewidth=1.4, linestyle=":")
        if place == 0:
            for line, name in enumerate(names):
                canvas.text(x - 0.14, y + (line + 0.5) * 0.29, method_label(name), 9.5, ha="right")
    several = any(value.spread for _, found in panels for value in found.values())
    note = "Accuracy in percent" + (", mean over the seeds; black line: lowest to highest seed" if several else "")
    if others:
        listed = ", ".join(f"{label} {100 * value:.4g}" for label, value in others.items())
        note += f".\nDotted, {listed}: {caveat}."
    canvas.text(left, canvas.height - 0.08, note, 8, ha="left", va="bottom", color=MUTED, linespacing=1.4)
    return canvas.figure


def _panel_head(canvas: Canvas, column: Column, left: float, top: float) -> None:
    canvas.text(left, top - 0.36, column.title, 11, ha="left", weight="bold")
    canvas.text(left, top - 0.15, column.hint, 8.5, ha="left", color=MUTED)


def _bars(axes: Axes, names: Sequence[str], found: Mapping[str, Score]) -> None:
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    for row, name in enumerate(names):
        if name not in found:
            continue
        value = found[name]
        axes.barh(row, 1, height=0.6, color=TRACK)
        axes.barh(row, value.mean, height=0.6, color=method_color(name))
        axes.text(1.03, row, f"{100 * value.mean:.1f}", fontsize=9, va="center", color=INK)
        if value.spread:
            for color, width in (("white", 3.4), ("black", 1.4)):
                axes.plot((value.low, value.high), (row, row), color=color, linewidth=width, solid_capstyle="butt")


def rescaled_difference(originals: Tensor, variations: Tensor) -> Tensor:
    """`|variation - original|`, each image divided by its own maximum: `(N, 3, H, W)` in [0, 1]; no change is black."""
    difference = (variations - originals).abs()
    return difference / difference.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)


def variations(gallery: VariationGallery, called: str = "Test image") -> Figure:
    """Images, which are called so, the worst variation found of each with the classifier's answer, and what was
    changed.
    """
    size, pitch, left, tops = 0.74, 0.84, 1.4, (0.72, 1.66, 2.94)
    canvas = Canvas(left + pitch * len(gallery.labels), tops[-1] + size + 0.1)
    right = gallery.predictions == gallery.labels
    title = f"{method_label(gallery.method)}: right on {int(right.sum())} of {len(right)}"
    canvas.text(left, 0.22, "■", 13, ha="left", color=method_color(gallery.method))
    canvas.text(left + 0.22, 0.22, title, 11, ha="left", weight="bold")
    hints = (called, "Worst variation\nfound", "Difference")
    for top, hint in zip(tops, hints, strict=True):
        canvas.text(left - 0.2, top + size / 2, hint, 9.5, ha="right")
    canvas.text(left - 0.2, tops[-1] + size / 2 + 0.24, "scaled to maximum", 7.5, ha="right", color=MUTED)
    pictures = (gallery.originals, gallery.variations, rescaled_difference(gallery.originals, gallery.variations))
    for top, images in zip(tops, pictures, strict=True):
        for column, image in enumerate(images):
            axes = canvas.image(image, left + column * pitch, top, size, size)
            if images is gallery.variations:
                frame(axes, RIGHT if right[column] else WRONG)
    _captions(canvas, gallery, left + size / 2, pitch)
    return canvas.figure


def _captions(canvas: Canvas, gallery: VariationGallery, left: float, pitch: float) -> None:
    for column, (label, answer) in enumerate(zip(gallery.labels.tolist(), gallery.predictions.tolist(), strict=True)):
        x, right = left + column * pitch, label == answer
        canvas.text(x, 0.57, shorten(gallery.classes[label]), 9.5)
        answer_text = f"{'✓' if right else '✗'} {shorten(gallery.classes[answer], 9)}"
        canvas.text(x, 2.53, answer_text, 10, weight="bold", color=RIGHT if right else WRONG)
        canvas.text(x, 2.72, f"{100 * float(gallery.confidence[column]):.0f} %", 8.5, color=MUTED)


def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Reconstruction error of the generator at each `step`, `[{"step": 0, "mse": 0.2}, ...]`, on a logarithmic axis."""
    canvas = Canvas(6.4, 2.4)
    axes = canvas.axes(0.85, 0.15, 5.4, 1.7)
    axes.plot([entry["step"] for entry in history], [entry["mse"] for entry in history], color=method_color("advmix"))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)
    axes.tick_params(labelsize=8.5, colors=MUTED)
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.set_ylabel("mean squared error", fontsize=9, color=INK)
    return canvas.figure
