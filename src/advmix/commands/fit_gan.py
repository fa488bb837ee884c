"""`advmix fit --regime gan`: StyleGAN, then an encoder for it, with pictures on the way and numbers at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from advmix.commands.sample import sample_grid
from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import Autoencoder, fingerprint, load_autoencoder
from advmix.generators.stylegan import MappedGenerator
from advmix.latents import Latents, Split
from advmix.report.figures import mixing_grid
from advmix.report.page import save_figures
from advmix.training.discriminator import Discriminator
from advmix.training.features import PenultimateFeatures, class_shares, frechet_distance
from advmix.training.gan import GanOptions, GanTrainee
from advmix.training.invert import InvertOptions, InvertTrainee
from advmix.training.loop import Loop
from advmix.utils.config import to_dict
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SAMPLES, GRID_ROWS, GRID_COLUMNS, AT_ONCE = 128, 7, 9, 256

CLASS_SAMPLES = 1000

"""Samples whose classes are counted."""


@dataclass(frozen=True)
class GanFit:
    """The two trainings of one run, one after the other; both go on where they were stopped.

    Args:
        images: what is imitated.
        gan: how the generator is trained.
        invert: how its encoder is.
        seed: fixes everything.
        out: folder; checkpoints and logs go to `gan` and `encoder` in it.
        run: identifies the run.
        checkpoint_seconds: time between checkpoints.
    """

    images: ImageSet
    gan: GanOptions
    invert: InvertOptions
    seed: int
    out: Path
    run: str
    checkpoint_seconds: float

    def train(self, fabric: Fabric) -> tuple[Autoencoder, list[Loop], Discriminator]:
        """Generator with encoder, the loops that made them, and the discriminator."""
        side = self.images.pixels.shape[-1]
        gan = GanTrainee(self.images, self.gan, self.seed, fabric)
        first = self._loop("fit StyleGAN", "gan", self.gan.steps(side))
        first.watch = lambda done: self._preview(gan.average, done, first.steps)
        first.train(gan)
        encoder = InvertTrainee(gan.average, self.images, self.invert, self.seed, fabric, self.gan.style_mixing)
        second = self._loop("fit encoder", "encoder", self.invert.steps(side))
        second.train(encoder)
        return encoder.model, [first, second], gan.discriminator

    def _loop(self, title: str, folder: str, steps: int) -> Loop:
        return Loop(title, steps, self.out / folder, self.run, self.checkpoint_seconds)

    def _preview(self, dec: MappedGenerator, done: int, steps: int) -> None:
        if done % self.gan.preview_every == 0 or done == steps:
            save_figures(preview(dec, self.seed), self.out)

    def settings(self) -> dict[str, Any]:
        """What the file says about how it was made."""
        return {"regime": "gan", "gan": to_dict(self.gan), "invert": to_dict(self.invert)}


def preview(dec: MappedGenerator, seed: int) -> dict[str, Figure]:
    """Samples and mixes of them, always of the same draws, so that pictures of one run can be compared."""
    latents = dec.sample(SAMPLES, generator(seed, "preview"), mixing=0)
    return {"samples": sample_grid(_rgb(dec, latents)), "mixing": mixing_figure(dec, latents)}


@torch.no_grad()
def _rgb(dec: MappedGenerator, latents: Latents) -> Tensor:
    images: Tensor = dec(latents)
    return images.expand(-1, 3, -1, -1)


def mixing_figure(dec: MappedGenerator, latents: Latents) -> Figure:
    """Rows: the first samples, without their two finest layers. Columns: the samples that lend these two."""
    split = Split.fine(dec.layers, 2)
    device = latents.styles.device
    rows = torch.arange(GRID_ROWS, device=device).repeat_interleave(GRID_COLUMNS)
    columns = torch.arange(GRID_COLUMNS, device=device).repeat(GRID_ROWS) + GRID_ROWS
    mixes = _rgb(dec, split.combine(latents[rows], latents[columns]))
    lent = latents[GRID_ROWS : GRID_ROWS + GRID_COLUMNS]
    return mixing_grid(_rgb(dec, latents[:GRID_ROWS]), _rgb(dec, lent), mixes, "its coarse layers", "its two finest")


def judged(
    dec: MappedGenerator, images: ImageSet, classifier: nn.Module, seed: int, counted: bool = True
) -> dict[str, Any]:
    """Fréchet distance between training images and as many samples under the features of a classifier; if `counted`,
    the share of each class that it sees among `CLASS_SAMPLES` samples, beside its share of the training set's labels.

    Args:
        dec: makes the samples up.
        images: of the training set.
        classifier: images in [0, 1] to logits.
        seed: of the samples.
        counted: whether the logits are of the classes of the images.
    """
    device = dec.mean_style.device
    network = classifier.to(device)
    counts = _class_shares(dec, images, network, seed) if counted else {}
    real = (images.batch(part)[0].to(device) for part in slices(len(images), AT_ONCE))
    fake = _samples(dec, len(images), seed)
    return {
        "frechet_distance": frechet_distance(real, fake, PenultimateFeatures(network)),
        "frechet_features": fingerprint(network),
        **counts,
    }


def _class_shares(dec: MappedGenerator, images: ImageSet, network: nn.Module, seed: int) -> dict[str, Any]:
    shares = class_shares(_samples(dec, CLASS_SAMPLES, seed), network)
    return {
        "class_shares": dict(zip(images.classes, shares.tolist(), strict=True)),
        "class_shares_samples": CLASS_SAMPLES,
        "class_shares_real": dict(zip(images.classes, _real_shares(images).tolist(), strict=True)),
    }


def _real_shares(images: ImageSet) -> Tensor:
    return images.labels.bincount(minlength=len(images.classes)).double() / len(images)


@torch.no_grad()
def _samples(dec: MappedGenerator, count: int, seed: int) -> Iterator[Tensor]:
    rng = generator(seed, "judged")
    for part in slices(count, AT_ONCE):
        yield dec(dec.sample(part.stop - part.start, rng, mixing=0))


@dataclass(frozen=True, eq=False)
class Finished:
    """A generator that an encoder is wanted for, and what its file says of it."""

    dec: MappedGenerator
    metadata: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Finished:
        """The generator of an `import` folder, or of a GAN's `fit`.

        Raises:
            UserError: one that makes nothing up, so that there is nothing to learn from.
        """
        model, metadata = load_autoencoder(folder)
        if not isinstance(model.generator, MappedGenerator):
            raise UserError(f"--generator {folder}: trained together with its encoder; this is for GANs and imports")
        return cls(model.generator, metadata)

    def train(self, images: ImageSet, options: InvertOptions, seed: int, fabric: Fabric, loop: Loop) -> Autoencoder:
        """The generator with an encoder network."""
        trainee = InvertTrainee(self.dec.to(fabric.device), images, options, seed, fabric, from_mean=True)
        loop.train(trainee)
        return trainee.model

    def settings(self, options: InvertOptions) -> dict[str, Any]:
        """What the file says about how it was made."""
        origin = {"imported": self.metadata["imported"]} if "imported" in self.metadata else {}
        return {"regime": "invert", "invert": to_dict(options), **origin}
