"""Statistics of one image, straight from their definitions: slow, in numpy and loops.

Each function takes an image `(C, H, W)` in [0, 1] and gives its statistics `(L, D)` and the image without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FLOOR, FINE_FLOOR = 0.02, 0.005


def opponent(colours: Sequence[float]) -> list[float]:
    if len(colours) == 1:
        return [colours[0]]
    red, green, blue = colours
    return [(red + green + blue) / 3, red - blue, green - (red + blue) / 2]


def deviation(values: Array, floor: float) -> float:
    return float(np.sqrt(np.mean((values - values.mean()) ** 2) + floor**2))


def moments(image: Array) -> tuple[Array, Array]:
    means = [float(channel.mean()) for channel in image]
    deviations = [deviation(channel, FLOOR) for channel in image]
    grid = [(channel - mean) / s for channel, mean, s in zip(image, means, deviations, strict=True)]
    return np.array([opponent(means), opponent([float(np.log2(s)) for s in deviations])]), np.array(grid)


REFERENCES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "moments": moments,
}
