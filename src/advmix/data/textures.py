"""Procedural textures: ten patterns, each a function of two coordinates that repeat every unit."""

from __future__ import annotations

from collections.abc import Callable

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
