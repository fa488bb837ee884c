"""The style network: coarse to fine, one style per layer by adaptive instance normalisation (AdaIN).

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2018), section 2, without
mapping network and noise. Instance normalisation wipes out channel statistics at every layer, so that
colour can only be set by the last styles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.errors import UserError
from advmix.generators.base import Generator, State
from advmix.generators.normalise import instance_norm
from advmix.latents import Latents, Split


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
    """

    resolution: int = 16
    channels: int = 3
    style_dim: int = 64
    widths: tuple[int, ...] = (64, 64, 32)
    start: int = 4
    grid_channels: int = 0

    def __post_init__(self) -> None:
        if self.start * 2 ** (len(self.widths) - 1) != self.resolution:
            raise UserError(
                f"generator: {len(self.widths)} widths from {self.start} pixels end at "
                f"{self.start * 2 ** (len(self.widths) - 1)} pixels, not at resolution {self.resolution}"
            )

    @property
    def layers(self) -> int:
        """Two styles per resolution."""
        return 2 * len(self.widths)

    @property
    def grid_shape(self) -> tuple[int, int, int] | None:
        """`(C, H, W)` of the spatial grid, or None."""
        return (self.grid_channels, self.start, self.start) if self.grid_channels else None


class StyleLayer(nn.Module):
    """Convolution, leaky ReLU, instance normalisation; then scale and shift by the layer's style."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(style_dim, 2 * outputs)

    def normalised(self, x: Tensor) -> Tensor:
        """Features before the style: all of the layer that its own style does not touch."""
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return instance_norm(F.leaky_relu(self.conv(x), 0.2))

    def modulate(self, x: Tensor, style: Tensor) -> Tensor:
        """AdaIN: `x * (1 + scale(style)) + shift(style)`."""
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)


class StyleGenerator(Generator):
    """Decoder with an AdaIN style per layer, started by a learned constant or by a spatial grid."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.channels, self.layers = config.resolution, config.channels, config.layers
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

    def _layer(self, index: int) -> StyleLayer:
        layer = self.synthesis[index]
        assert isinstance(layer, StyleLayer)
        return layer

    def _start(self, latents: Latents) -> Tensor:
        if self.constant is not None:
            return self.constant.expand(len(latents), -1, -1, -1)
        if latents.grid is None:
            raise ValueError("this generator starts from a spatial grid, and the latents have none")
        return latents.grid

    def prefix(self, latents: Latents, split: Split) -> State:
        """Up to the normalised features of the first `z⊥` layer: they do not depend on that layer's own style."""
        if split.layers != self.layers:
            raise UserError(f"split: made for {split.layers} layers, but the generator has {self.layers}")
        if split.grid and self.constant is not None:
            raise UserError("split: the grid cannot be z⊥, because this generator has no grid")
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
