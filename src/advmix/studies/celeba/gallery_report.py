"""The pictures of faces, each a function from images to a figure. Images are `(N, 3, H, W)` in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.canvas import Canvas, frame
from advmix.report.figures import rescaled_difference
from advmix.report.style import INK, MUTED, RIGHT, WRONG, method_color, method_label
from advmix.studies.celeba.acts import Poles

SIZE, PITCH = 0.86, 0.98


def poles_figure(found: Poles, rows: Tensor, classes: Sequence[str], method: str) -> Figure:
    """A column for each face: as it is, and the two variations that one classifier is most certain about."""
    left, head, line = 1.75, 0.5, 1.2
    canvas = Canvas(left + PITCH * len(rows) + 0.05, head + 3 * line)
    canvas.text(0.1, 0.2, f"One face, one classifier ({method_label(method)})", 11, ha="left", weight="bold")
    parts = (
        ("The face", found.faces, None, INK),
        (f"“{classes[1]}”", found.high, found.p_high, RIGHT),
        (f"“{classes[0]}”", found.low, 1 - found.p_low, WRONG),
    )
    for place, (name, images, certainty, color) in enumerate(parts):
        top = head + place * line
        canvas.text(left - 0.15, top + SIZE / 2, name, 10, ha="right", weight="bold", color=color)
        for column, row in enumerate(rows.tolist()):
            x = left + column * PITCH
            axes = canvas.image(images[row], x, top, SIZE, SIZE)
            if certainty is not None:
                frame(axes, color)
                canvas.text(x + SIZE / 2, top + SIZE + 0.13, f"{100 * float(certainty[row]):.1f} %", 8.5)
    return canvas.figure


def probability_figure(
    faces: Tensor, found: Mapping[str, tuple[Tensor, Tensor, Tensor]], classes: Sequence[str]
) -> Figure:
    """Faces above the worst variation of each under every method, with the probability of the second class.

    Args:
        faces: N of them.
        found: method to worst variations, and the probability `(N,)` before and on them.
        classes: names.
    """
    left, head, line = 1.75, 0.5, 1.24
    canvas = Canvas(left + PITCH * len(faces) + 0.05, head + line * (len(found) + 1))
    canvas.text(0.1, 0.2, f"Probability of “{classes[1]}”, before → worst variation", 11, ha="left", weight="bold")
    canvas.text(left - 0.15, head + SIZE / 2, "The face", 10, ha="right", weight="bold")
    for column, face in enumerate(faces):
        canvas.image(face, left + column * PITCH, head, SIZE, SIZE)
    for place, (method, (images, before, after)) in enumerate(found.items(), start=1):
        top = head + place * line
        canvas.text(
            left - 0.15, top + SIZE / 2, method_label(method), 10, ha="right", weight="bold", color=method_color(method)
        )
        for column, image in enumerate(images):
            x, flipped = left + column * PITCH, (before[column] > 0.5) != (after[column] > 0.5)
            frame(canvas.image(image, x, top, SIZE, SIZE), WRONG if flipped else RIGHT)
            words = f"{100 * float(before[column]):.0f} → {100 * float(after[column]):.0f} %"
            canvas.text(x + SIZE / 2, top + SIZE + 0.13, words, 8.5, color=WRONG if flipped else INK)
    return canvas.figure


def perturbation_figure(faces: Tensor, found: Mapping[str, Tensor]) -> Figure:
    """What every method makes of the faces, each row above its difference, scaled to its maximum."""
    left, head, pair = 1.75, 0.15, 2 * 0.9 + 0.14
    canvas = Canvas(left + PITCH * len(faces) + 0.05, head + 1.04 + pair * len(found))
    canvas.text(left - 0.15, head + SIZE / 2, "The face", 10, ha="right", weight="bold")
    for column, face in enumerate(faces):
        canvas.image(face, left + column * PITCH, head, SIZE, SIZE)
    for place, (method, images) in enumerate(found.items()):
        top = head + 1.04 + place * pair
        canvas.text(
            left - 0.15, top + SIZE / 2, method_label(method), 10, ha="right", weight="bold", color=method_color(method)
        )
        canvas.text(left - 0.15, top + 0.9 + SIZE / 2, "difference, scaled", 8.5, ha="right", color=MUTED)
        for column, pictures in enumerate(zip(images, rescaled_difference(faces, images), strict=True)):
            for row, picture in enumerate(pictures):
                canvas.image(picture, left + column * PITCH, top + 0.9 * row, SIZE, SIZE)
    return canvas.figure


def memory_figure(faces: Tensor, nearest: Sequence[Tensor], distances: Tensor) -> Figure:
    """Made-up faces, each above the training images that are nearest to it, with the distance of each.

    Args:
        faces: N of them.
        nearest: `(K, 3, H, W)` for each.
        distances: `(N, K)`.
    """
    left, head, line = 1.75, 0.5, 1.2
    canvas = Canvas(left + PITCH * len(faces) + 0.05, head + line * (1 + distances.shape[1]))
    title = "Made-up faces that are nearest to a training image, and the images; difference of a pixel, percent"
    canvas.text(0.1, 0.2, title, 11, ha="left", weight="bold")
    canvas.text(left - 0.15, head + SIZE / 2, "Made up", 10, ha="right", weight="bold")
    canvas.text(left - 0.15, head + line + SIZE / 2, "Training images", 10, ha="right", weight="bold", color=MUTED)
    for column, (face, images) in enumerate(zip(faces, nearest, strict=True)):
        x = left + column * PITCH
        canvas.image(face, x, head, SIZE, SIZE)
        for row, image in enumerate(images):
            top = head + (row + 1) * line
            canvas.image(image, x, top, SIZE, SIZE)
            canvas.text(x + SIZE / 2, top + SIZE + 0.13, f"{100 * float(distances[column, row]):.1f}", 8.5)
    return canvas.figure
