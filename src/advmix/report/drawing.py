"""How methods are called and coloured, the same in every figure and table.

Colours after Okabe and Ito, safe for colour-blind readers and dark enough on white;
the two mixing methods are the two blues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

INK = "#1c2430"

MUTED = "#6a7383"

TRACK = "#eceff3"

RIGHT = "#1a8a4a"

WRONG = "#c8321f"

DPI = 200


@dataclass(frozen=True)
class Method:
    """One way of training: display name, colour, a sentence about it; a control is there to be compared with: it knows
    what the others may not know, or is what else could explain their difference.
    """

    label: str
    color: str
    meaning: str
    control: bool = False


METHODS = {
    "nominal": Method("Nominal", "#4a4f57", "Ordinary training on the biased images."),
    "mixup": Method("mixup", "#e69f00", "Weighted averages of two training images, and of their labels."),
    "linf": Method("l∞ adversarial", "#cc79a7", "Images with every pixel moved, within a small bound, to hurt most."),
    "randmix": Method("RandMix", "#56b4e9", "Each image also with the z⊥ of another one, drawn at random."),
    "advmix": Method(
        "AdvMix", "#0072b2", "Each image also with the z⊥ that a search found to hurt the classifier most."
    ),
    "ceiling": Method(
        "Ceiling", "#009e73", "Trained on digits whose colours say nothing: the data one would want.", True
    ),
    "jitter": Method(
        "Colour jitter", "#999933", "Each image also with brightness, contrast, saturation and hue changed.", True
    ),
    "grayscale": Method("Greyscale", "#9aa1ab", "Sees no colour, because somebody knew that colour misleads.", True),
    "instnorm": Method(
        "Instance norm", "#332288", "Sees every channel less its mean, over its deviation: nearly no colour.", True
    ),
}


def method(name: str) -> Method:
    """What is known of a method; one that is not known is called by its own name, in grey."""
    return METHODS.get(name, Method(name, MUTED, ""))


def method_label(name: str) -> str:
    """Display name, `"linf"` to `"l∞ adversarial"`."""
    return method(name).label


def method_color(name: str) -> str:
    """Colour as `#rrggbb`."""
    return method(name).color


class Canvas:
    """A white `Figure` of `width` times `height` inches."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Empty axes without ticks and frame."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def image(self, image: Tensor, left: float, top: float, width: float, height: float) -> Axes:
        """`(3, H, W)` in [0, 1], pixel by pixel."""
        axes = self.axes(left, top, width, height)
        pixels = image.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        return axes

    def sheet(self, images: Tensor, columns: int, rows: int, left: float, top: float, size: float) -> None:
        """`(N, 3, H, W)`, row by row, as one picture: each `size` inches wide, `sheet_pitch` to the next."""
        picture, scale = tile(images, columns, rows), size / images.shape[-1]
        self.image(picture, left, top, scale * picture.shape[-1], scale * picture.shape[-2])

    def text(self, left: float, top: float, text: str, size: float = 10, **style: Any) -> None:
        """Text as it is: a dollar sign starts no formula."""
        style = {"color": INK, "ha": "center", "va": "center", **style}
        self.figure.text(left / self.width, 1 - top / self.height, text, fontsize=size, parse_math=False, **style)


def frame(axes: Axes, color: str, width: float = 2.5) -> None:
    """A coloured frame around the axes, so many points thick."""
    axes.spines[:].set(visible=True, color=color, linewidth=width)


def sheet_pitch(size: float, images: Tensor) -> float:
    """Inches from one image to the next on a sheet of images `size` inches wide."""
    return size * (1 + _gap(images) / images.shape[-1])


def _gap(images: Tensor) -> int:
    return max(1, images.shape[-2] // 10)


def tile(images: Tensor, columns: int, rows: int) -> Tensor:
    """`(N, 3, H, W)` as one picture of `rows` times `columns` on white, row by row; what is missing stays white."""
    height, width = images.shape[-2:]
    gap = _gap(images)
    sheet = images.new_ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, image in enumerate(images[: rows * columns]):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def of_class(images: Tensor, labels: Tensor, index: int, count: int) -> Tensor:
    """The first `count` images `(N, 3, H, W)` of one class."""
    return images[torch.nonzero(labels == index)[:count, 0].to(images.device)]


def shorten(text: str, length: int = 11) -> str:
    """At most `length` characters, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
