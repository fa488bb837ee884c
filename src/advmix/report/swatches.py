"""What the classes look like: their mean colours, and the noise around them at every colour spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt

from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.canvas import Canvas, frame, shorten, tile
from advmix.report.style import MUTED


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
