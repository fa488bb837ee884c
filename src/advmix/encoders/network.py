"""The encoder network: a small strided convolutional net that guesses the latents of an image in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.encoders.base import Encoder
from advmix.generators.layered import NetworkConfig
from advmix.generators.normalise import instance_norm
from advmix.latents import Latents


class GridHead(nn.Module):
    """Spatial `z∥`: every convolution is followed by instance normalisation, so that light and colour cannot pass."""

    def __init__(self, resolution: int, channels: int, grid_shape: tuple[int, int, int]) -> None:
        super().__init__()
        grid_channels, start, _ = grid_shape
        downs = (resolution // start).bit_length() - 1
        width = channels
        convs = []
        for index in range(max(downs + 1, 3)):
            convs.append(nn.Conv2d(width, 32, 3, stride=2 if index < downs else 1, padding=1))
            width = 32
        self.convs = nn.ModuleList(convs)
        self.out = nn.Conv2d(width, grid_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to the grid `(B, grid_channels, start, start)`."""
        for conv in self.convs:
            x = F.leaky_relu(instance_norm(conv(x)), 0.2)
        return instance_norm(self.out(x))


class StyleEncoder(Encoder):
    """Images to `Latents` of a style network, trained together with it or after it.

    Without a grid the styles see the whole last feature map, place included. With a grid they come from global average
    pooling: where things are is then the grid's business.

    Args:
        config: shape of the generator that the latents are for.
        widths: feature channels, one strided convolution each; by default 32, 64, 128, and without a grid 128 again
            until the last feature map has at most 8x8 pixels, so that the linear layer behind it stays small.
    """

    def __init__(self, config: NetworkConfig, widths: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.config = config
        more = 0 if config.grid_shape else ((config.resolution - 1) // 64).bit_length()
        widths = widths or (32, 64, 128, *[128] * more)
        channels = (config.channels, *widths)
        self.trunk = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
            for inputs, outputs in zip(channels, widths, strict=False)
        )
        side = 1 if config.grid_shape else -(-config.resolution // 2 ** len(widths))
        self.styles = nn.Linear(widths[-1] * side * side, config.layers * config.style_dim)
        self.grid = GridHead(config.resolution, config.channels, config.grid_shape) if config.grid_shape else None
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def start_at(self, style: Tensor) -> None:
        """Put the first guesses around a style `(D,)`."""
        self.styles.bias.copy_(style.repeat(self.config.layers))

    def encode_signed(self, images: Tensor) -> Latents:
        """Images in [-1, 1], `(B, C, H, W)`, to latents."""
        x = images
        for conv in self.trunk:
            x = F.leaky_relu(conv(x), 0.2)
        if self.grid is not None:
            x = x.mean(dim=(2, 3))
        styles = self.styles(x.flatten(1)).unflatten(1, (self.config.layers, self.config.style_dim))
        return Latents(styles, None if self.grid is None else self.grid(images))
