"""How grey digits are painted, so that a class shows in training and says nothing in tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MEAN_COLORS = torch.tensor(
    [
        [0.90, 0.15, 0.15],  # red
        [0.10, 0.65, 0.20],  # green
        [0.25, 0.35, 1.00],  # blue
        [0.95, 0.90, 0.15],  # yellow
        [0.90, 0.20, 0.90],  # magenta
        [0.15, 0.90, 0.90],  # cyan
        [1.00, 0.55, 0.10],  # orange
        [0.95, 0.95, 0.95],  # white
        [0.50, 0.45, 0.40],  # grey
        [1.00, 0.65, 0.75],  # pink
    ]
)

COLOR_NAMES = ("red", "green", "blue", "yellow", "magenta", "cyan", "orange", "white", "grey", "pink")

LUMA = torch.tensor([0.299, 0.587, 0.114])

MIN_BRIGHTNESS = 0.3


def noisy(means: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """`clip(mean + N(0, std²), 0, 1)`, `(N, ...)`."""
    return (means + std * torch.randn(means.shape, generator=rng)).clamp(0, 1)


def bright(colors: Tensor) -> Tensor:
    """Which colours `(N, 3)` are bright enough to see: Rec. 601 luma of at least 0.3."""
    return colors @ LUMA >= MIN_BRIGHTNESS


def uniform_colors(count: int, rng: torch.Generator) -> Tensor:
    """`(count, 3)`, uniform over the RGB cube above the brightness floor, by rejection."""
    colors = torch.empty(0, 3)
    while len(colors) < count:
        draw = torch.rand(2 * count, 3, generator=rng)
        colors = torch.cat([colors, draw[bright(draw)]])
    return colors[:count]


def color_grid(levels: int = 4) -> Tensor:
    """The fixed grid of the exact worst case: all bright colours with channels in {0, 1/3, 2/3, 1}, `(G, 3)`."""
    axis = torch.linspace(0, 1, levels)
    grid = torch.cartesian_prod(axis, axis, axis)
    return grid[bright(grid)]


class Painting(ABC):
    """How digits are painted.

    >>> look = Colored(MEAN_COLORS, std=0.1)
    >>> images = look.paint(gray, look.of_classes(labels[:, None], rng))     # as in training: the class shows
    >>> images = look.paint(gray, look.of_classes(look.any_classes(len(gray), rng), rng))     # the class says nothing

    Attributes:
        parts: how many parts of an image have a class of their own in an unbiased test (digit; background).
        classes: how many class looks there are of each part.
    """

    parts: int = 1
    classes: int = 10

    @abstractmethod
    def of_classes(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Paints `(N, P)` that look like `classes` `(N, parts)`, with some noise."""

    @abstractmethod
    def anything(self, count: int, rng: torch.Generator) -> Tensor:
        """Paints `(count, P)` from all over the space, most of them never seen in training."""

    @abstractmethod
    def grid(self) -> Tensor:
        """The fixed paints `(G, P)` of the exact worst case."""

    @abstractmethod
    def paint(self, gray: Tensor, paints: Tensor) -> Tensor:
        """Grey digits `(N, 1, H, W)` in [0, 1] under paints `(N, P)`: `(N, 3, H, W)` in [0, 1]."""

    def any_classes(self, count: int, rng: torch.Generator) -> Tensor:
        """Classes `(count, parts)`, uniform and independent, of looks that can be seen."""
        return torch.randint(self.classes, (count, self.parts), generator=rng)


@dataclass(frozen=True, eq=False)
class Colored(Painting):
    """One colour per image, `gray * clip(mean[c] + N(0, std²), 0, 1)`: Colored-MNIST.

    Args:
        means: `(C, 3)` in [0, 1].
        std: standard deviation around the mean, colours in [0, 1].
    """

    means: Tensor
    std: float

    def of_classes(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Colours `(N, 3)` around the classes' means."""
        return noisy(self.means[classes[:, 0]], self.std, rng)

    def anything(self, count: int, rng: torch.Generator) -> Tensor:
        """Uniform over the bright part of the RGB cube."""
        return uniform_colors(count, rng)

    def grid(self) -> Tensor:
        """48 bright colours."""
        return color_grid()

    def paint(self, gray: Tensor, paints: Tensor) -> Tensor:
        """`gray * colour`, on black."""
        return gray * paints[:, :, None, None]


PAINTINGS: dict[str, Callable[[float, Tensor], Painting]] = {"colored": lambda std, means: Colored(means, std)}
"""By name: from the standard deviation of the colours, and the classes' mean colours `(10, 3)`."""


def make_painting(name: str, std: float, means: Tensor = MEAN_COLORS) -> Painting:
    """A painting by its name, one of `PAINTINGS`; `means` are the mean colours of `colored`."""
    return PAINTINGS[name](std, means)
