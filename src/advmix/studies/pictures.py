"""Pictures that several studies share. Nothing is picked: always the first images."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from advmix.data import ColoredDigits
from advmix.encoders import Encoder
from advmix.latents import Split
from advmix.report import data_strip, mixing_grid
from advmix.stages.sources import Mixable

GRID_ROWS, GRID_COLUMNS = 7, 9
HINTS = {
    "colored": ("each class has\nits own colour", "colours drawn\nat random"),
    "double-colored": ("each class has\nits own colours", "both colours\nat random"),
    "wildlife": ("each class has\nits own textures", "both textures\nat random"),
    "color": ("each class has\nits own digit", "digits drawn\nat random"),
}
"""What the data strip says of training and test, by look; by target where that is the colour."""


def data_figure(data: ColoredDigits) -> Figure:
    """Six training and six shuffled test images of each class, among the first 200."""
    config = data.config
    hints = HINTS["color" if config.target == "color" else config.look]
    first = slice(0, 200)
    return data_strip(*data.train.batch(first), *data.shuffled.batch(first), data.train.classes, hints)


def mixing_figure(mixable: Mixable, data: ColoredDigits, split: Split, encoder: Encoder | None = None) -> Figure:
    """Rows: test digits that the generator has never seen. Columns: the first training images.

    Args:
        mixable: generator and pool.
        data: the digits.
        split: which layers are `z⊥`.
        encoder: of the rows, the one that made the pool; default the network.
    """
    height, width = min(GRID_ROWS, len(data.shuffled)), min(GRID_COLUMNS, len(data.train))
    kept, _ = data.shuffled.batch(slice(0, height))
    lent, _ = data.train.batch(slice(0, width))
    device = mixable.pool.styles.device
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    with torch.no_grad():
        parallel = (encoder or mixable.model.encoder)(kept.to(device))
        mixes = mixable.model.generator(split.combine(parallel[rows], mixable.pool[:width][columns]))
    return mixing_grid(kept, lent, mixes, *roles(split, data.config.look))


def roles(split: Split, look: str) -> tuple[str, str]:
    """What `z∥` and `z⊥` are, in words, where the layers say it: coarse ones set the shape, fine ones the colour.

    Other looks have more than a colour: there the picture must tell what the layers hold.
    """
    fine, coarse = split.layers - 1 in split.perp, split.grid or 0 in split.perp
    if fine == coarse:
        return "z∥", "z⊥"
    shape, color = ("its shape", "its colour") if look == "colored" else ("its coarse layers", "its fine layers")
    return (f"{shape}, z∥", f"{color}, z⊥") if fine else (f"{color}, z∥", f"{shape}, z⊥")
