"""Generator and encoder learn from mixes, too: they should look real, and keep the label of the image that they are of.

Reconstruction alone never shows the generator a mix. Two terms do: StyleGAN's discriminator judges reconstructions and
mixes against real images, and a classifier must still recognise what a mix shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data import ImageSet
from advmix.generators import StyleConfig
from advmix.latents import Latents, Split
from advmix.training.autoencode import WIDTHS, AutoencoderTrainee, FitOptions
from advmix.training.discriminator import Adversary, Discriminator
from advmix.training.gan import Augmenter, GanOptions
from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import derive, generator, global_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class MixOptions:
    """What is asked of mixes while generator and encoder are trained together (regime autoencode).

    Args:
        adversarial_weight: of a discriminator's judgement on reconstructions and mixes; 0 for none. It is trained as
            gan-lr, r1-weight, r1-every, gan-augment and gan-flip say.
        survival_weight: of the reference's cross-entropy on mixes against the label of the image whose z∥ they have;
            0 for none. It uses the labels of the training set.
        mix_perp: layers that are z⊥ in these mixes; negative ones count from the finest. Default: the two finest, or
            all of them where z∥ is a grid.
    """

    adversarial_weight: float = 0.0
    survival_weight: float = 0.0
    mix_perp: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_values(self, "adversarial_weight survival_weight", least=0)
        if self.mix_perp is not None and not self.mixes:
            raise UserError("--mix-perp: goes together with --adversarial-weight or --survival-weight")

    @property
    def mixes(self) -> bool:
        """Whether mixes are made at all."""
        return self.adversarial_weight > 0 or self.survival_weight > 0

    def split(self, config: StyleConfig) -> Split:
        """Which layers are z⊥ in the mixes of a network."""
        perp = range(config.layers) if config.grid_channels else (-2, -1)
        return Split.named(config.layers, perp if self.mix_perp is None else self.mix_perp, flag="--mix-perp")

    def check_reference(self, given: bool) -> None:
        """Refuse a weight without a reference, and a reference without a weight.

        Raises:
            UserError: naming both flags.
        """
        if given != (self.survival_weight > 0):
            raise UserError(f"--survival-weight {self.survival_weight}: goes together with --reference")


class MixTrainee(AutoencoderTrainee):
    """`AutoencoderTrainee` with more terms; with both weights 0 it is that, bit for bit.

    Every image of a batch lends its `z⊥` to the next one. The autoencoder learns by its own loss, then the
    discriminator by the logistic loss on what it was shown.

    Args:
        images: what is reconstructed; the labels count with a survival weight alone.
        options: how.
        seed: fixes the first weights and every draw.
        fabric: the machine.
        mix: what is asked of mixes.
        gan: how the discriminator is trained.
        reference: classifier, images in [0, 1] to logits, on the machine's device; it is frozen.
        config: shape of the network; default `style_config(images, options)`.
        features: images in [0, 1] to tensors, for the perceptual error; on the machine's device.

    Raises:
        UserError: weights without what they need, or images of a size that no discriminator has.
    """

    def __init__(
        self,
        images: ImageSet,
        options: FitOptions,
        seed: int,
        fabric: Fabric,
        mix: MixOptions,
        gan: GanOptions | None = None,
        reference: nn.Module | None = None,
        config: StyleConfig | None = None,
        features: nn.Module | None = None,
    ) -> None:
        super().__init__(images, options, seed, fabric, config, features)
        mix.check_reference(reference is not None)
        if mix.mixes and options.fit_batch < 2:
            raise UserError(f"--fit-batch {options.fit_batch}: a mix takes two images")
        gan = gan or GanOptions()
        self.mix, self.split = mix, mix.split(self.config)
        self.reference = None if reference is None else reference.requires_grad_(False).eval()
        self.adversary = _adversary(self.config, gan, seed, fabric) if mix.adversarial_weight else None
        self.augment = Augmenter(round(gan.gan_augment * self.config.resolution), gan.gan_flip)
        self.step, self.shown = 0, (torch.empty(0), torch.empty(0))

    def loss(self, step: int) -> Tensor:
        """The autoencoder's: error and penalty; what the discriminator says of all images, the reference of mixes."""
        if not self.mix.mixes:
            return super().loss(step)
        index, signed, noise_seed = self.batch(step)
        latents, size = self.model.encode_noisy(signed, self.options.latent_noise, noise_seed)
        images = self.model.generator.decode_signed(Latents.cat([latents, self.mixed(latents)]))
        decoded, mixes = images.chunk(2)
        loss = self.penalised_error(decoded, signed, size)
        if self.adversary is not None:
            self.step, self.shown = step, (self._seen("real", signed, step), self._seen("fake", images, step))
            loss = loss + self.mix.adversarial_weight * self.adversary.generator_loss(self.shown[1])
        if self.reference is not None:
            labels = self.images.labels[index].to(mixes.device)
            loss = loss + self.mix.survival_weight * survival_error(self.reference, mixes, labels)
        return loss

    def mixed(self, latents: Latents) -> Latents:
        """The `z∥` of each of B images with the `z⊥` of the one before it; the first takes the last one's."""
        return self.split.combine(latents, latents[torch.arange(len(latents)).roll(1)])

    def update(self, loss: Tensor) -> None:
        """Change the autoencoder by its loss, then the discriminator by its own."""
        super().update(loss)
        if self.adversary is not None:
            real, fake = self.shown
            self.adversary.update(self.adversary.loss(real, fake.detach(), self.step))

    def _seen(self, place: str, signed: Tensor, step: int) -> Tensor:
        """Images as the discriminator sees them."""
        return self.augment(signed, self.augment.draw(len(signed), generator(self.seed, "mixes", place, step)))

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | ({} if self.adversary is None else self.adversary.parts())


def _adversary(config: StyleConfig, gan: GanOptions, seed: int, fabric: Fabric) -> Adversary:
    with global_seed(derive(seed, "discriminator")):
        discriminator = Discriminator(config.channels, discriminator_widths(config.resolution))
    return Adversary(discriminator, fabric, gan.gan_lr, gan.r1_weight, gan.r1_every)


def discriminator_widths(resolution: int) -> tuple[int, ...]:
    """Feature channels at each resolution from 4 pixels up, as in `WIDTHS`; 16 at those above 64 pixels.

    Raises:
        UserError: not 4 times a power of two.
    """
    doublings = (resolution // 4).bit_length() - 1
    if resolution != 4 * 2**doublings:
        raise UserError(
            f"--adversarial-weight: images of {resolution} pixels: the discriminator takes 16, 32, 64, 128 and so on; "
            "resize them"
        )
    widths = WIDTHS[64]
    return (*widths, *[widths[-1]] * doublings)[: doublings + 1]


def survival_error(reference: nn.Module, mixes: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a classifier, images in [0, 1] to logits, on mixes `(B, C, H, W)` around [-1, 1], clamped as
    they leave the generator, against `labels` `(B,)`.
    """
    return F.cross_entropy(reference(((mixes + 1) / 2).clamp(0, 1)), labels)
