"""A contact sheet: some images of every class, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.canvas import Canvas, shorten, tile
from advmix.report.style import MUTED


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One row of the sheet.

    Args:
        title: in bold, a class.
        note: below it, a group and how many there are.
        images: `(N, C, H, W)` in [0, 1], C 1 or 3.
    """

    title: str
    note: str
    images: Tensor


def contact_sheet(rows: Sequence[SheetRow], columns: int, footer: str) -> Figure:
    """Rows of at most `columns` images, titles on the left."""
    size, left, top = 0.72, 2.2, 0.12
    pitch = 1.1 * size
    canvas = Canvas(left + columns * pitch + 0.1, top + len(rows) * pitch + 0.36)
    for index, row in enumerate(rows):
        y = top + index * pitch
        canvas.text(left - 0.15, y + 0.26, shorten(row.title, 20), 11, ha="right", weight="bold")
        canvas.text(left - 0.15, y + 0.48, shorten(row.note, 30), 8.5, ha="right", color=MUTED)
        strip = tile(row.images[:columns].expand(-1, 3, -1, -1), columns, 1)
        canvas.image(strip, left, y, size * strip.shape[2] / strip.shape[1], size)
    canvas.text(left, top + len(rows) * pitch + 0.14, footer, 8.5, ha="left", color=MUTED)
    return canvas.figure
