"""What is done to the faces that are shown: variations both ways, worst ones, perturbations of every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.latents import Split
from advmix.mixing import AdvMix, RandMix
from advmix.modes import evaluating
from advmix.seeds import generator, global_seed
from advmix.studies.celeba.cast import Cast
from advmix.studies.celeba.recipes import RADII
from advmix.training.attacks import pgd
from advmix.training.methods import SearchOptions


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
    return AdvMix(
        network,
        split,
        restarts=options.restarts,
        steps=options.steps,
        step_size=options.step_size,
        radius=options.radius,
        step=options.step,
    )


def probability(classifier: nn.Module, images: Tensor) -> Tensor:
    """Of class 1, `(N,)` in [0, 1]."""
    with torch.no_grad(), evaluating(classifier) as (model,):
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
