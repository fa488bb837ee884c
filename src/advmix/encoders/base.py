"""`enc(x) = (z∥, z⊥)`: images to latents."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from advmix.data import ImageSet, slices
from advmix.latents import Latents
from advmix.modes import evaluating


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


@torch.no_grad()
def encoded(images: ImageSet, encoder: Encoder, batch: int = 250) -> Latents:
    """The latents of a whole set, on the encoder's device, encoded `batch` images at once."""
    device = next(encoder.parameters()).device
    with evaluating(encoder):
        return Latents.cat([encoder(images.batch(part)[0].to(device)) for part in slices(len(images), batch)])
