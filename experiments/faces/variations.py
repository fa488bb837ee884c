"""Whose faces are shown: held-out real ones, for this machine alone, or ones that a StyleGAN made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import load_autoencoder
from advmix.encoders.network import encoded
from advmix.generators.base import Generator
from advmix.generators.stylegan import StyleGan
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, RandMix, SearchOptions
from advmix.training.objectives import pgd
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import eval_mode, generator, global_seed
from experiments.faces.cell import ALL, Bench
from experiments.faces.settings import RADII

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
    with torch.no_grad(), eval_mode(network, *classifiers.values()) as (dec, *judges):
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


@dataclass(frozen=True, eq=False)
class Poles:
    """One face under two variations: `low` and `high` `(N, 3, H, W)`, and the probability of class 1 on each `(N,)`."""

    faces: Tensor
    low: Tensor
    high: Tensor
    p_low: Tensor
    p_high: Tensor


def search_of(cast: Cast, options: SearchOptions) -> AdvMix:
    """Algorithm 1 in the cast's generator. The layers are those of the options; of a StyleGAN, whose faces are made up,
    the finer half.
    """
    network = cast.generator
    split = Split.fine(network.layers, network.layers // 2) if cast.made_up else options.split(network.layers)
    return AdvMix(network, split, options)


def probability(classifier: nn.Module, images: Tensor) -> Tensor:
    """Of class 1, `(N,)` in [0, 1]."""
    with torch.no_grad(), eval_mode(classifier) as (model,):
        found: Tensor = model(images).softmax(dim=1)[:, 1]
    return found


def poles(cast: Cast, classifier: nn.Module, search: AdvMix, seed: int) -> Poles:
    """Each face as the classifier finds class 1 least and most probable: the search, against either label."""
    ends = []
    for label in (1, 0):
        labels = torch.full_like(cast.labels, label)
        mix = search(classifier, cast.latents, labels, cast.pool, rng=generator(seed, "celeba", "poles"))
        ends.append((mix.images, probability(classifier, mix.images)))
    (low, p_low), (high, p_high) = ends
    return Poles(cast.images, low, high, p_low, p_high)


def widest(found: Poles, count: int) -> Tensor:
    """The faces with the most certain answers on both sides, by the less certain of the two."""
    return torch.minimum(found.p_high, 1 - found.p_low).argsort(descending=True)[:count]


def worst(cast: Cast, classifier: nn.Module, search: AdvMix, seed: int) -> Tensor:
    """The worst variation found of each face, `(N, 3, H, W)`."""
    return search(classifier, cast.latents, cast.labels, cast.pool, rng=generator(seed, "celeba", "worst")).images


def perturbations(cast: Cast, classifier: nn.Module, search: AdvMix, steps: int, seed: int) -> Mapping[str, Tensor]:
    """What each method would train on in place of the faces: against one classifier, where it needs one.

    Args:
        cast: the faces.
        classifier: that is attacked.
        search: of AdvMix.
        steps: of the pixel attacks.
        seed: of all draws.
    """
    from torchvision.transforms.v2 import MixUp

    faces, labels = cast.images, cast.labels
    with global_seed(seed):
        mixed = MixUp(num_classes=len(cast.classes), alpha=1.0)(faces.cpu(), labels.cpu())[0].to(faces)
    found = {"mixup": mixed}
    for name, radius in RADII.items():
        rng = generator(seed, "celeba", name)
        found[name] = pgd(classifier, faces, labels, radius=radius, steps=steps, rng=rng)
    random = RandMix(search.generator, search.split)
    found["randmix"] = random(None, cast.latents, labels, cast.pool, rng=generator(seed, "celeba", "randmix")).images
    return {**found, "advmix": worst(cast, classifier, search, seed)}


AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What is nearest to each of N images, nearest first.

    Attributes:
        places: `(N, K)`, in the set that was searched.
        distances: `(N, K)`, root mean squared differences of a pixel, in [0, 1].
    """

    places: Tensor
    distances: Tensor

    def summary(self) -> dict[str, float]:
        """Distances to the nearest one: the least, and the median over the images."""
        nearest = self.distances[:, 0]
        return {"least": float(nearest.min()), "median": float(nearest.median())}


@torch.no_grad()
def neighbours(images: Tensor, among: ImageSet, count: int = 3) -> Neighbours:
    """The images of a set that are nearest to some images, as they are or mirrored.

    Args:
        images: `(N, C, H, W)` in [0, 1].
        among: the set, of the same shape.
        count: K, how many of each.
    """
    wanted, parts = images.flatten(1), []
    for rows in slices(len(among), AT_ONCE):
        there = among.batch(rows)[0].to(images.device)
        parts.append(torch.minimum(*(torch.cdist(wanted, turned.flatten(1)) for turned in (there, there.flip(3)))))
    distances = torch.cat(parts, dim=1)
    found = distances.topk(min(count, len(among)), dim=1, largest=False)
    return Neighbours(found.indices.cpu(), found.values.cpu() / wanted.shape[1] ** 0.5)
