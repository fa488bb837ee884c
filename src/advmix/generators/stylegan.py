"""What GANs' generators have in common: normal numbers `z` are mapped to styles `w`, so that images can be made up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.generators.base import Generator
from advmix.generators.layers import RELU_GAIN, SLOPE, EqualizedConv2d, EqualizedLinear, instance_norm
from advmix.generators.style import (
    DEEPEST,
    AdaptiveLayer,
    FromConstant,
    LayeredGenerator,
    NetworkConfig,
    check_sizes,
    check_widths,
)
from advmix.latents import Latents


def unit_length(x: Tensor) -> Tensor:
    """`(..., D)` with a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-8)


class MappingNetwork(nn.Module):
    """`z` to `w`: the length of `z` is normalised, then linear layers, each with a leaky ReLU."""

    def __init__(self, layers: Iterable[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Tensor) -> Tensor:
        """`(..., Z)` to `(..., D)`."""
        w = unit_length(z)
        for layer in self.layers:
            w = F.leaky_relu(layer(w), SLOPE)
        return w


class MappedGenerator(Generator):
    """A generator that can `sample`.

    Attributes:
        config: its shape.
        z_dim: how many normal numbers make a style.
        mapping: these numbers `(..., Z)` to a style `(..., D)`.
        mean_style: `(D,)`, the mean of `w`: what truncation draws towards.
    """

    config: NetworkConfig
    z_dim: int
    mapping: MappingNetwork
    mean_style: Tensor

    def draw(self, count: int, rng: torch.Generator | None, mixing: float) -> tuple[Tensor, Tensor]:
        """Two normal `z` per image, `(B, 2, Z)`, and the first layer `(B,)` of the second one's style.

        With probability `1 - mixing` that layer lies behind the last: the image has one style.
        """
        z = torch.randn(count, 2, self.z_dim, generator=rng)
        crossover = torch.randint(1, self.layers, (count,), generator=rng)
        mixed = torch.rand(count, generator=rng) < mixing
        device = self.mean_style.device
        return z.to(device), torch.where(mixed, crossover, self.layers).to(device)

    def styles(self, z: Tensor, crossover: Tensor) -> Tensor:
        """What `draw` drew as a style per layer, `(B, L, D)`."""
        w = self.mapping(z.to(self.mean_style.dtype))
        second = torch.arange(self.layers, device=crossover.device) >= crossover[:, None]
        return torch.where(second[:, :, None], w[:, 1:], w[:, :1])

    @torch.no_grad()
    def sample(
        self, count: int, rng: torch.Generator | None = None, truncation: float = 1.0, mixing: float = 0.9
    ) -> Latents:
        """Latents of images that the generator makes up.

        Args:
            count: how many.
            rng: CPU random generator; torch's global one when None.
            truncation: distance from the mean style, relative to what was drawn: 1 is all variety, 0 is one image.
            mixing: probability that an image has two styles, from a random layer on the other one.
        """
        styles = self.styles(*self.draw(count, rng, mixing))
        return Latents(self.mean_style.lerp(styles, truncation))

    def mean_latents(self, count: int) -> Latents:
        """The mean style in every layer, `count` times."""
        return Latents(self.mean_style.expand(count, self.layers, -1))


MAPPING_LR = 0.01

"""Learning rate of the mapping network, relative to the rest's."""


@dataclass(frozen=True)
class StyleGanConfig(FromConstant):
    """Shape of StyleGAN's generator.

    Args:
        resolution: image height and width in pixels, 4 times a power of two.
        channels: image channels, 1 or 3.
        style_dim: numbers in one layer's style `w`, and in the normal `z` that it is mapped from.
        mapping_layers: depth of the mapping network.
        widths: feature channels at each resolution, from 4 pixels to `resolution`.
    """

    resolution: int = 16
    channels: int = 3
    style_dim: int = 64
    mapping_layers: int = 4
    widths: tuple[int, ...] = (64, 64, 32)

    def __post_init__(self) -> None:
        check_sizes(vars(self), "resolution channels style_dim widths")
        check_sizes(vars(self), "mapping_layers", least=0, most=DEEPEST)
        check_widths(self.widths, self.start, self.resolution)


class NoisyLayer(AdaptiveLayer):
    """[Bilinear upsampling,] convolution, noise, leaky ReLU, instance normalisation; then AdaIN.

    Bilinear upsampling is nearest-neighbour upsampling with the paper's binomial blur behind it.

    Args:
        inputs: channels in; 0 for the first layer, which takes the learned constant as it is.
        outputs: channels out.
        side: of the output in pixels.
        style_dim: numbers in the layer's style.
        upsample: whether the input has half the side.
    """

    def __init__(self, inputs: int, outputs: int, side: int, style_dim: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = EqualizedConv2d(inputs, outputs, 3) if inputs else nn.Identity()
        self.affine = EqualizedLinear(style_dim, 2 * outputs)
        self.strength = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(1, 1, side, side))
        self.noise: Tensor
        self.fresh: Tensor | None = None

    def normalised(self, x: Tensor) -> Tensor:
        """Convolution, noise, leaky ReLU and instance normalisation."""
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        noise = self.noise if self.fresh is None else self.fresh
        x = torch.addcmul(self.conv(x), self.strength[:, None, None], noise)
        return instance_norm(F.leaky_relu(x, SLOPE))


class StyleGan(MappedGenerator, LayeredGenerator):
    """`dec` as a GAN learns it, with a `sample` of its own. The noise is fixed, so that a search is deterministic.

    >>> generator = StyleGan(StyleGanConfig(resolution=16))
    >>> latents = generator.sample(8, rng, truncation=0.7)    # styles (8, 6, 64)
    >>> images = generator(latents)                           # (8, 3, 16, 16) in [0, 1]
    """

    def __init__(self, config: StyleGanConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.channels, self.layers = config.resolution, config.channels, config.layers
        dim = self.z_dim = config.style_dim
        self.mapping = MappingNetwork(
            EqualizedLinear(dim, dim, RELU_GAIN, MAPPING_LR) for _ in range(config.mapping_layers)
        )
        self.register_buffer("mean_style", torch.zeros(config.style_dim))
        self.constant = nn.Parameter(torch.randn(1, config.widths[0], config.start, config.start))
        layers, inputs = [], 0
        for level, width in enumerate(config.widths):
            side = config.start * 2**level
            layers.append(NoisyLayer(inputs, width, side, config.style_dim, upsample=level > 0))
            layers.append(NoisyLayer(width, width, side, config.style_dim, upsample=False))
            inputs = width
        self.synthesis = nn.ModuleList(layers)
        self.to_image = EqualizedConv2d(inputs, config.channels, 1, gain=1.0)
        self.to(memory_format=torch.channels_last)

    def synthesize(self, z: Tensor, crossover: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """A training step's images, `(B, C, H, W)` around [-1, 1], from what `draw` drew; with fresh noise."""
        with self.fresh_noise(len(z), rng):
            return self.decode_signed(Latents(self.styles(z, crossover)))

    @contextmanager
    def fresh_noise(self, count: int, rng: torch.Generator | None = None) -> Iterator[None]:
        """New noise for each of `count` images instead of the fixed one."""
        layers = [layer for layer in self.synthesis if isinstance(layer, NoisyLayer)]
        try:
            for layer in layers:
                layer.fresh = torch.randn(count, *layer.noise.shape[1:], generator=rng).to(layer.noise)
            yield
        finally:
            for layer in layers:
                layer.fresh = None

    @torch.no_grad()
    def track(self, z: Tensor, decay: float = 0.995) -> None:
        """Move the running mean of `w` towards that of these `z`, `(..., D)`."""
        w = self.mapping(z).flatten(0, -2).mean(dim=0)
        self.mean_style.lerp_(w.to(self.mean_style), 1 - decay)
