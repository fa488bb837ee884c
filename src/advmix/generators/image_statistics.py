"""A generator without weights: `z⊥` are statistics of an image, `z∥` is the image with its statistics taken out.

Putting them in again is the exact inverse. Means and deviations: Reinhard et al., "Color transfer between images"
(2001); the same of features: Huang and Belongie, "Arbitrary style transfer in real-time with adaptive instance
normalization" (2017). Bands: Burt and Adelson, "The Laplacian pyramid as a compact image code" (1983). Amplitudes of
low frequencies: Yang and Soatto, "FDA: Fourier domain adaptation for semantic segmentation" (2020).

All statistics are of images in [0, 1]. Every deviation `s` has a soft floor, `sqrt(variance + floor^2)`, so that an
image that is nearly flat does not become noise. What is said of red, green and blue is kept as their mean, red - blue
and green - (red + blue) / 2: a step of a search has one unit per number, and these vary by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.generators.base import Generator, State
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError

FLOOR, FINE_FLOOR = 0.02, 0.005
"""Of deviations, in units of an image in [0, 1]: of whole images; of bands and of waves, which are fainter."""

LEVELS = 3
"""Of the Laplacian pyramid, without the low-pass rest."""

SIDE = 3
"""Cells of the coarse grid, across and down."""

REACH = 2
"""Waves across and down an image, at most."""


def frequencies(device: torch.device) -> Tensor:
    """Waves down and across, `(F, 2)`; of each wave and its conjugate, one. Made where they are used: a copy from the
    CPU would wait for a GPU.
    """
    across, down = torch.arange(REACH + 1, device=device), torch.arange(-REACH, REACH + 1, device=device)
    return torch.cartesian_prod(across, down)[REACH:].flip(1)


FREQUENCIES: tuple[tuple[int, int], ...] = tuple(map(tuple, frequencies(torch.device("cpu")).tolist()))
"""The same as numbers."""

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
"""Of the cells, row by row."""

Names = dict[str, tuple[str, ...]]


def to_opponent(colours: Tensor) -> Tensor:
    """`(..., 3)` red, green, blue to mean, red - blue, green - (red + blue) / 2; `(..., 1)` stays."""
    if colours.shape[-1] == 1:
        return colours
    red, green, blue = colours.unbind(-1)
    return torch.stack([(red + green + blue) / 3, red - blue, green - (red + blue) / 2], dim=-1)


def from_opponent(numbers: Tensor) -> Tensor:
    """The inverse of `to_opponent`."""
    if numbers.shape[-1] == 1:
        return numbers
    mean, warmth, tint = numbers.unbind(-1)
    return torch.stack([mean - tint / 3 + warmth / 2, mean + tint * 2 / 3, mean - tint / 3 - warmth / 2], dim=-1)


def _log_root(square: Tensor, floor: float) -> Tensor:
    """`log2` of the root of a square, with a soft floor below the root."""
    return torch.log2(square + floor**2) / 2


def _colour_names(channels: int, where: str = "") -> tuple[str, ...]:
    names = (f"exposure{where} (0 to 1)", f"warmth{where}: red - blue (-1 to 1)")
    return (*names, f"tint{where}: green - (red + blue)/2 (-1 to 1)")[:channels]


def _log_names(channels: int, what: str) -> tuple[str, ...]:
    return tuple(f"{what}{colour} (stops)" for colour in ("", ": red - blue", ": green - (red + blue)/2")[:channels])


def take_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log deviations of the channels, `(B, 2, C)`; `(x - mean) / deviation`."""
    mean = images.mean(dim=(2, 3))
    centred = images - mean[..., None, None]
    log = _log_root(centred.square().mean(dim=(2, 3)), FLOOR)
    return to_opponent(torch.stack([mean, log], dim=1)), centred / log.exp2()[..., None, None]


def put_moments(styles: Tensor, normal: Tensor) -> Tensor:
    """`mean + deviation * normal`."""
    mean, log = from_opponent(styles)[..., None, None].unbind(1)
    return torch.addcmul(mean, normal, log.exp2())


def _moments_names(channels: int) -> Names:
    return {"mean colour": _colour_names(channels), "contrast": _log_names(channels, "contrast")}


