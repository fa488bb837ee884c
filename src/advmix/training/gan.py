"""StyleGAN is trained: generator against discriminator, on one set of images.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2018): non-saturating
logistic loss, R1, style mixing, a running average of the generator; R1 every few steps as in "Analyzing and Improving
the Image Quality of StyleGAN" (2020), appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from advmix.data import ImageSet
from advmix.engine import own_part
from advmix.errors import UserError
from advmix.generators import StyleGan, StyleGanConfig
from advmix.options import require
from advmix.seeds import generator, global_seed
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.discriminator import Discriminator
from advmix.training.gan_augment import Augmenter
from advmix.training.loop import Stepper

BETAS = (0.0, 0.99)
STEPS = {16: 6_000, 32: 20_000, 64: 50_000}
"""Training steps for images of each size."""


@dataclass(frozen=True)
class GanOptions:
    """How StyleGAN is trained (regime gan).

    Args:
        gan_steps: steps of discriminator and generator; default 6,000 at 16x16 pixels, 20,000 at 32x32, 50,000 above.
        gan_batch: real images per step, and as many fakes, over all devices.
        gan_lr: learning rate of Adam for both networks, constant.
        style_mixing: probability that a fake has two styles, from a random layer on the other one.
        r1_weight: weight of R1, half the squared gradient of the logits in real images.
        r1_every: steps between two uses of R1, whose weight is multiplied by as much.
        ema_decay: how much of the averaged generator stays at each step.
        gan_augment: largest shift of all that the discriminator sees, as a share of the side; 0 for none.
        gan_flip: whether it sees half of all images mirrored; not for digits and letters.
        preview_every: steps between two samples.png and mixing.png.
    """

    gan_steps: int | None = None
    gan_batch: int = 32
    gan_lr: float = 2e-3
    style_mixing: float = 0.9
    r1_weight: float = 1.0
    r1_every: int = 16
    ema_decay: float = 0.999
    gan_augment: float = 0.125
    gan_flip: bool = False
    preview_every: int = 500

    def __post_init__(self) -> None:
        require(self, "gan_steps gan_batch gan_lr", above=0)
        require(self, "style_mixing r1_weight ema_decay gan_augment", least=0)
        require(self, "r1_every preview_every", least=1)
        for name in ("style_mixing", "ema_decay", "gan_augment"):
            if getattr(self, name) > 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at most 1")

    def steps(self, resolution: int) -> int:
        """The number of steps for images of this size."""
        return self.gan_steps or STEPS[resolution]


def gan_config(images: ImageSet) -> StyleGanConfig:
    """The network for images of this size and these channels."""
    shape = style_config(images, FitOptions(grid_channels=0))
    depth = 4 if shape.resolution <= 32 else 8
    return StyleGanConfig(shape.resolution, shape.channels, shape.style_dim, depth, shape.widths)


class DiscriminatorLoss(nn.Module):
    """Logistic loss on real and fake images, and R1; all in one pass, as several processes and bf16 want it."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: Tensor, fake: Tensor, r1_weight: float) -> Tensor:
        """Images `(B, C, H, W)` in [-1, 1] to the loss `()`; without R1 where its weight is 0."""
        logits = self.discriminator(real.requires_grad_(r1_weight > 0)).float()
        loss = F.softplus(-logits).mean() + F.softplus(self.discriminator(fake).float()).mean()
        return loss + r1_weight * r1_penalty(logits, real) if r1_weight else loss


