"""`enc(x) = (z∥, z⊥)`: images to latents."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from advmix.latents import Latents


class Encoder(nn.Module, ABC):
    """Images in [0, 1] to `Latents`: a network, an optimisation, or the first refined by the second.

    >>> latents = encoder(images)        # (B, C, H, W) in [0, 1] -> Latents of length B
    """

    @abstractmethod
    def encode_signed(self, images: Tensor) -> Latents:
        """Images `(B, C, H, W)` in [-1, 1], the generator's range, to latents."""

    def forward(self, images: Tensor) -> Latents:
        """Images `(B, C, H, W)` in [0, 1] to latents."""
        return self.encode_signed(images * 2 - 1)
