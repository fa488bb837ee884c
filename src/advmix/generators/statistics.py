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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.generators.base import Generator, State
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError

SMALLEST = 16
"""Height and width in pixels that an image must have."""

FLOOR, FINE_FLOOR = 0.02, 0.005
"""Of deviations, in units of an image in [0, 1]: of whole images; of bands and of waves, which are fainter."""

LEVELS = 3
"""Of the Laplacian pyramid, without the low-pass rest."""

SIDE = 3
"""Cells of the coarse grid, across and down."""

FREQUENCIES = tuple((down, across) for across in range(3) for down in range(-2, 3) if across or down >= 0)
"""Waves down and across an image of all whose numbers are at most 2; of each and its negative, one."""

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


def _colour_names(channels: int, what: str = "") -> tuple[str, ...]:
    names = ("exposure", "warmth: red - blue", "tint: green - (red + blue)/2")
    ranges = ("0 to 1", "-1 to 1", "-1 to 1")
    return tuple(f"{name}{what} ({ends})" for name, ends in zip(names[:channels], ranges, strict=False))


def _log_names(channels: int, what: str) -> tuple[str, ...]:
    each = ("", ": red - blue", ": green - (red + blue)/2")
    return tuple(f"{what}{name} (stops)" for name in each[:channels])


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
}
"""By name: another one is one more entry."""


@dataclass(frozen=True)
class StatisticsConfig:
    """Which statistics of an image are its style.

    Args:
        kind: `moments`.
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
        """The image without its statistics.

        Raises:
            UserError: a split for another generator, or of the grid.
        """
        if split.grid:
            raise UserError("split: the grid cannot be z⊥ of statistics, because it is the image itself")
        self.check_split(split, has_grid=True)
        if latents.grid is None:
            raise ValueError("statistics are put into a spatial grid, and the latents have none")
        beside = None if self.kind.prepare is None else self.kind.prepare(latents.grid)
        return State(latents.grid, latents, split, beside)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """With the statistics of `perp` `(B, P)`, and the image's own where they are not z⊥: around [-1, 1]."""
        styles = state.split.with_perp(state.latents, perp).styles
        beside = () if state.beside is None else (state.beside,)
        return self.kind.put(styles, state.features, *beside) * 2 - 1
