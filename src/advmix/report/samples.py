"""What a generator makes up, as a picture."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.canvas import Canvas, tile


def sample_grid(images: Tensor, columns: int = 16, side: float = 0.5) -> Figure:
    """Images `(N, 3, H, W)` in [0, 1] side by side, row by row, `side` inches each."""
    rows = -(-len(images) // columns)
    canvas = Canvas(side * columns, side * rows)
    canvas.image(tile(images, columns, rows), 0, 0, canvas.width, canvas.height)
    return canvas.figure
