"""An encoder without weights: it takes an image's statistics out of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advmix.encoders.network import Encoder, check_side
from advmix.generators.image_statistics import KINDS, StatisticsConfig
from advmix.latents import Latents
from advmix.utils.errors import UserError


class StatisticsEncoder(Encoder):
    """The exact inverse of `Statistics`.

    Attributes:
        place: without numbers; it is where the encoder is.
    """

    def __init__(self, config: StatisticsConfig) -> None:
        super().__init__()
        self.config = config
        self.place = nn.Parameter(torch.empty(0))

    def encode_signed(self, images: Tensor) -> Latents:
        """Images in [-1, 1], `(B, C, H, W)`, to statistics `(B, L, D)` and a grid as large as the images.

        Differentiable; only the matrices of `covariance` are constants in it.

        Raises:
            UserError: fewer than 16 pixels across or down, or another number of channels.
        """
        channels = images.shape[1]
        if channels != self.config.channels:
            raise UserError(
                f"images of {channels} channels, but statistics of {self.config.channels} are wanted; convert them, or "
                "use a generator for theirs"
            )
        check_side(images)
        return Latents(*KINDS[self.config.kind].take((images + 1) / 2))
