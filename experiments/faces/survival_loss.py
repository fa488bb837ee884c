"""Generator and encoder learn from mixes, too: a classifier must still recognise what a mix shows.

Reconstruction alone never shows the generator a mix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet
from advmix.latents import Latents, Split
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.utils.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class SurvivalTrainee(AutoencoderTrainee):
    """`AutoencoderTrainee` with one more term: every image of a batch lends its `z⊥` to the next one, and a reference
    must see the label of the image whose `z∥` a mix has.

    `z⊥` is all styles where `z∥` is a grid, else those of the two finest layers.

    Args:
        images: what is reconstructed, with its labels.
        options: how.
        seed: fixes the first weights and every draw.
        fabric: the machine.
        weight: of the reference's cross-entropy on mixes.
        reference: classifier, images in [0, 1] to logits, on the machine's device; it is frozen.

    Raises:
        UserError: batches of one image.
    """

    def __init__(
        self, images: ImageSet, options: FitOptions, seed: int, fabric: Fabric, weight: float, reference: nn.Module
    ) -> None:
        super().__init__(images, options, seed, fabric)
        if options.fit_batch < 2:
            raise UserError(f"--fit-batch {options.fit_batch}: a mix takes two images")
        layers = self.config.layers
        self.split = Split.fine(layers, layers if self.config.grid_channels else 2)
        self.weight, self.reference = weight, reference.requires_grad_(False).eval()

    def loss(self, step: int) -> Tensor:
        """Error and penalty of the autoencoder, and what the reference says of mixes."""
        index, signed, noise_seed = self.batch(step)
        noise = self.model.draw_noise(signed, self.options.latent_noise, noise_seed)
        latents, size = self.model.encode_noisy(signed, *noise)
        images = self.model.generator.decode_signed(Latents.cat([latents, self.mixed(latents)]))
        decoded, mixes = images.chunk(2)
        survival = survival_error(self.reference, mixes, self.images.labels[index].to(mixes.device))
        return self.penalised_error(decoded, signed, size) + self.weight * survival

    def mixed(self, latents: Latents) -> Latents:
        """The `z∥` of each of B images with the `z⊥` of the one before it; the first takes the last one's."""
        return self.split.combine(latents, latents[torch.arange(len(latents)).roll(1)])


def survival_error(reference: nn.Module, mixes: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a classifier, images in [0, 1] to logits, on mixes `(B, C, H, W)` around [-1, 1], clamped as
    they leave the generator, against `labels` `(B,)`.
    """
    return F.cross_entropy(reference(((mixes + 1) / 2).clamp(0, 1)), labels)
