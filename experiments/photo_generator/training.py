"""How `photo` is trained: as `fit` trains an autoencoder, on random crops of photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advmix.data.images import ImageSet
from advmix.generators.style import StyleConfig
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.utils.torch_tools import draw_seed, generator
from experiments.photo_generator.crops import draw_images
from experiments.photo_generator.pictures import Pyramids

if TYPE_CHECKING:
    from lightning_fabric import Fabric

NOTHING = ImageSet(torch.empty(0, 3, 1, 1, dtype=torch.uint8), torch.empty(0, dtype=torch.int64), ())
"""In the place of a set of images: crops are drawn."""


class PhotoTrainee(AutoencoderTrainee):
    """Random crops of photographs, of one size in each step; of smaller ones as many more.

    Args:
        pyramids: the photographs.
        sizes: sides of the crops in pixels, in turn.
        options: how it is trained; `fit_batch` is the number of crops of the network's own resolution.
        seed: fixes the first weights and every crop.
        fabric: the machine.
        config: shape of the network.
    """

    def __init__(
        self,
        pyramids: Pyramids,
        sizes: tuple[int, ...],
        options: FitOptions,
        seed: int,
        fabric: Fabric,
        config: StyleConfig,
    ) -> None:
        super().__init__(NOTHING, options, seed, fabric, config)
        self.pyramids, self.sizes = pyramids, sizes

    def batch(self, step: int) -> tuple[Tensor, Tensor, int]:
        """A step's numbers, images `(B, 3, S, S)` in [-1, 1], and seed of the latents' noise."""
        rng = generator(self.seed, "photo", step)
        size = self.sizes[step % len(self.sizes)]
        count = self.options.fit_batch * self.config.resolution // size
        images = draw_images(self.pyramids, count, size, rng).contiguous(memory_format=torch.channels_last)
        return torch.arange(count), (images * 2 - 1).to(self.fabric.device), draw_seed(rng)
