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

from advmix.generators.layered import AdaptiveLayer, LayeredGenerator, check_sizes, check_widths
from advmix.generators.normalise import instance_norm
from advmix.generators.upsample import UpsampledConv2d


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
        check_sizes(vars(self), "resolution channels style_dim widths start")
        check_sizes(vars(self), "grid_channels", least=0)
        check_widths(self.widths, self.start, self.resolution)

    @property
    def layers(self) -> int:
        """Two styles per resolution."""
        return 2 * len(self.widths)

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