def take_covariance(images: Tensor) -> tuple[Tensor, Tensor]:
    """Means, and diagonal and rest of `A = log2(covariance + floor^2 I) / 2`, `(B, 3, 3)`; `2^-A (x - mean)`.

    Of one channel it is `take_moments`. `A` and `2^-A` are constants for a gradient: that of an eigenvector is not a
    number where two eigenvalues are equal, as they are in a grey or a flat image.
    """
    mean = images.mean(dim=(2, 3))
    centred = (images - mean[..., None, None]).flatten(2)
    log, inverse_root = _log_root_of_matrix(centred.detach() @ centred.detach().mT / centred.shape[2])
    styles = [to_opponent(mean), to_opponent(log.diagonal(dim1=1, dim2=2))]
    if images.shape[1] > 1:
        first, second = _pairs(log)
        styles.append(log[:, first, second])
    return torch.stack(styles, dim=1), (inverse_root @ centred).view_as(images)


def put_covariance(styles: Tensor, normal: Tensor) -> Tensor:
    """`mean + 2^A normal`."""
    mean, diagonal, *beside = styles.unbind(1)
    log = torch.diag_embed(from_opponent(diagonal) / 2)
    if beside:
        first, second = _pairs(log)
        log[:, first, second] = beside[0]
    root = torch.linalg.matrix_exp(math.log(2) * (log + log.mT))
    return torch.baddbmm(from_opponent(mean)[..., None], root, normal.flatten(2)).view_as(normal)


def _pairs(matrices: Tensor) -> Tensor:
    """Row and column of what stands above the diagonal."""
    return torch.triu_indices(matrices.shape[1], matrices.shape[2], 1, device=matrices.device)


def _log_root_of_matrix(square: Tensor) -> tuple[Tensor, Tensor]:
    """`A = log2(square + floor^2 I) / 2` and `2^-A` of covariances `(B, C, C)`; in float64, by their eigenvectors."""
    values, vectors = torch.linalg.eigh(square.cpu().double())
    log = _log_root(values.clamp_min(0), FLOOR)[:, None]
    return (vectors * log @ vectors.mT).to(square), (vectors * (-log).exp2() @ vectors.mT).to(square)


def _covariance_names(channels: int) -> Names:
    pairs = ("red and green", "red and blue", "green and blue")
    correlation = {"colour correlation": tuple(f"correlation: {pair} (stops)" for pair in pairs)}
    return _moments_names(channels) | (correlation if channels > 1 else {})


def take_pyramid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log deviations of every band, `(B, 1 + bands, C)`; the bands without them, each as large as the image
    and those of a channel together, so that to put in is a weighted sum.
    """
    smooth = [_smoothed(images, times) for times in range(LEVELS + 1)]
    bands = torch.stack([*(fine - coarse for fine, coarse in pairwise(smooth)), smooth[-1]], dim=2)
    means = bands.mean(dim=(3, 4))
    centred = bands - means[..., None, None]
    log = _log_root(centred.square().mean(dim=(3, 4)), FINE_FLOOR)
    styles = torch.cat([means.sum(dim=2, keepdim=True), log], dim=2).mT
    return to_opponent(styles), (centred / log.exp2()[..., None, None]).flatten(1, 2)


def put_pyramid(styles: Tensor, normal: Tensor) -> Tensor:
    """`mean + sum of deviation * band`."""
    mean, *log = from_opponent(styles).unbind(1)
    gains = torch.stack(log, dim=2).exp2()
    bands = normal.unflatten(1, gains.shape[1:])
    weighted: Tensor = gains[:, :, None] @ bands.flatten(3)
    return weighted.view_as(bands[:, :, 0]) + mean[..., None, None]


def _smoothed(images: Tensor, times: int) -> Tensor:
    """Halved so many times and enlarged again step by step, by the binomial filter [1, 3, 3, 1] / 8."""
    if times == 0:
        return images
    size = tuple(-(-length // 2) for length in images.shape[2:])
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    return F.interpolate(_smoothed(small, times - 1), images.shape[2:], mode="bilinear")


def _pyramid_names(channels: int) -> Names:
    bands = [f"contrast of details of {2**level} pixels" for level in range(1, LEVELS + 1)]
    bands.append(f"contrast of what is larger than {2**LEVELS} pixels")
    return {"mean colour": _colour_names(channels), **{band: _log_names(channels, band) for band in bands}}


def take_local(images: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the cells, and log deviations from these means enlarged, `(B, 2, cells * C)`; the image without both,
    enlarged.
    """
    mean = F.adaptive_avg_pool2d(images, SIDE)
    centred = images - _enlarged(mean, images)
    log = _log_root(F.adaptive_avg_pool2d(centred.square(), SIDE), FLOOR)
    styles = torch.stack([mean, log], dim=1).flatten(3).mT
    return to_opponent(styles).flatten(2), centred / _enlarged(log, images).exp2()


