"""What is in `z⊥`: how much of a made change it carries, and how near a mix comes to its donor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import start_latents
from advmix.generators.image_statistics import take_moments
from advmix.latents import Split
from experiments.learned_style.made_changes import grey

BATCH, DIRECTIONS = 50, 32


@torch.no_grad()
def mixes(model: Autoencoder, images: Tensor, donors: Tensor) -> Tensor:
    """Images `(B, C, H, W)` in [0, 1] with the styles of as many donors, residual kept."""
    dec, enc = model.generator, model.encoder
    split = Split(dec.layers, tuple(range(dec.layers)))
    made = []
    for own, lent in zip(images.split(BATCH), donors.split(BATCH), strict=True):
        latents = start_latents(dec, enc, own, None, residual=True)
        made.append(dec(split.combine(latents, enc(lent))))
    return torch.cat(made)


def explained(model: Autoencoder, images: Tensor, changed: Tensor) -> float:
    """Share of a squared change that is in the styles: those of the changed images are put on the unchanged ones.

    1 is all of it; less than 0 is further away than the unchanged images are.
    """
    return shared(images, changed, mixes(model, images, changed))


def shared(images: Tensor, changed: Tensor, other: Tensor) -> float:
    """Share of the squared change from images to changed ones that other images have, too."""
    return float(1 - (other - changed).square().sum() / (changed - images).square().sum())


def nearness(images: Tensor, donors: Tensor, found: Tensor) -> dict[str, float]:
    """How near mixes `(B, 3, H, W)` come to their donors, and what they keep of their images.

    Returns:
        `means`: mean absolute error of the channels' means, images in [0, 1]; `deviations`: of the log deviations, in
        stops; `colours`: sliced Wasserstein distance of the pixels' colours; `edges`: correlation of the differences
        between neighbours, of images and mixes.
    """
    means, logs = (take_moments(found)[0] - take_moments(donors)[0]).abs().mean(dim=(0, 2)).tolist()
    return {"means": means, "deviations": logs, "colours": _sliced(found, donors), "edges": _edges(images, found)}


def _sliced(one: Tensor, other: Tensor) -> float:
    rng = torch.Generator().manual_seed(0)
    ways = F.normalize(torch.randn(one.shape[1], DIRECTIONS, generator=rng), dim=0)
    sorts = [(images.flatten(2).mT @ ways).sort(dim=1).values for images in (one, other)]
    return float((sorts[0] - sorts[1]).abs().mean())


def _edges(one: Tensor, other: Tensor) -> float:
    differences = []
    for images in (one, other):
        level = grey(images)
        down, right = level[..., 1:, :] - level[..., :-1, :], level[..., 1:] - level[..., :-1]
        both = torch.cat([down.flatten(1), right.flatten(1)], dim=1)
        differences.append(both - both.mean(dim=1, keepdim=True))
    return float(F.cosine_similarity(differences[0], differences[1]).mean())
