"""StyleGAN against its discriminator, and an encoder for a generator that is finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import StyleEncoder
from advmix.generators.stylegan import MappedGenerator, StyleGan, StyleGanConfig
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.discriminator import GROUP, Adversary, Discriminator, adam, descend, group_size
from advmix.training.loop import Stepper, Trainee
from advmix.utils.config import check_values
from advmix.utils.device import check_batch, own_part
from advmix.utils.errors import UserError
from advmix.utils.progress import console
from advmix.utils.torch_tools import generator, global_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Augmenter:
    """Integer translation, border pixels repeated, and optionally a horizontal flip; differentiable.

    What the discriminator sees, real and fake alike, is moved about: it then cannot learn a small data set by heart.
    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020). Colour is left alone: how it
    varies is what `z⊥` must learn.

    Args:
        reach: the largest shift in pixels along each axis.
        flip: whether half of the images are mirrored.
    """

    reach: int
    flip: bool = False

    def draw(self, count: int, rng: torch.Generator | None) -> Tensor:
        """For each image how far it goes down and right, and whether it is mirrored: `(B, 3)`, int64."""
        shifts = torch.randint(-self.reach, self.reach + 1, (count, 2), generator=rng)
        mirrored = torch.randint(2, (count, 1), generator=rng) * int(self.flip)
        return torch.cat([shifts, mirrored], dim=1)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Images `(B, C, H, W)` moved as drawn; the same shape, `channels_last`."""
        down, right, mirrored = drawn.to(images.device)[:, :, None].unbind(dim=1)
        (height, width), device = images.shape[2:], images.device
        rows = (torch.arange(height, device=device) - down).clamp(0, height - 1)
        columns = (torch.arange(width, device=device) - right).clamp(0, width - 1)
        columns = torch.where(mirrored.bool(), width - 1 - columns, columns)
        examples = torch.arange(len(images), device=device)[:, None, None]
        moved = images.permute(0, 2, 3, 1)[examples, rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2)


CHANNELS = 64

"""At the coarsest resolutions: what digits need, and a CPU can train."""

STEPS = {16: 6_000, 32: 20_000, 64: 50_000}

"""Training steps for images of each size."""


@dataclass(frozen=True)
class GanOptions:
    """How StyleGAN is trained (regime gan).

    Args:
        gan_steps: steps of discriminator and generator; default 6,000 at 16x16 pixels, 20,000 at 32x32, 50,000 above.
        gan_batch: real images per step, and as many fakes, over all devices.
        gan_channels: feature channels of both networks at the coarsest resolutions, a multiple of 4; the finer ones
            have theirs in proportion. 64 for digits on a CPU; photographs want more (the paper has 512).
        gan_lr: learning rate of Adam for both networks, constant.
        style_mixing: probability that a fake has two styles, from a random layer on the other one.
        r1_weight: weight of R1, half the squared gradient of the logits in real images. 1 is for digits; photographs
            want less (0.05 drew faces at 32x32 pixels).
        r1_every: steps between two uses of R1, whose weight is multiplied by as much.
        ema_decay: how much of the averaged generator stays at each step.
        gan_augment: largest shift of all that the discriminator sees, as a share of the side; 0 for none.
        gan_flip: whether it sees half of all images mirrored; not for digits and letters.
        preview_every: steps between two samples.png and mixing.png.
    """

    gan_steps: int | None = None
    gan_batch: int = 32
    gan_channels: int = CHANNELS
    gan_lr: float = 2e-3
    style_mixing: float = 0.9
    r1_weight: float = 1.0
    r1_every: int = 16
    ema_decay: float = 0.999
    gan_augment: float = 0.125
    gan_flip: bool = False
    preview_every: int = 500

    def __post_init__(self) -> None:
        check_values(self, "gan_steps gan_batch gan_lr", above=0)
        check_values(self, "r1_weight", least=0)
        check_values(self, "style_mixing ema_decay gan_augment", within=(0, 1))
        check_values(self, "r1_every preview_every", least=1)
        check_values(self, "gan_channels", least=4)
        if self.gan_channels % 4:
            raise UserError(f"--gan-channels {self.gan_channels}: not a multiple of 4")

    def steps(self, resolution: int) -> int:
        """The number of steps for images of this size."""
        return self.gan_steps or STEPS[resolution]


