"""`enc(x) = (z∥, z⊥)`: images to latents."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from advmix.data import ImageSet, slices
from advmix.errors import UserError
from advmix.generators import MappedGenerator
from advmix.latents import Latents
from advmix.modes import evaluating

NO_ENCODER = (
    "the generator has no encoder network; use advmix encode --encoder mean, or train one with advmix fit "
    "--regime invert --generator FOLDER"
)


class Encoder(nn.Module, ABC):
    """Images in [0, 1] to `Latents`: a network, an optimisation, or the first refined by the second.

    >>> latents = encoder(images)        # (B, C, H, W) in [0, 1] -> Latents of length B
    """

    def at_once(self, wanted: int) -> int:
        """How many images it should be given at once, where `wanted` are asked for."""
        return wanted

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
def encoded(images: ImageSet, encoder: Encoder, batch: int = 250) -> Latents:
    """The latents of a whole set, on the encoder's device, encoded at most `batch` images at once."""
    device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
    with evaluating(encoder):
        parts = slices(len(images), encoder.at_once(batch))
        return Latents.cat([encoder(images.batch(part)[0].to(device)) for part in parts])
