"""Procedural textures: ten patterns, each a function of two coordinates that repeat every unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Pattern = Callable[[Tensor, Tensor], Tensor]

"""Coordinates `u`, `v` (any shape, one unit is one pitch) to values in [0, 1]."""


def _wave(u: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.cos(2 * torch.pi * u)


def _saw(u: Tensor) -> Tensor:
    return u - u.floor()


def _near(u: Tensor, v: Tensor) -> Tensor:
    """Distance to the nearest point of the unit lattice."""
    return torch.hypot(u - u.round(), v - v.round())


TEXTURES: dict[str, Pattern] = {
    "stripes": lambda u, v: (_wave(u) > 0.5).float(),
    "dots": lambda u, v: (_near(u, v) < 0.3).float(),
    "checks": lambda u, v: (u.floor() + v.floor()) % 2,
    "waves": lambda u, v: (_wave(u + 0.25 * torch.sin(2 * torch.pi * v)) > 0.5).float(),
    "rings": lambda u, v: _wave(2 * _near(u / 2, v / 2)),
    "ramp": lambda u, v: _saw(u),
    "grid": lambda u, v: torch.maximum(_wave(u), _wave(v)) ** 4,
    "zigzag": lambda u, v: (_saw(u + (2 * _saw(v) - 1).abs()) > 0.5).float(),
    "bricks": lambda u, v: ((_saw(v) > 0.25) & (_saw(u / 2 + 0.5 * (v.floor() % 2)) > 0.125)).float(),
    "marble": lambda u, v: _wave(u + 0.4 * torch.sin(3.1 * v) + 0.3 * torch.sin(2.3 * u + 4.7 * v)),
}


def texture(rows: Tensor, side: int) -> Tensor:
    """Textures `(N, 3, side, side)` in [0, 1].

    Args:
        rows: `(N, 11)`: index of the pattern, direction in radians, pitch in pixels, place along both axes in pitches,
            then two RGB colours in [0, 1] for the pattern's ones and zeros.
        side: in pixels.
    """
    axis = torch.arange(side, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    kind, angle, pitch, right, down = (rows[:, index, None, None] for index in range(5))
    u = (x * angle.cos() + y * angle.sin()) / pitch + right
    v = (y * angle.cos() - x * angle.sin()) / pitch + down
    value = torch.zeros(len(rows), side, side)
    for index, pattern in enumerate(TEXTURES.values()):
        chosen = kind.flatten() == index
        value[chosen] = pattern(u[chosen], v[chosen])
    ones, zeros = rows[:, 5:8, None, None], rows[:, 8:11, None, None]
    return zeros + value[:, None] * (ones - zeros)


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

MIN_CONTRAST = 0.5


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


def apart_colors(count: int, rng: torch.Generator) -> Tensor:
    """`(count, 3)` bright colours, each one as far as possible from those before it among 512 random ones."""
    pool = uniform_colors(512, rng)
    chosen = pool[:1]
    while len(chosen) < count:
        distance = torch.cdist(pool, chosen).min(dim=1).values
        chosen = torch.cat([chosen, pool[distance.argmax()][None]])
    return chosen


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


@dataclass(frozen=True, eq=False)
class DoubleColored(Painting):
    """Digit and background each have a class colour, at least `MIN_CONTRAST` apart (Euclidean, RGB in [0, 1]).

    In the manner of Sauer and Geiger, "Counterfactual Generative Networks" (2021), with colours of our own: the
    background of class `c` has the mean colour of class `c + 1`.
    """

    std: float
    parts: int = 2

    def means(self, classes: Tensor) -> Tensor:
        """`(N, 2)` classes to `(N, 6)` mean colours."""
        return torch.cat([MEAN_COLORS[classes[:, 0]], MEAN_COLORS.roll(-1, 0)[classes[:, 1]]], dim=1)

    def of_classes(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """`(N, 6)`: the digit's colour, the background's."""
        return noisy(self.means(classes), self.std, rng)

    def any_classes(self, count: int, rng: torch.Generator) -> Tensor:
        """Pairs with enough contrast, by rejection."""
        found = torch.empty(0, 2, dtype=torch.long)
        while len(found) < count:
            draw = torch.randint(self.classes, (2 * count, 2), generator=rng)
            found = torch.cat([found, draw[contrast(self.means(draw)) >= MIN_CONTRAST]])
        return found[:count]

    def anything(self, count: int, rng: torch.Generator) -> Tensor:
        """Both colours uniform over the RGB cube, by rejection of pairs with too little contrast."""
        found = torch.empty(0, 6)
        while len(found) < count:
            draw = torch.rand(2 * count, 6, generator=rng)
            found = torch.cat([found, draw[contrast(draw) >= MIN_CONTRAST]])
        return found[:count]

    def grid(self) -> Tensor:
        """All 56 ordered pairs of different corners of the RGB cube."""
        corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        pairs = [torch.cat([a, b]) for a in corners for b in corners if not torch.equal(a, b)]
        return torch.stack(pairs)

    def paint(self, gray: Tensor, paints: Tensor) -> Tensor:
        """`gray * digit + (1 - gray) * background`."""
        digit, background = paints[:, :3, None, None], paints[:, 3:, None, None]
        return gray * digit + (1 - gray) * background


def contrast(pairs: Tensor) -> Tensor:
    """Distance of the two colours of `(N, 6)`: `(N,)`."""
    distance: Tensor = (pairs[:, :3] - pairs[:, 3:]).norm(dim=1)
    return distance


@dataclass(frozen=True, eq=False)
class Wildlife(Painting):
    """Digit and background each have a class texture: pattern, direction, pitch and two colours of its own.

    Procedural, in the manner of Wildlife MNIST (Sauer and Geiger, 2021). Digits take the bright half of every colour,
    backgrounds the dark half, so that any digit shows on any background. Place and, slightly, direction and pitch vary
    from image to image, colours with `std`.
    """

    std: float
    parts: int = 2

    def of_classes(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """`(N, 22)`: eleven numbers of the digit's texture, eleven of the background's."""
        halves = [self._of_part(classes[:, part], part, rng) for part in range(2)]
        return torch.cat(halves, dim=1)

    def _of_part(self, classes: Tensor, part: int, rng: torch.Generator) -> Tensor:
        mean = class_textures(part)[classes]
        shape = mean[:, :3] + torch.tensor([0.0, 0.05, 0.2]) * torch.randn(len(mean), 3, generator=rng)
        place = torch.rand(len(mean), 2, generator=rng)
        return torch.cat([shape, place, noisy(mean[:, 5:], self.std, rng)], dim=1)

    def anything(self, count: int, rng: torch.Generator) -> Tensor:
        """Any pattern in any direction, pitch and pair of colours."""
        halves = []
        for part in range(2):
            kind = torch.randint(len(TEXTURES), (count, 1), generator=rng).float()
            rest = torch.rand(count, 10, generator=rng)
            angle, pitch = torch.pi * rest[:, :1], 4 + 8 * rest[:, 1:2]
            halves.append(torch.cat([kind, angle, pitch, rest[:, 2:4], half_of(rest[:, 4:], part)], dim=1))
        return torch.cat(halves, dim=1)

    def grid(self) -> Tensor:
        """Every class texture of the digit on every class texture of the background, in one fixed place: 100."""
        digit, background = class_textures(0), class_textures(1)
        return torch.stack([torch.cat([a, b]) for a in digit for b in background])

    def paint(self, gray: Tensor, paints: Tensor) -> Tensor:
        """`gray * digit's texture + (1 - gray) * background's texture`."""
        side = gray.shape[-1]
        return gray * texture(paints[:, :11], side) + (1 - gray) * texture(paints[:, 11:], side)


def half_of(colors: Tensor, part: int) -> Tensor:
    """Colours in [0, 1] to the bright half for digits (part 0), the dark half for backgrounds."""
    low, width = (0.55, 0.45) if part == 0 else (0.0, 0.4)
    return low + width * colors


def class_textures(part: int) -> Tensor:
    """`(10, 11)`: pattern, direction, pitch in pixels, place (2), two colours; a digit's class `c` differs in all
    from the background's.
    """
    index = torch.arange(10)
    kind = (index + 3 * part) % len(TEXTURES)
    angle = torch.pi * ((index * 3 + part) % 10) / 10
    pitch = 5.0 + (index * 7 + part) % 10 * 0.6
    first = MEAN_COLORS.roll(-part, 0)
    second = 1 - MEAN_COLORS.roll(-2 - part, 0)
    colors = half_of(torch.cat([first, second], dim=1), part)
    return torch.cat([torch.stack([kind.float(), angle, pitch], 1), torch.zeros(10, 2), colors], dim=1)


def make_painting(name: str, std: float, means: Tensor = MEAN_COLORS) -> Painting:
    """A look by its name, one of `LOOKS`; `means` are the mean colours of `colored`."""
    if name == "colored":
        return Colored(means, std)
    return DoubleColored(std) if name == "double-colored" else Wildlife(std)