FLAT = FitOptions(grid_channels=0)

"""StyleGAN has no spatial grid."""


def gan_config(images: ImageSet, channels: int = CHANNELS) -> StyleGanConfig:
    """The network for images of this size and colour, with so many feature channels at the coarsest resolutions."""
    shape = style_config(images, FLAT)
    depth = 4 if shape.resolution <= 32 else 8
    widths = tuple(width * channels // shape.widths[0] for width in shape.widths)
    return StyleGanConfig(shape.resolution, shape.channels, shape.style_dim, depth, widths)


def point_out_groups(batch: int, devices: int) -> None:
    """Say where the discriminator compares fewer images with each other than it might, and so sees less of collapse."""
    size = group_size(batch // devices)
    if size < GROUP:
        whose = f"--gan-batch {batch}" + (f" over {devices} devices" if devices > 1 else "")
        compared = "1 image" if size == 1 else f"{size} images"
        console.print(
            f"[yellow]{whose}: the minibatch standard deviation, which tells the discriminator of missing variety, "
            f"compares {compared} at a time; {GROUP} where {GROUP * devices} divides the batch[/]"
        )


class GanTrainee(Stepper):
    """One step: the discriminator by a batch of real and fake images, then the generator by another batch of fakes.

    Every process draws the same whole batch and takes its own part; noise is each one's own.

    Args:
        images: what is imitated.
        options: how.
        seed: fixes the first weights and every draw.
        fabric: the machine.
        config: shape of the generator; default `gan_config(images, options.gan_channels)`.

    Attributes:
        average: the running average of the generator, which is the result.

    Raises:
        UserError: a batch that cannot be shared out among the devices.
    """

    def __init__(
        self, images: ImageSet, options: GanOptions, seed: int, fabric: Fabric, config: StyleGanConfig | None = None
    ) -> None:
        super().__init__(fabric)
        check_batch(fabric, "--gan-batch", options.gan_batch)
        config = config or gan_config(images, options.gan_channels)
        with global_seed(seed):
            self.generator = StyleGan(config)
            self.discriminator = Discriminator(config.channels, config.widths)
        self.wrapped_generator, self.generator_optimizer = fabric.setup(
            self.generator, adam(self.generator, options.gan_lr)
        )
        self.wrapped_generator.mark_forward_method("synthesize")
        self.adversary = Adversary(self.discriminator, fabric, options.gan_lr, options.r1_weight, options.r1_every)
        self.averaged = AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay))
        self.augment = Augmenter(round(options.gan_augment * config.resolution), options.gan_flip)
        self.images, self.options, self.seed, self.step = images, options, seed, 0
        self.own = own_part(fabric, options.gan_batch)
        if fabric.is_global_zero:
            point_out_groups(options.gan_batch, fabric.world_size)

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
        return self.adversary.loss(real, fake, step)

    def update(self, loss: Tensor) -> None:
        """Change the discriminator by its loss, the generator by its own, and the average by the generator."""
        self.adversary.update(loss)
        descend(self.fabric, self.generator_optimizer, self.adversary.generator_loss(self._fake("generator")))
        self.generator.track(self._drawn("generator")[0])
        self.averaged.update_parameters(self.generator)

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
        with self.fabric.autocast():  # one process calls `synthesize` without Fabric's wrapper, and its precision
            images = self.wrapped_generator.synthesize(z[self.own], crossover[self.own], noise)
        return self._augmented(place, images)

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "average": self.averaged,
            "generator optimizer": self.generator_optimizer,
            **self.adversary.parts(),
        }


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
        check_batch(fabric, "--invert-batch", options.invert_batch)
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
