"""Whose faces are shown: held-out real ones, for this machine alone, or ones that a StyleGAN made up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.encoders import encoded
from advmix.encoders.autoencoder import load_autoencoder
from advmix.errors import UserError
from advmix.generators import Generator, StyleGan
from advmix.latents import Latents
from advmix.modes import evaluating
from advmix.seeds import generator
from advmix.studies.celeba.bench import ALL, Bench

POOL = 256
"""Latents whose z⊥ are lent, made up like the faces themselves."""
TRUNCATION = 0.8
FACTS = (
    *("gan", "invert", "fit_seconds", "reconstruction_mse"),
    *("frechet_distance", "frechet_features", "class_shares", "class_shares_samples", "class_shares_real"),
)
"""What a file of `fit --regime gan` says beside the data, which may lie anywhere."""


@dataclass(frozen=True, eq=False)
class Cast:
    """N faces that can be varied, on one device.

    Attributes:
        generator: draws them, and all of their variations.
        images: `(N, 3, H, W)` in [0, 1].
        latents: their own.
        labels: `(N,)`.
        pool: latents whose `z⊥` are lent.
        classes: names.
        made_up: whether no real person is on any of them, nor lends anything to their variations.
    """

    generator: Generator
    images: Tensor
    latents: Latents
    labels: Tensor
    pool: Latents
    classes: tuple[str, ...]
    made_up: bool

    def __getitem__(self, rows: Tensor) -> Cast:
        """Some of the faces, with all of the pool."""
        return replace(self, images=self.images[rows], latents=self.latents[rows], labels=self.labels[rows])


def real_cast(bench: Bench, count: int) -> Cast:
    """The first held-out faces, with their residual, under the generator of all training images."""
    model, images = bench.generator(ALL)[0], bench.faces.judged[:count]
    latents, shown = encoded(images, model.encoder), images.batch(slice(None))[0].to(bench.device)
    if bench.config.baseline.residual:
        latents = model.generator.complete(latents, shown)
    pool = encoded(bench.faces.labelled, model.encoder)
    return Cast(model.generator, shown, latents, images.labels.to(bench.device), pool, images.classes, made_up=False)


def open_gan(folder: Path, like: tuple[int, ...]) -> StyleGan:
    """The StyleGAN of a `fit --regime gan` folder.

    Args:
        folder: that fit wrote.
        like: `(C, H, W)` of the images that the classifiers are for.

    Raises:
        UserError: any other generator. An autoencoder draws only people that it has seen.
    """
    model, _ = load_autoencoder(folder)
    network = model.generator
    if not isinstance(network, StyleGan):
        raise UserError(
            f"--generator {folder}: no StyleGAN of advmix fit --regime gan; only faces that one makes up from random "
            "latents may be published: an autoencoder's pictures show real people"
        )
    if (network.channels, network.resolution, network.resolution) != like:
        raise UserError(
            f"--generator {folder}: draws {network.channels} channels of {network.resolution} pixels, but the "
            f"classifiers are for {like[0]} of {like[-1]}"
        )
    return network


def facts_of(folder: Path) -> dict[str, Any]:
    """How the generator in a folder was trained and how good it is, as far as its file says so; but for places."""
    _, metadata = load_autoencoder(folder)
    return {name: metadata[name] for name in FACTS if name in metadata}


def made_up_cast(
    network: StyleGan, classifiers: dict[str, nn.Module], classes: tuple[str, ...], count: int, seed: int
) -> Cast:
    """Faces of random latents on whose class all classifiers agree, which serves as their label; and a pool of more.

    Raises:
        UserError: they do not agree on so many.
    """
    device = next(network.parameters()).device
    latents = network.sample(8 * count, generator(seed, "celeba", "faces"), TRUNCATION, mixing=0.0)
    pool = network.sample(POOL, generator(seed, "celeba", "pool"), TRUNCATION, mixing=0.0)
    with torch.no_grad(), evaluating(network, *classifiers.values()) as (dec, *judges):
        images = dec(latents)
        votes = torch.stack([judge(images).argmax(dim=1) for judge in judges])
    agreed = (votes == votes[0]).all(dim=0)
    rows = torch.cat(
        [torch.nonzero(agreed & (votes[0] == k))[: -(-count // len(classes)), 0] for k in range(len(classes))]
    )
    if len(rows) < 2:
        raise UserError(f"the classifiers agree on {len(rows)} of {8 * count} faces that the generator made up")
    rows = rows[torch.randperm(len(rows), generator=generator(seed, "celeba", "order")).to(device)][:count]
    return Cast(network, images[rows], latents[rows], votes[0][rows], pool, classes, made_up=True)
