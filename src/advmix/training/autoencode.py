"""`fit`: style generator and encoder trained together, by reconstruction, on one set of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from advmix.data import ImageSet, slices
from advmix.encoders.autoencoder import Autoencoder
from advmix.errors import UserError
from advmix.generators import StyleConfig
from advmix.options import require
from advmix.seeds import draw_seed, generator, global_seed
from advmix.training.loop import Trainee

WIDTHS = {16: (64, 64, 32), 32: (64, 64, 32, 32), 64: (64, 64, 32, 32, 16)}
"""Feature channels at each resolution, from 4 pixels up, for images of each size."""


@dataclass(frozen=True)
class FitOptions:
    """How generator and encoder are trained.

    Args:
        fit_steps: optimisation steps; default 600 at 16x16 pixels, 1,500 above.
        fit_batch: images per step.
        fit_lr: peak learning rate of Adam, one cycle.
        latent_noise: standard deviation of the noise added to the latents before decoding.
        latent_penalty: weight of the latents' mean square.
    """

    fit_steps: int | None = None
    fit_batch: int = 64
    fit_lr: float = 4e-3
    latent_noise: float = 0.1
    latent_penalty: float = 1e-3

    def __post_init__(self) -> None:
        require(self, "fit_steps fit_batch fit_lr", above=0)
        require(self, "latent_noise latent_penalty", least=0)

    def steps(self, resolution: int) -> int:
        """The number of steps for images of this size."""
        return self.fit_steps or (600 if resolution <= 16 else 1500)


def style_config(images: ImageSet) -> StyleConfig:
    """The network for images of this size and these channels: four pixels to start with, double after double."""
    channels, resolution = int(images.pixels.shape[1]), int(images.pixels.shape[2])
    if resolution not in WIDTHS:
        raise UserError(f"images of {resolution} pixels: fit takes {', '.join(map(str, WIDTHS))}; resize them")
    return StyleConfig(resolution=resolution, channels=channels, widths=WIDTHS[resolution])


class AutoencoderTrainee(Trainee):
    """Mean squared error in [-1, 1], noise on the latents, a small latent penalty; Adam, one cycle.

    Args:
        images: what is reconstructed.
        options: how.
        seed: fixes the first weights and every batch.
        fabric: the machine.
        config: shape of the network; default `style_config(images)`.
    """

    def __init__(
        self, images: ImageSet, options: FitOptions, seed: int, fabric: Fabric, config: StyleConfig | None = None
    ) -> None:
        config = config or style_config(images)
        with global_seed(seed):
            self.model = Autoencoder(config)
        super().__init__(self.model, fabric, options.fit_lr, options.steps(config.resolution), betas=(0.9, 0.99))
        self.images, self.options, self.seed = images, options, seed

    def loss(self, step: int) -> Tensor:
        """Mean squared error plus penalty on a random batch."""
        rng = generator(self.seed, "fit", step)
        index = torch.randint(len(self.images), (self.options.fit_batch,), generator=rng)
        signed = (self.images.batch(index)[0] * 2 - 1).to(self.fabric.device)
        decoded, size = self.wrapped(signed, self.options.latent_noise, draw_seed(rng))
        loss: Tensor = F.mse_loss(decoded, signed) + self.options.latent_penalty * size
        return loss


@torch.no_grad()
def reconstruction_mse(model: Autoencoder, images: ImageSet, device: torch.device) -> float:
    """Mean squared error of reconstructions over a set, in [-1, 1] units squared."""
    total = 0.0
    for part in slices(len(images), 256):
        signed = (images.batch(part)[0] * 2 - 1).to(device)
        total += float(F.mse_loss(model(signed)[0].clamp(-1, 1), signed)) * len(signed)
    return total / len(images)
