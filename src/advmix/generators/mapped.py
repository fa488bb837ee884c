"""What GANs' generators have in common: normal numbers `z` are mapped to styles `w`, so that images can be made up."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.generators.base import Generator
from advmix.generators.equalized import SLOPE
from advmix.generators.layered import NetworkConfig
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
