"""An encoder for a generator that is finished: it learns from generated images, whose latents are known, and from real
ones, which it must reconstruct.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import StyleEncoder
from advmix.generators.stylegan import MappedGenerator
from advmix.training.loop import Trainee
from advmix.utils.config import check_values
from advmix.utils.device import own_part
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator, global_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class InvertOptions:
    """How the encoder of a finished generator is trained (regimes gan and invert).

    Args:
        invert_steps: optimisation steps; default 1,500 at 16x16 pixels, 5,000 above.
        invert_batch: generated images per step, and as many real ones, over all devices.
        invert_lr: peak learning rate of Adam, one cycle.
        latent_weight: weight of the latents' mean squared error on generated images; that of the pixels counts 1 on
            both kinds.
    """

    invert_steps: int | None = None
    invert_batch: int = 32
    invert_lr: float = 2e-3
    latent_weight: float = 0.1

    def __post_init__(self) -> None:
        check_values(self, "invert_steps invert_batch invert_lr", above=0)
        check_values(self, "latent_weight", least=0)

    def steps(self, resolution: int) -> int:
        """The number of steps for images of this size."""
        return self.invert_steps or (1500 if resolution <= 16 else 5000)


class Inversion(nn.Module):
    """The errors that train an encoder, in one pass; the generator is frozen."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.encoder, self.generator = model.encoder, model.generator.requires_grad_(False)

    def forward(self, real: Tensor, styles: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
        """Real images, and generated ones `(B, C, H, W)` in [-1, 1] with their `styles` `(B, L, D)`.

        Returns:
            Mean squared errors: of the generated images' latents, and of the pixels of all images.
        """
        signed = torch.cat([real, generated])
        latents = self.encoder.encode_signed(signed)
        pixels = F.mse_loss(self.generator.decode_signed(latents), signed)
        return F.mse_loss(latents.styles[len(real) :], styles), pixels


class InvertTrainee(Trainee):
    """Latent error on generated images, pixel error on generated and real ones; Adam, one cycle.

    Args:
        dec: the finished generator; frozen.
        images: real training images.
        options: how.
        seed: fixes the first weights and every draw.
        fabric: the machine.
        mixing: probability that a generated image has two styles.
        from_mean: whether the first guesses lie around the mean style instead of zero.

    Attributes:
        model: the generator with its encoder.

    Raises:
        UserError: a batch that cannot be shared out among the devices.
    """

    def __init__(
        self,
        dec: MappedGenerator,
        images: ImageSet,
        options: InvertOptions,
        seed: int,
        fabric: Fabric,
        mixing: float = 0.9,
        from_mean: bool = False,
    ) -> None:
        if options.invert_batch % fabric.world_size:
            raise UserError(f"--invert-batch {options.invert_batch}: not a multiple of --devices {fabric.world_size}")
        with global_seed(seed):
            self.model = Autoencoder(dec.config)
        if from_mean:
            assert isinstance(self.model.encoder, StyleEncoder)
            self.model.encoder.start_at(dec.mean_style)
        self.dec = dec.eval()
        self.model.generator.load_state_dict(dec.state_dict())
        steps = options.steps(dec.resolution)
        super().__init__(Inversion(self.model), fabric, options.invert_lr, steps, betas=(0.9, 0.99))
        self.images, self.options, self.seed, self.mixing = images, options, seed, mixing

    def loss(self, step: int) -> Tensor:
        """Pixel error plus weighted latent error on a batch of both kinds."""
        count, rng = self.options.invert_batch, generator(self.seed, "invert", step)
        own = own_part(self.fabric, count)
        index = torch.randint(len(self.images), (count,), generator=rng)
        real = (self.images.batch(index[own])[0] * 2 - 1).to(self.fabric.device)
        with torch.no_grad():
            known = self.dec.sample(count, rng, mixing=self.mixing)[own]
            generated = self.dec.decode_signed(known)
        latents, pixels = self.wrapped(real, known.styles, generated)
        loss: Tensor = pixels + self.options.latent_weight * latents
        return loss

    def _parts(self) -> dict[str, Any]:
        return {**super()._parts(), "network": self.model.encoder}
