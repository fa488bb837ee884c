"""Harder looks of digits, which only the studies have: two colours, or two procedural textures.

Importing this module makes them looks of painted digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.commands import demo
from advmix.data.digits import MEAN_COLORS, PAINTINGS, Painting, noisy

MIN_CONTRAST = 0.5

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


PAINTINGS |= {"double-colored": lambda std, _: DoubleColored(std), "wildlife": lambda std, _: Wildlife(std)}

demo.HINTS |= {
    "double-colored": ("each class has\nits own colours", "both colours\nat random"),
    "wildlife": ("each class has\nits own textures", "both textures\nat random"),
}
