"""What a mixer asks of a generator: two stages, so that a search runs the first one once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.latents import Latents, Split
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import eval_mode


@dataclass(frozen=True, eq=False)
class State:
    """All that `z∥` decides, computed once: features before the first use of `z⊥`, and the latents they came from.

    Args:
        features: `(B, C, H, W)`.
        latents: length B.
        split: what is `z⊥`.
        beside: `(B, C, H, W)`, what a network carries beside its features (StyleGAN2: the image so far), or None.
    """

    features: Tensor
    latents: Latents
    split: Split
    beside: Tensor | None = None

    def __getitem__(self, index: Tensor) -> State:
        return self._each(lambda part: part.index_select(0, index), self.latents[index])

    def repeat(self, times: int) -> State:
        """The whole batch `times` over: `(times * B)` rows, example by example within each repeat."""
        if times == 1:
            return self
        return self._each(lambda part: torch.cat([part] * times), Latents.cat([self.latents] * times))

    def _each(self, change: Callable[[Tensor], Tensor], latents: Latents) -> State:
        beside = None if self.beside is None else change(self.beside)
        return State(change(self.features), latents, self.split, beside)


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
        """Run everything that does not depend on `z⊥`.

        Raises:
            UserError: a split for another generator.
        """

    def check_split(self, split: Split, has_grid: bool) -> None:
        """Refuse a split for another number of layers, or of a grid where there is none.

        Raises:
            UserError: saying which.
        """
        if split.layers != self.layers:
            raise UserError(f"split: made for {split.layers} layers, but the generator has {self.layers}")
        if split.grid and not has_grid:
            raise UserError("split: the grid cannot be z⊥, because this generator has no grid")

    @abstractmethod
    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """Finish `state` with `z⊥` rows `(B, P)`: images `(B, C, H, W)` around [-1, 1], not clamped."""

    def render(self, state: State, perp: Tensor) -> Tensor:
        """Finish `state` with `z⊥` rows `(B, P)`: images `(B, C, H, W)` in [0, 1]."""
        return _to_unit(self.render_signed(state, perp), state.latents)

    def forward(self, latents: Latents) -> Tensor:
        """Decode: images `(B, C, H, W)` in [0, 1]."""
        split = Split(self.layers, tuple(range(self.layers)))
        return self.render(self.prefix(latents, split), split.perp_of(latents))

    def residual(self, latents: Latents, images: Tensor) -> Tensor:
        """What the generator cannot draw of `images` `(B, C, H, W)` in [0, 1]: `x - dec(enc(x))`, in their size.

        Differentiable, unlike `complete`.
        """
        return images - _sized(self(replace(latents, residual=None)), images)

    @torch.no_grad()
    def complete(self, latents: Latents, images: Tensor) -> Latents:
        """The latents of `images` `(B, C, H, W)` in [0, 1] with their `residual`.

        >>> generator(generator.complete(encoder(x), x))      # x itself

        Mixes of them keep the details of the image that the generator cannot draw. Images larger than the generator's
        are decoded in their own size: a mix is the image with the enlarged difference of two decodings added to it.
        """
        with eval_mode(self):
            return replace(latents, residual=self.residual(latents, images))

    def decode_signed(self, latents: Latents) -> Tensor:
        """Decode without the final clamp and without a residual, around [-1, 1]: what a training loss wants."""
        split = Split(self.layers, tuple(range(self.layers)))
        return self.render_signed(self.prefix(latents, split), split.perp_of(latents))
