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
        return self._each(lambda part: part[index], self.latents[index])  # keeps channels_last; index_select does not

    def repeat(self, times: int) -> State:
        """The whole batch `times` over: `(times * B)` rows, example by example within each repeat."""
        if times == 1:
            return self
        return self._each(lambda part: torch.cat([part] * times), Latents.cat([self.latents] * times))

    def _each(self, change: Callable[[Tensor], Tensor], latents: Latents) -> State:
        beside = None if self.beside is None else change(self.beside)
        return State(change(self.features), latents, self.split, beside)


def _to_unit(signed: Tensor, latents: Latents) -> Tensor:
    """[-1, 1] to [0, 1], clamped; then with the latents' residual where they have one, in its size."""
    images, residual, drawn = ((signed + 1) / 2).clamp(0, 1), latents.residual, latents.drawn
    if residual is None:
        return images
    if drawn is None:
        return _sized(images, residual) + residual
    large = _sized(drawn, residual) + residual
    return large + enlarge(images - drawn, drawn, large)


def _sized(images: Tensor, like: Tensor) -> Tensor:
    """Images as large as `like`, bilinear."""
    if images.shape[-2:] == like.shape[-2:]:
        return images
    return F.interpolate(images, like.shape[-2:], mode="bilinear", align_corners=False)


RADIUS, FLATNESS = 2, 1e-4
"""Of the guided filter: half the side of its windows in small pixels, and the variance, of pixels in [0, 1], under
which a window counts as flat."""


def enlarge(change: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """A change that was computed on small images, as it is on large ones: edges stay where the large images have them.

    In every window of the small image the change is fitted as `a * pixel + b`, channel by channel; these maps, averaged
    and enlarged, are applied to the large image. He & Sun, "Fast Guided Filter" (2015), algorithm 2.

    Args:
        change: `(B, C, h, w)`, what is added to `small`.
        small: `(B, C, h, w)` in [0, 1].
        large: `(B, C, H, W)`, the same images.

    Returns:
        `(B, C, H, W)`, what is added to `large`.
    """
    mean, mean_change = _windows(small), _windows(change)
    gain = (_windows(small * change) - mean * mean_change) / (_windows(small * small) - mean * mean + FLATNESS)
    maps = _windows(torch.cat([gain, mean_change - gain * mean], dim=1))
    gain, offset = F.interpolate(maps, large.shape[-2:], mode="bilinear", align_corners=False).chunk(2, dim=1)
    return torch.addcmul(offset, gain, large)


def _windows(x: Tensor) -> Tensor:
    """Means over the windows around every pixel, as far as they lie in the image."""
    side = 2 * RADIUS + 1
    return F.avg_pool2d(x, side, stride=1, padding=RADIUS, count_include_pad=False)


class Generator(nn.Module, ABC):
    """`dec(z∥, z⊥) -> x`. Images leave in [0, 1]; [-1, 1] never leaves the class.

    >>> state = generator.prefix(latents, split)             # z∥: coarse layers, once
    >>> images = generator.render(state, split.perp_of(b))   # z⊥: fine layers, many times
    >>> images = generator(latents)                          # both

    Attributes:
        resolution: height and width in pixels; of a generator of any size, of the images that it was trained on.
        channels: 1 or 3.
        layers: how many styles there are.
        any_size: whether it draws images as large as their own grid says.
        exact: whether it decodes what was encoded to the same image, so that there is no residual.
    """

    resolution: int
    channels: int
    layers: int
    any_size: bool = False
    exact: bool = False

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
        return self.render_unclamped(state, perp).clamp(0, 1)

    def render_unclamped(self, state: State, perp: Tensor) -> Tensor:
        """The same around [0, 1]: with the latents' residual, where they have one, not clamped."""
        return _to_unit(self.render_signed(state, perp), state.latents)

    def forward(self, latents: Latents) -> Tensor:
        """Decode: images `(B, C, H, W)` in [0, 1]."""
        split = Split(self.layers, tuple(range(self.layers)))
        return self.render(self.prefix(latents, split), split.perp_of(latents))

    def with_residual(self, latents: Latents, images: Tensor) -> Latents:
        """The latents of `images` `(B, C, H, W)` in [0, 1] with what the generator cannot draw of them.

        Differentiable, unlike `complete`.
        """
        if self.exact:
            return latents
        drawn = self(replace(latents, residual=None, drawn=None))
        larger = images[0, 0].numel() > drawn[0, 0].numel()
        return replace(latents, residual=images - _sized(drawn, images), drawn=drawn if larger else None)

    @torch.no_grad()
    def complete(self, latents: Latents, images: Tensor) -> Latents:
        """The latents of `images` `(B, C, H, W)` in [0, 1] with their `residual`.

        >>> generator(generator.complete(encoder(x), x))      # x itself

        Mixes of them keep the details of the image that the generator cannot draw. A mix of an image that is larger
        than what the generator draws is the image itself, changed as the small one is: see `enlarge`.
        """
        with eval_mode(self):
            return self.with_residual(latents, images)

    def decode_signed(self, latents: Latents) -> Tensor:
        """Decode without the final clamp and without a residual, around [-1, 1]: what a training loss wants."""
        split = Split(self.layers, tuple(range(self.layers)))
        return self.render_signed(self.prefix(latents, split), split.perp_of(latents))