class GanTrainee(Stepper):
    """One step: the discriminator by a batch of real and fake images, then the generator by another batch of fakes.

    Every process draws the same whole batch and takes its own part; noise is each one's own.

    Args:
        images: what is imitated.
        options: how.
        seed: fixes the first weights and every draw.
        fabric: the machine.
        config: shape of the generator; default `gan_config(images)`.

    Attributes:
        average: the running average of the generator, which is the result.

    Raises:
        UserError: a batch that cannot be shared out among the devices.
    """

    def __init__(
        self, images: ImageSet, options: GanOptions, seed: int, fabric: Fabric, config: StyleGanConfig | None = None
    ) -> None:
        super().__init__(fabric)
        if options.gan_batch % fabric.world_size:
            raise UserError(f"--gan-batch {options.gan_batch}: not a multiple of --devices {fabric.world_size}")
        config = config or gan_config(images)
        with global_seed(seed):
            self.generator = StyleGan(config)
            self.discriminator = Discriminator(config.channels, config.widths)
        self.wrapped_generator, self.generator_optimizer = self._setup(self.generator, options.gan_lr)
        self.wrapped_generator.mark_forward_method("synthesize")
        whole = DiscriminatorLoss(self.discriminator)
        self.wrapped_loss, self.discriminator_optimizer = self._setup(whole, options.gan_lr)
        self.averaged = AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay))
        self.augment = Augmenter(round(options.gan_augment * config.resolution), options.gan_flip)
        self.images, self.options, self.seed, self.step = images, options, seed, 0
        self.own = own_part(fabric, options.gan_batch)

    def _setup(self, network: nn.Module, lr: float) -> Any:
        return self.fabric.setup(network, torch.optim.Adam(network.parameters(), lr=lr, betas=BETAS))

    @property
    def average(self) -> StyleGan:
        """The running average of the generator."""
        network = self.averaged.module
        assert isinstance(network, StyleGan)
        return network

    def loss(self, step: int) -> Tensor:
        """The discriminator's: logistic loss on real and fake images, and R1 every few steps."""
        self.step = step
        with torch.no_grad():
            real, fake = self._real(), self._fake("discriminator")
        lazy = self.options.r1_every * self.options.r1_weight if step % self.options.r1_every == 0 else 0.0
        loss: Tensor = self.wrapped_loss(real, fake, lazy)
        return loss

    def update(self, loss: Tensor) -> None:
        """Change the discriminator by its loss, the generator by its own, and the average by the generator."""
        self._descend(self.discriminator_optimizer, loss)
        with frozen(self.discriminator), self.fabric.autocast():
            logits = self.discriminator(self._fake("generator"))
        self._descend(self.generator_optimizer, F.softplus(-logits.float()).mean())
        self.generator.track(self._drawn("generator")[0])
        self.averaged.update_parameters(self.generator)

    def _descend(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.fabric.backward(loss)
        optimizer.step()

    def _rng(self, place: str, *path: int) -> torch.Generator:
        return generator(self.seed, "gan", place, self.step, *path)

    def _augmented(self, place: str, signed: Tensor) -> Tensor:
        drawn = self.augment.draw(self.options.gan_batch, self._rng(f"augment {place}"))
        return self.augment(signed, drawn[self.own])

    def _real(self) -> Tensor:
        index = torch.randint(len(self.images), (self.options.gan_batch,), generator=self._rng("real"))
        signed = self.images.batch(index[self.own])[0] * 2 - 1
        return self._augmented("real", signed.to(self.fabric.device))

    def _drawn(self, place: str) -> tuple[Tensor, Tensor]:
        return self.generator.draw(self.options.gan_batch, self._rng(f"fake {place}"), self.options.style_mixing)

    def _fake(self, place: str) -> Tensor:
        """This process's fakes for the training of one of the two networks."""
        z, crossover = self._drawn(place)
        noise = self._rng(f"noise {place}", self.fabric.global_rank)
        return self._augmented(place, self.wrapped_generator.synthesize(z[self.own], crossover[self.own], noise))

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.averaged,
            "generator optimizer": self.generator_optimizer,
            "discriminator optimizer": self.discriminator_optimizer,
        }


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Half the mean squared gradient of `logits` `(B,)` in the images `real` `(B, C, H, W)`; differentiable once more.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?" (2018), equation 9. It alone leaves the
    discriminator's last bias without a gradient, which several processes do not forgive; hence the zero.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean() + 0 * logits.sum()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for its weights meanwhile; they go through it."""
    try:
        network.requires_grad_(False)
        yield
    finally:
        network.requires_grad_(True)
