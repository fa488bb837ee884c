"""Statistics of one image, straight from their definitions: slow, in numpy and loops.

Each function takes an image `(C, H, W)` in [0, 1] and gives its statistics `(L, D)` and the image without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import logm, sqrtm

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


def covariance(image: Array) -> tuple[Array, Array]:
    if len(image) == 1:
        return moments(image)
    means = image.mean(axis=(1, 2))
    square = np.cov(image.reshape(3, -1), bias=True) + FLOOR**2 * np.eye(3)
    log = logm(square).real / (2 * np.log(2))
    grid = np.empty_like(image)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            grid[:, row, column] = np.linalg.solve(sqrtm(square).real, image[:, row, column] - means)
    pairs = [log[0, 1], log[0, 2], log[1, 2]]
    return np.array([opponent(means.tolist()), opponent(np.diag(log).tolist()), pairs]), grid


def resize_line(line: Array, length: int) -> Array:
    """Each new pixel is a mean of the old ones, weighted by a triangle that is two new, or two old, pixels wide."""
    scale = len(line) / length
    found = []
    for place in range(length):
        weights = [max(0.0, 1 - abs(old + 0.5 - (place + 0.5) * scale) / max(scale, 1)) for old in range(len(line))]
        found.append(float(np.dot(weights, line)) / sum(weights))
    return np.array(found)


def resize(channel: Array, size: tuple[int, int]) -> Array:
    rows = np.array([resize_line(row, size[1]) for row in channel])
    return np.array([resize_line(column, size[0]) for column in rows.T]).T


def bands_of(channel: Array) -> list[Array]:
    """Burt and Adelson's bands, from fine to coarse, each enlarged through all sizes above its own."""
    sizes, bands, current = [channel.shape], [], channel
    for _ in range(3):
        small = resize(current, (math.ceil(current.shape[0] / 2), math.ceil(current.shape[1] / 2)))
        bands.append(current - resize(small, current.shape))
        sizes.append(small.shape)
        current = small
    bands.append(current)
    for level in range(4):
        for size in reversed(sizes[:level]):
            bands[level] = resize(bands[level], size)
    return bands


def pyramid(image: Array) -> tuple[Array, Array]:
    deviations, grid = [], []
    for channel in image:
        bands = bands_of(channel)
        deviations.append([deviation(band, FINE_FLOOR) for band in bands])
        grid += [(band - band.mean()) / s for band, s in zip(bands, deviations[-1], strict=True)]
    styles = [opponent([channel.mean() for channel in image])]
    styles += [opponent([float(np.log2(each[level])) for each in deviations]) for level in range(4)]
    return np.array(styles), np.array(grid)


def cell_means(channel: Array) -> Array:
    """Cells that share a row or column where the side is no multiple of three."""
    found = np.empty((3, 3))
    height, width = channel.shape
    for row in range(3):
        for column in range(3):
            rows = slice(math.floor(row * height / 3), math.ceil((row + 1) * height / 3))
            columns = slice(math.floor(column * width / 3), math.ceil((column + 1) * width / 3))
            found[row, column] = channel[rows, columns].mean()
    return found


def local(image: Array) -> tuple[Array, Array]:
    means, logs, grid = [], [], []
    for channel in image:
        means.append(cell_means(channel))
        rest = channel - resize(means[-1], channel.shape)
        logs.append(np.log2(np.sqrt(cell_means(rest**2) + FLOOR**2)))
        grid.append(rest / 2 ** resize(logs[-1], channel.shape))
    cells = [(row, column) for row in range(3) for column in range(3)]
    styles = [
        [number for cell in cells for number in opponent([each[cell] for each in part])] for part in (means, logs)
    ]
    return np.array(styles), np.array(grid)


def fourier(image: Array) -> tuple[Array, Array]:
    """All 25 frequencies are changed; of those that are conjugate, one is told."""
    logs: dict[tuple[int, int], list[float]] = {}
    grid = []
    for channel in image:
        spectrum = np.fft.fft2(channel) / channel.size
        for down in range(-2, 3):
            for across in range(-2, 3):
                amplitude = np.sqrt(np.abs(spectrum[down, across]) ** 2 + FINE_FLOOR**2)
                spectrum[down, across] /= amplitude
                logs.setdefault((down, across), []).append(float(np.log2(amplitude)))
        plain = np.fft.ifft2(spectrum * channel.size)
        assert np.abs(plain.imag).max() < 1e-9
        grid.append(plain.real)
    told = [(0, 0), (1, 0), (2, 0), *((down, across) for across in (1, 2) for down in range(-2, 3))]
    return np.array([[number for each in told for number in opponent(logs[each])]]), np.array(grid)


REFERENCES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "moments": moments,
    "covariance": covariance,
    "pyramid": pyramid,
    "local": local,
    "fourier": fourier,
}
