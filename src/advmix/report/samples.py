"""What a generator makes up, as a picture."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.canvas import Canvas, tile

SIDE = 0.5


def sample_grid(images: Tensor, columns: int = 16) -> Figure:
    """Images `(N, 3, H, W)` in [0, 1] side by side, row by row."""
    rows = -(-len(images) // columns)
    canvas = Canvas(SIDE * columns, SIDE * rows)
    canvas.image(tile(images, columns, rows), 0, 0, canvas.width, canvas.height)
    return canvas.figure
