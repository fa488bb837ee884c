"""What style networks have in common: layers from coarse to fine, each with a style that enters by AdaIN."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.generators.base import Generator, State
from advmix.generators.layers import UpsampledConv2d, instance_norm
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError


class NetworkConfig(Protocol):
    """The numbers of a style network's shape that its encoder and its reader need."""

    @property
    def resolution(self) -> int:
        """Image height and width in pixels."""

    @property
    def channels(self) -> int:
        """Image channels, 1 or 3."""

    @property
    def style_dim(self) -> int:
        """Numbers in one layer's style."""

    @property
    def layers(self) -> int:
        """How many styles there are, two per resolution."""

    @property
    def spatial_layers(self) -> int:
        """How many of them, the first ones, act at a resolution; the others act on the image as a whole."""

    @property
    def start(self) -> int:
        """Side of the first feature map in pixels."""

    @property
    def grid_shape(self) -> tuple[int, int, int] | None:
        """`(C, H, W)` of the spatial `z∥` grid, or None; of a network of any size for images of `resolution`."""

    @property
    def any_size(self) -> bool:
        """Whether it draws images of any size."""

    def layer_name(self, layer: int) -> str:
        """What a layer is called where a person reads it."""

    @property
    def number_names(self) -> tuple[tuple[str, ...], ...]:
        """What each layer's numbers are, with their units; empty where they have no meaning by themselves."""


class FromConstant:
    """A network that starts from a learned constant of four pixels: what `NetworkConfig` asks for follows from its
    widths.
    """

    widths: tuple[int, ...]
    any_size = False
    number_names: tuple[tuple[str, ...], ...] = ()

    @property
    def layers(self) -> int:
        """Two styles per resolution."""
        return 2 * len(self.widths)

    @property
    def spatial_layers(self) -> int:
        """All."""
        return self.layers

    @property
    def start(self) -> int:
        """Side of the learned constant in pixels."""
        return 4

    def layer_name(self, layer: int) -> str:
        """Its number."""
        return f"layer {layer}"

    @property
    def grid_shape(self) -> None:
        """No spatial grid: a code of styles alone."""
        return


LARGEST, DEEPEST = 2**13, 64

"""Of any number in a network's shape, and of layers one behind the other."""


def check_sizes(sizes: Mapping[str, Any], names: str, least: int = 1, most: int = LARGEST) -> None:
    """Refuse a shape that no network has.

    Args:
        sizes: settings by name.
        names: which of them are meant: each is a whole number, or 1 to `DEEPEST` of them.
        least: of any number.
        most: of any number.

    Raises:
        UserError: naming the setting and its value.
    """
    for name in names.split():
        numbers = sizes[name] if isinstance(sizes[name], tuple) else (sizes[name],)
        if not 0 < len(numbers) <= DEEPEST:
            raise UserError(f"network: {name} are {len(numbers):,} numbers; 1 to {DEEPEST} are possible")
        for number in numbers:
            if type(number) is not int or not least <= number <= most:
                raise UserError(f"network: {name} {str(number)[:40]}: must be a whole number from {least} to {most:,}")


def check_widths(widths: Sequence[int], start: int, resolution: int) -> None:
    """Refuse widths, one per doubling from `start` pixels, that do not end at `resolution`.

    Raises:
        UserError: saying where they end.
    """
    end = start * 2 ** (len(widths) - 1)
    if end != resolution:
        raise UserError(
            f"generator: {len(widths)} widths from {start} pixels end at {end} pixels, not at resolution {resolution}"
        )


class AdaptiveLayer(nn.Module, ABC):
    """A layer in two parts: features that its own style does not touch, then scale and shift by that style."""

    affine: nn.Module

    @abstractmethod
    def normalised(self, x: Tensor) -> Tensor:
        """Features before the style: all of the layer that its own style does not touch."""

    def modulate(self, x: Tensor, style: Tensor) -> Tensor:
        """AdaIN: `x * (1 + scale(style)) + shift(style)`."""
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)