def put_local(styles: Tensor, normal: Tensor) -> Tensor:
    """`mean + deviation * normal`, both enlarged."""
    cells = from_opponent(styles.unflatten(2, (SIDE * SIDE, normal.shape[1]))).mT
    mean, log = _enlarged(cells.unflatten(3, (SIDE, SIDE)), normal).unbind(1)
    return torch.addcmul(mean, normal, log.exp2())


def _enlarged(cells: Tensor, like: Tensor) -> Tensor:
    """`(..., SIDE, SIDE)` to the size of `like`, bilinear."""
    one = torch.eye(SIDE, dtype=like.dtype, device=like.device)[None]
    down, across = (F.interpolate(one, length, mode="linear")[0] for length in like.shape[2:])
    enlarged: Tensor = down.mT @ cells @ across
    return enlarged


def _local_names(channels: int) -> Names:
    def everywhere(names: Callable[[int, str], tuple[str, ...]], words: str) -> tuple[str, ...]:
        return tuple(name for place in PLACES for name in names(channels, words.format(place)))

    return {
        "mean colour by place": everywhere(_colour_names, ", {}"),
        "contrast by place": everywhere(_log_names, "contrast, {}"),
    }


def take_fourier(images: Tensor) -> tuple[Tensor, Tensor]:
    """Log amplitudes of the lowest frequencies, `(B, 1, frequencies * C)`; the image with these amplitudes all near 1.
    Phases stay.
    """
    waves = find_waves(images)
    log = _log_root(waves.abs().square(), FINE_FLOOR)
    return to_opponent(log.mT).flatten(1)[:, None], images + _drawn(waves * ((-log).exp2() - 1), images)


def put_fourier(styles: Tensor, normal: Tensor, waves: Tensor) -> Tensor:
    """`normal` with its `waves` times their amplitudes."""
    log = from_opponent(styles[:, 0].unflatten(1, (len(FREQUENCIES), normal.shape[1]))).mT
    return normal + _drawn(waves * (log.exp2() - 1), normal)


def find_waves(images: Tensor) -> Tensor:
    """Complex amplitudes of the lowest frequencies, `(B, C, frequencies)`, of no size: the first is the mean."""
    down, across = frequencies(images.device).mT
    spectrum: Tensor = torch.fft.rfft2(images, norm="forward")
    return spectrum[..., down, across]


def _drawn(waves: Tensor, like: Tensor) -> Tensor:
    """Waves and their conjugates as a real image of the size of `like`."""
    found = frequencies(like.device).to(like)
    twice = 1 + found.any(dim=1).to(like)  # the mean is its own conjugate
    down, across = (
        torch.outer(found[:, side], torch.arange(length, device=like.device).to(like) * (2 * math.pi / length))
        for side, length in enumerate(like.shape[2:])
    )
    rows = (waves * twice)[..., None] * torch.polar(torch.ones_like(down), down)
    return (rows.mT @ torch.polar(torch.ones_like(across), across)).real


def _fourier_names(channels: int) -> Names:
    waves = ["exposure", *(f"amplitude of {across} waves across, {down} down" for down, across in FREQUENCIES[1:])]
    return {"low frequencies": tuple(name for wave in waves for name in _log_names(channels, wave))}


@dataclass(frozen=True)
class Kind:
    """Which statistics.

    Args:
        take: images `(B, C, H, W)` in [0, 1] to statistics `(B, L, D)` and the grid `(B, bands * C, H, W)`.
        put: statistics and grid to images, the inverse.
        names: number of channels to the names of the L layers, each with those of its D numbers.
        bands: channels of the grid for each of the image's.
        prepare: grid to what `put` wants as a third argument, `(B, C, ...)`: all that no statistic changes.
    """

    take: Callable[[Tensor], tuple[Tensor, Tensor]]
    put: Callable[..., Tensor]
    names: Callable[[int], Names]
    bands: int = 1
    prepare: Callable[[Tensor], Tensor] | None = None


