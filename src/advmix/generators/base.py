"""What a mixer asks of a generator: two stages, so that a search runs the first one once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.latents import Latents, Split
from advmix.modes import evaluating


@dataclass(frozen=True, eq=False)
class State:
    """All that `z∥` decides, computed once: features before the first use of `z⊥`, and the latents they came from."""

    features: Tensor
    latents: Latents
    split: Split

    def __getitem__(self, index: Tensor) -> State:
        return State(self.features.index_select(0, index), self.latents[index], self.split)

    def repeat(self, times: int) -> State:
        """The whole batch `times` over: `(times * B)` rows, example by example within each repeat."""
        if times == 1:
            return self
        return State(torch.cat([self.features] * times), Latents.cat([self.latents] * times), self.split)


def _to_unit(signed: Tensor, latents: Latents) -> Tensor:
    """[-1, 1] to [0, 1], clamped; with the latents' residual where they have one, in its size."""
    images = ((signed + 1) / 2).clamp(0, 1)
    return images if latents.residual is None else (_sized(images, latents.residual) + latents.residual).clamp(0, 1)


def _sized(images: Tensor, like: Tensor) -> Tensor:
    """Images as large as `like`, bilinear."""
    if images.shape[-2:] == like.shape[-2:]:
        return images
    return F.interpolate(images, like.shape[-2:], mode="bilinear", align_corners=False)


class Generator(nn.Module, ABC):
    """`dec(z∥, z⊥) -> x`. Images leave in [0, 1]; [-1, 1] never leaves the class.

    >>> state = generator.prefix(latents, split)             # z∥: coarse layers, once
    >>> images = generator.render(state, split.perp_of(b))   # z⊥: fine layers, many times
    >>> images = generator(latents)                          # both

    Attributes:
        resolution: height and width in pixels.
        channels: 1 or 3.
        layers: how many styles there are.
    """

    resolution: int
    channels: int
    layers: int

    @abstractmethod
    def prefix(self, latents: Latents, split: Split) -> State:
        """Run everything that does not depend on `z⊥`."""

    @abstractmethod
    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """Finish `state` with `z⊥` rows `(B, P)`: images `(B, C, H, W)` around [-1, 1], not clamped."""

    def render(self, state: State, perp: Tensor) -> Tensor:
        """Finish `state` with `z⊥` rows `(B, P)`: images `(B, C, H, W)` in [0, 1]."""
        return _to_unit(self.render_signed(state, perp), state.latents)

    def forward(self, latents: Latents) -> Tensor:
        """Decode: images `(B, C, H, W)` in [0, 1]."""
        return _to_unit(self.decode_signed(latents), latents)

    @torch.no_grad()
    def complete(self, latents: Latents, images: Tensor) -> Latents:
        """The latents of `images` `(B, C, H, W)` in [0, 1] with their residual, `x - dec(enc(x))`.

        >>> generator(generator.complete(encoder(x), x))      # x itself

        Mixes of them keep the details of the image that the generator cannot draw. Images larger than the generator's
        are decoded in their own size: a mix is the image with the enlarged difference of two decodings added to it.
        """
        with evaluating(self):
            return replace(latents, residual=images - _sized(self(replace(latents, residual=None)), images))

    def decode_signed(self, latents: Latents) -> Tensor:
        """Decode without the final clamp and without a residual, around [-1, 1]: what a training loss wants."""
        split = Split(self.layers, tuple(range(self.layers)))
        return self.render_signed(self.prefix(latents, split), split.perp_of(latents))
