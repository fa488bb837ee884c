"""`enc(x) = (z∥, z⊥)`: images to latents."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet
from advmix.generators.base import Generator
from advmix.generators.layers import EdgePaddedConv2d, instance_norm
from advmix.generators.style import NetworkConfig, StyleConfig
from advmix.latents import Latents
from advmix.utils.errors import UserError
from advmix.utils.memory import RowBudget
from advmix.utils.torch_tools import eval_mode

if TYPE_CHECKING:
    from advmix.generators.stylegan import MappedGenerator

NO_ENCODER = (
    "the generator has no encoder network; use advmix encode --encoder mean, or train one with advmix fit "
    "--regime invert --generator FOLDER"
)


class Encoder(nn.Module, ABC):
    """Images in [0, 1] to `Latents`: a network, an optimisation, or the first refined by the second.

    >>> latents = encoder(images)        # (B, C, H, W) in [0, 1] -> Latents of length B
    """

    def trial(self, images: Tensor) -> None:
        """Take as much memory as encoding `images` `(B, C, H, W)` in [0, 1] does, in less time if that is long."""
        self(images)

    @abstractmethod
    def encode_signed(self, images: Tensor) -> Latents:
        """Images `(B, C, H, W)` in [-1, 1], the generator's range, to latents."""

    def forward(self, images: Tensor) -> Latents:
        """Images `(B, C, H, W)` in [0, 1] to latents."""
        return self.encode_signed(images * 2 - 1)


class NoEncoder(Encoder):
    """In the place of the network of a generator that has none: whoever asks it is told so."""

    def encode_signed(self, images: Tensor) -> Latents:
        """No latents.

        Raises:
            UserError: always.
        """
        raise UserError(NO_ENCODER)


class MeanEncoder(Encoder):
    """The generator's mean latent for every image: where Algorithm 2 starts when there is no better guess."""

    def __init__(self, generator: MappedGenerator) -> None:
        super().__init__()
        self.generator = generator

    def encode_signed(self, images: Tensor) -> Latents:
        """Images `(B, C, H, W)`, which are not looked at, to B latents."""
        return self.generator.mean_latents(len(images))


@torch.no_grad()
def encoded(
    images: ImageSet,
    encoder: Encoder,
    styles_only: bool = False,
    advance: Callable[[int, str], object] | None = None,
    budget: RowBudget | None = None,
) -> Latents:
    """The latents of a whole set, on the encoder's device.

    Args:
        images: as many are encoded at once as memory allows.
        encoder: images to latents.
        styles_only: leave the grids out: of a generator of any size nothing but the styles is borrowed.
        advance: is told how many are done.
        budget: how many are encoded at once, where it is known already.
    """
    device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))

    def encode(rows: slice) -> Latents:
        found: Latents = encoder(images.batch(rows)[0].to(device)).detach()
        return Latents(found.styles) if styles_only else found

    def trial(rows: slice) -> None:
        encoder.trial(images.batch(rows)[0].to(device))

    with eval_mode(encoder):
        return Latents.cat((budget or RowBudget()).parts(encode, len(images), device, advance, trial))


class GridHead(nn.Module):
    """Spatial `z∥`: every convolution is followed by instance normalisation, so that light and colour cannot pass.

    Images are continued by their border pixels: zeros around an image would make an edge as strong as it is bright.
    """

    def __init__(self, resolution: int, channels: int, grid_shape: tuple[int, int, int]) -> None:
        super().__init__()
        grid_channels, start, _ = grid_shape
        downs = (resolution // start).bit_length() - 1
        width = channels
        convs = []
        for index in range(max(downs + 1, 3)):
            stride = 2 if index < downs else 1
            convs.append(EdgePaddedConv2d(width, 32, stride))
            width = 32
        self.convs = nn.ModuleList(convs)
        self.out = EdgePaddedConv2d(width, grid_channels)

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
        if self.config.any_size:
            images = self._at_working_size(images)
        x = images
        for conv in self.trunk:
            x = F.leaky_relu(conv(x), 0.2)
        if self.grid is not None:
            x = x.mean(dim=(2, 3))
        styles = self.styles(x.flatten(1)).unflatten(1, (self.config.layers, self.config.style_dim))
        return Latents(styles, None if self.grid is None else self.grid(images))

    def _at_working_size(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` of any size as the network takes them: the longer side at most the working size, both
        sides whole multiples of what one place of the grid covers.

        Raises:
            UserError: smaller than `LEAST_SIDE` pixels.
        """
        assert isinstance(self.config, StyleConfig)
        check_side(images)
        sides, step = images.shape[-2:], self.config.resolution // self.config.start
        scale = min(1.0, self.config.working_size / max(sides))
        wanted = [step * max(1, math.ceil(round(side * scale, 6) / step)) for side in sides]
        if list(sides) == wanted:
            return images
        shrunk = F.interpolate(images, wanted, mode="bilinear", align_corners=False, antialias=True)
        return shrunk.contiguous(memory_format=torch.channels_last)


def start_latents(
    generator: Generator, encoder: Encoder, images: Tensor, latents: Latents | None, residual: bool
) -> Latents:
    """What mixes of images begin with: their codes, with what the generator cannot draw of them if `residual`.

    Args:
        generator: `dec`.
        encoder: `enc`.
        images: `(B, C, H, W)` in [0, 1], as a classifier is shown them.
        latents: their codes at the generator's size; not looked at where it draws any size.
        residual: whether mixes keep it.
    """
    if generator.any_size:
        with torch.no_grad(), eval_mode(encoder) as (network,):
            latents = network(images)
    assert latents is not None
    return generator.complete(latents, images) if residual else latents


LEAST_SIDE = 16
"""Pixels; smaller images have too little that a generator of any size could tell apart."""


def check_side(images: Tensor) -> None:
    """Refuse images `(B, C, H, W)` that are too small for a generator of any size.

    Raises:
        UserError: giving their size.
    """
    height, width = images.shape[-2:]
    if min(height, width) < LEAST_SIDE:
        raise UserError(
            f"images of {width}x{height} pixels: a ready-made generator takes {LEAST_SIDE} pixels at least; enlarge "
            f"them, or read them with --size {LEAST_SIDE} or more"
        )