class LayeredGenerator(Generator):
    """Two-stage decoding with a style per layer, from a learned constant or, where there is none, a spatial grid.

    Attributes:
        constant: `(1, C, start, start)`, or None.
        synthesis: the `AdaptiveLayer`s, coarse to fine.
        to_image: features to pixels around [-1, 1].
    """

    constant: nn.Parameter | None
    synthesis: nn.ModuleList
    to_image: nn.Conv2d

    def _layer(self, index: int) -> AdaptiveLayer:
        layer = self.synthesis[index]
        assert isinstance(layer, AdaptiveLayer)
        return layer

    def _start(self, latents: Latents) -> Tensor:
        if self.constant is not None:
            return self.constant.expand(len(latents), -1, -1, -1)
        if latents.grid is None:
            raise ValueError("this generator starts from a spatial grid, and the latents have none")
        return latents.grid

    def prefix(self, latents: Latents, split: Split) -> State:
        """Up to the normalised features of the first `z⊥` layer: they do not depend on that layer's own style."""
        self.check_split(split, has_grid=self.constant is None)
        x = self._start(latents)
        if split.grid:
            return State(x, latents, split)
        for index in range(split.first):
            layer = self._layer(index)
            x = layer.modulate(layer.normalised(x), latents.styles[:, index])
        return State(self._layer(split.first).normalised(x), latents, split)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """From the first `z⊥` layer to pixels around [-1, 1]."""
        latents = state.split.with_perp(state.latents, perp)
        x = self._layer(0).normalised(self._start(latents)) if state.split.grid else state.features
        for index in range(state.split.first, self.layers):
            layer = self._layer(index)
            x = layer.modulate(x if index == state.split.first else layer.normalised(x), latents.styles[:, index])
        image: Tensor = self.to_image(x)
        return image


@dataclass(frozen=True)
class StyleConfig:
    """Shape of a style network.

    Args:
        resolution: image height and width in pixels, `start` times a power of two.
        channels: image channels, 1 or 3.
        style_dim: numbers in one layer's style.
        widths: feature channels at each resolution, from `start` to `resolution`.
        start: side of the first feature map in pixels: a learned constant, or the spatial grid.
        grid_channels: channels of the spatial `z∥` grid; 0 for a code of styles alone.
        working_size: longer side in pixels at which images of any size are worked at: larger ones are shrunk to it,
            and the change that a mix makes is enlarged. 0 for a network that draws images of `resolution` alone. A
            network of any size starts from a grid, and was trained on crops of `resolution` pixels.
    """

    resolution: int = 16
    channels: int = 3
    style_dim: int = 64
    widths: tuple[int, ...] = (64, 64, 32)
    start: int = 4
    grid_channels: int = 0
    working_size: int = 0

    def __post_init__(self) -> None:
        check_sizes(vars(self), "resolution channels style_dim widths start")
        check_sizes(vars(self), "grid_channels working_size", least=0)
        check_widths(self.widths, self.start, self.resolution)
        if self.working_size and not self.grid_channels:
            raise UserError(f"network: working_size {self.working_size}: only of a network with a grid")

    @property
    def any_size(self) -> bool:
        """Whether it draws images of any size."""
        return self.working_size > 0

    def layer_name(self, layer: int) -> str:
        """Its number."""
        return f"layer {layer}"

    @property
    def number_names(self) -> tuple[tuple[str, ...], ...]:
        """None: its numbers were learned."""
        return ()

    @property
    def layers(self) -> int:
        """Two styles per resolution."""
        return 2 * len(self.widths)

    @property
    def spatial_layers(self) -> int:
        """All."""
        return self.layers

    @property
    def grid_shape(self) -> tuple[int, int, int] | None:
        """`(C, H, W)` of the spatial grid, or None."""
        return (self.grid_channels, self.start, self.start) if self.grid_channels else None


class StyleLayer(AdaptiveLayer):
    """Convolution, leaky ReLU, instance normalisation; then scale and shift by the layer's style."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, upsample: bool) -> None:
        super().__init__()
        self.conv = UpsampledConv2d(inputs, outputs) if upsample else nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(style_dim, 2 * outputs)

    def normalised(self, x: Tensor) -> Tensor:
        """Convolution, leaky ReLU and instance normalisation."""
        return instance_norm(F.leaky_relu(self.conv(x), 0.2))


class StyleGenerator(LayeredGenerator):
    """Decoder with an AdaIN style per layer, started by a learned constant or by a spatial grid."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.channels, self.layers = config.resolution, config.channels, config.layers
        self.any_size = config.any_size
        width = config.grid_channels or config.widths[0]
        self.constant = (
            None if config.grid_channels else nn.Parameter(torch.randn(1, width, config.start, config.start))
        )
        layers = []
        for level, outputs in enumerate(config.widths):
            layers.append(StyleLayer(width, outputs, config.style_dim, upsample=level > 0))
            layers.append(StyleLayer(outputs, outputs, config.style_dim, upsample=False))
            width = outputs
        self.synthesis = nn.ModuleList(layers)
        self.to_image = nn.Conv2d(width, config.channels, 1)
        self.to(memory_format=torch.channels_last)
