"""The doctor's measurements: networks, images and latents to a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.audit.layers import join, units
from advmix.audit.nested import Nested
from advmix.audit.survival import Survival, answers
from advmix.data import ImageSet, slices
from advmix.generators import Generator
from advmix.latents import Latents, Split
from advmix.modes import evaluating

BATCH = 100
FINE = 1e-3
"""Two codes are the same when no number differs by more than about this many standard deviations of the pool."""


@torch.no_grad()
def unexplained(generator: Generator, latents: Latents, images: ImageSet) -> float | None:
    """Share of the images' variance that reconstructions miss: squared error over squared distance to the mean image.

    0 is perfect, 1 is as good as the mean image, and more is worse than that; None where all images are the same.

    Args:
        generator: `dec`.
        latents: of N images.
        images: the same ones.
    """
    pixels = images.batch(slice(None))[0].double()
    total = (pixels - pixels.mean(dim=0)).square().sum()
    with evaluating(generator) as (decoder,):
        errors = [
            (decoder(latents[part]).cpu().double() - pixels[part]).square().sum() for part in slices(len(images), BATCH)
        ]
    return float(torch.stack(errors).sum() / total) if float(total) > 0 else None


@torch.no_grad()
def swap_changes(generator: Generator, latents: Latents, donors: Latents, splits: Sequence[Split]) -> list[float]:
    """Mean absolute pixel change, pixels in [0, 1], when N images take these layers of their donors, for each split."""
    changes = torch.zeros(len(splits), dtype=torch.float64)
    with evaluating(generator):
        for part in slices(len(latents), BATCH):
            own, theirs = latents[part], donors[part]
            plain = generator(own)
            for row, split in enumerate(splits):
                mixed = generator.render(generator.prefix(own, split), split.perp_of(theirs))
                changes[row] += (mixed - plain).abs().flatten(1).mean(dim=1).sum().cpu()
    return (changes / len(latents)).tolist()


@dataclass(frozen=True)
class Moves:
    """What swaps change, mean absolute pixel change in [0, 1]: of z⊥, of everything."""

    perp: float
    everything: float

    @property
    def share(self) -> float:
        """Of the change that swapping everything makes; 0 where that changes nothing."""
        return self.perp / self.everything if self.everything > 0 else 0.0


def moves(generator: Generator, latents: Latents, donors: Latents, split: Split) -> Moves:
    """Swap z⊥ between N images and their donors, and swap everything."""
    everything = join(units(generator.layers, latents.grid is not None))
    return Moves(*swap_changes(generator, latents, donors, [split, everything]))


@torch.no_grad()
def survival(
    reference: nn.Module,
    generator: Generator,
    split: Split,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    donors: Tensor,
) -> Survival:
    """What a reference sees in mixes of N images with the z⊥ of their donors, `(D, N)` places in the pool.

    Args:
        reference: images in [0, 1] to logits; all networks and latents are on one device.
        generator: `dec`.
        split: which layers are z⊥.
        latents: of N images, with their residual where mixes keep it.
        labels: `(N,)`, on the CPU.
        pool: whose z⊥ are lent.
        donors: places in the pool.
    """
    with evaluating(reference, generator) as (model, _):
        found = [
            answers(model, generator, split, latents[part], pool, donors[:, part])
            for part in slices(len(latents), BATCH)
        ]
    return Survival.of(torch.cat(found, dim=1), labels)


@dataclass(frozen=True)
class Pool:
    """A pool of z⊥.

    Attributes:
        size: how many.
        duplicates: share of them that another one equals.
        spread: root mean square standard deviation of a latent number, as a share of its root mean square.
    """

    size: int
    duplicates: float
    spread: float


def describe_pool(perp: Tensor) -> Pool:
    """Of z⊥ rows `(N, P)`."""
    rows = perp.cpu().double()
    deviation, size = rows.std(dim=0, correction=0), rows.square().mean().sqrt()
    cells = (rows / (FINE * deviation.square().mean().sqrt()).clamp_min(1e-12)).round()
    _, counts = cells.unique(dim=0, return_counts=True)
    twins = int(counts[counts > 1].sum())
    spread = deviation.square().mean().sqrt() / size.clamp_min(1e-12)
    return Pool(len(rows), twins / len(rows), float(spread))


@dataclass(frozen=True)
class Found:
    """What searches of several sizes found on the same images: shares that stay right, mean losses in nats.

    Attributes:
        images: how many.
        restarts: R of the search that is asked about.
        steps: K of it.
        right: R restarts, K steps.
        right_restarts: 2R restarts, K steps.
        right_steps: R restarts, 2K steps.
        right_largest: all restarts that there are, 2K steps.
        loss_random: one random donor.
        loss_random_many: the worst of K + 1 random donors, as many candidates as one climb has.
        loss_climb: one donor and K steps from it.
    """

    images: int
    restarts: int
    steps: int
    right: float
    right_restarts: float
    right_steps: float
    right_largest: float
    loss_random: float
    loss_random_many: float | None
    loss_climb: float


def compare_searches(nested: Nested, restarts: int, steps: int) -> Found:
    """Read the smaller searches off one that holds them all, with at least twice the restarts and steps."""

    held = nested.losses.shape[1]

    def right(r: int, k: int) -> float:
        return float(nested.right(r, k).double().mean())

    def loss(r: int, k: int) -> float:
        return float(nested.loss(r, k).double().mean())

    return Found(
        images=len(nested.plain),
        restarts=restarts,
        steps=steps,
        right=right(restarts, steps),
        right_restarts=right(2 * restarts, steps),
        right_steps=right(restarts, 2 * steps),
        right_largest=right(held, 2 * steps),
        loss_random=loss(1, 0),
        loss_random_many=loss(steps + 1, 0) if steps + 1 <= held else None,
        loss_climb=loss(1, steps),
    )