KINDS = {
    "moments": Kind(take_moments, put_moments, _moments_names),
    "covariance": Kind(take_covariance, put_covariance, _covariance_names),
    "pyramid": Kind(take_pyramid, put_pyramid, _pyramid_names, bands=LEVELS + 1),
    "local": Kind(take_local, put_local, _local_names),
    "fourier": Kind(take_fourier, put_fourier, _fourier_names, prepare=find_waves),
}
"""By name: another one is one more entry."""


@dataclass(frozen=True)
class StatisticsConfig:
    """Which statistics of an image are its style.

    Args:
        kind: `moments`, mean and deviation of each channel; `covariance`, mean colour and covariance of the channels;
            `pyramid`, mean colour and the deviations in each band of a Laplacian pyramid; `local`, moments in 3x3
            cells; `fourier`, amplitudes of at most two waves across and down.
        channels: image channels, 1 or 3.

    Raises:
        UserError: an unknown kind, or another number of channels.
    """

    kind: str = "moments"
    channels: int = 3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"statistics {str(self.kind)[:40]!r}: unknown; use {', '.join(KINDS)}")
        if type(self.channels) is not int or self.channels not in (1, 3):
            raise UserError(f"statistics: {str(self.channels)[:40]} channels; images of 1 or 3 have statistics")

    @property
    def any_size(self) -> bool:
        """Images of any height and width from 16 pixels."""
        return True

    @property
    def names(self) -> Names:
        """The layers' names, each with those of its numbers and their units."""
        return KINDS[self.kind].names(self.channels)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """L of them."""
        return tuple(self.names)

    def layer_name(self, layer: int) -> str:
        """What it holds."""
        return self.layer_names[layer]

    @property
    def number_names(self) -> tuple[tuple[str, ...], ...]:
        """L times D, each with its unit."""
        return tuple(self.names.values())

    @property
    def layers(self) -> int:
        """How many styles there are."""
        return len(self.names)

    @property
    def spatial_layers(self) -> int:
        """None."""
        return 0

    @property
    def style_dim(self) -> int:
        """Numbers in one style."""
        return len(self.number_names[0])

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Channels of the grid; its height and width are the image's, for which 0 stands."""
        return (KINDS[self.kind].bands * self.channels, 0, 0)

    @property
    def resolution(self) -> int:
        """0: the image's own."""
        return 0

    @property
    def start(self) -> int:
        """0: the image's own."""
        return 0


class Statistics(Generator):
    """Puts statistics into an image without them.

    >>> generator, encoder = Statistics(config), StatisticsEncoder(config)
    >>> generator(encoder(images))                                          # images, of any size
    >>> generator(split.combine(encoder(images), encoder(donors)))          # with the donors' statistics

    Attributes:
        place: without numbers; it is where the generator is.
    """

    any_size = exact = True

    def __init__(self, config: StatisticsConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.channels, self.layers = config.resolution, config.channels, config.layers
        self.kind = KINDS[config.kind]
        self.place = nn.Parameter(torch.empty(0))

    def prefix(self, latents: Latents, split: Split) -> State:
        """The image without its statistics; where the grid is z⊥, too, nothing can be prepared.

        Raises:
            UserError: a split for another generator.
        """
        self.check_split(split, has_grid=True)
        if latents.grid is None:
            raise ValueError("statistics are put into a spatial grid, and the latents have none")
        beside = None if self.kind.prepare is None or split.grid else self.kind.prepare(latents.grid)
        return State(latents.grid, latents, split, beside)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """With the statistics of `perp` `(B, P)`, and the image's own where they are not z⊥: around [-1, 1]."""
        latents = state.split.with_perp(state.latents, perp)
        grid, prepare, beside = latents.grid, self.kind.prepare, state.beside
        assert grid is not None
        if prepare is not None:
            images = self.kind.put(latents.styles, grid, prepare(grid) if beside is None else beside)
        else:
            images = self.kind.put(latents.styles, grid)
        return images * 2 - 1
