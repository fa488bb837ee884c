"""An encoder with the means and deviations of images as two more styles."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.encoders.network import Encoder, StyleEncoder
from advmix.generators.image_statistics import take_moments
from advmix.generators.moments import MomentsConfig
from advmix.latents import Latents


class MomentsEncoder(Encoder):
    """What `MomentsGenerator` decodes.

    Attributes:
        network: gives the other styles and the grid.
    """

    def __init__(self, config: MomentsConfig) -> None:
        super().__init__()
        self.config = config
        self.network = StyleEncoder(config.network)

    def encode_signed(self, images: Tensor) -> Latents:
        """Images in [-1, 1], `(B, C, H, W)`, to styles `(B, L + 2, D)`, the last two with C numbers and zeros, and a
        grid.
        """
        moments, _ = take_moments((images + 1) / 2)
        found = self.network.encode_signed(images)
        padded = F.pad(moments, (0, self.config.style_dim - moments.shape[2]))
        return Latents(torch.cat([found.styles.to(padded), padded], dim=1), found.grid)
