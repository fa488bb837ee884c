"""Pictures of the encoders: reconstructions on the way to an image, and variations of what was encoded.

Images are `(K, 3, H, W)` in [0, 1]; always the first K of the images drawn for the study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.canvas import Canvas, sheet_pitch
from advmix.report.encoding import ENCODERS
from advmix.report.style import INK, MUTED


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
