"""How little it takes: the smallest change of z⊥ that flips an answer, and how large it is beside those of real images.

The minimum of a search along paths, as in Brendel et al., "Decision-based adversarial attacks" (2018): outwards from
the image until the answer flips, then bisected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.mixing import Flips
from advmix.utils.torch_tools import answers, eval_mode, generator, mistakes

LEVELS, BISECTIONS = 10, 4
"""Strengths that are tried outwards, and halvings of the last interval: 1/160 of the way."""


@dataclass(frozen=True, eq=False)
class SmallestChange:
    """Of B images.

    Attributes:
        strength: `(B,)`, how far of the way from the image's own z⊥ to one that flips its answer; 0 where the answer is
            wrong before anything is changed, infinite where none flips it.
        perp: `(B, P)`, the z⊥ there; the image's own where nothing flips.
        images: `(B, C, H, W)` in [0, 1].
    """

    strength: Tensor
    perp: Tensor
    images: Tensor


@torch.no_grad()
def smallest_change(
    classifier: nn.Module, decoder: Generator, split: Split, latents: Latents, labels: Tensor, flips: Flips | None
) -> SmallestChange:
    """Go from each image's own z⊥ towards each z⊥ that flips its answer, and stop where the answer flips first.

    Algorithm: for s = 1/10, 2/10, ... 1: mix `(1 - s) * own + s * flip` for all R flips of an image that is not flipped
    yet; where some are wrong, halve the interval (s - 1/10, s] four times for each of these, and keep the smallest.

    Args:
        classifier: images in [0, 1] to logits.
        decoder: `dec`.
        split: what is z⊥.
        latents: of B images, with their residual where mixes keep it.
        labels: `(B,)`.
        flips: R of each image, as a search found them: `Mix.flips` of a mixer that was given the classifier.
    """
    assert flips is not None
    own = split.perp_of(latents)
    with eval_mode(classifier, decoder) as (model, _):
        state = decoder.prefix(latents, split)

        def is_wrong(rows: Tensor, perp: Tensor) -> Tensor:
            return mistakes(answers(model(decoder.render(state[rows], perp))), labels[rows])

        strength, end = _walk(is_wrong, own, flips)
        share = strength.nan_to_num(posinf=0)[:, None]
        perp = torch.where(share > 0, torch.lerp(own, end, share), own)
        images = decoder.render(state, perp)
    return SmallestChange(strength, perp, images)


def _walk(is_wrong: Callable[[Tensor, Tensor], Tensor], own: Tensor, flips: Flips) -> tuple[Tensor, Tensor]:
    """How far each of B images goes, `(B,)`, and towards which of its ends, `(B, P)`.

    Args:
        is_wrong: of the images at some places and z⊥ of these.
        own: `(B, P)`.
        flips: the ends.
    """
    every = torch.arange(len(own), device=own.device)
    strength, end = own.new_full((len(own),), torch.inf), own.clone()
    strength[is_wrong(every, own)] = 0
    for level in range(1, LEVELS + 1):
        runs, rows = (flips.there & strength.isinf()).nonzero().unbind(1)
        if not len(rows):
            break
        ends, high = flips.perp[runs, rows], own.new_full((len(rows), 1), level / LEVELS)
        wrong = is_wrong(rows, torch.lerp(own[rows], ends, high)) | (level == LEVELS)
        if not wrong.any():
            continue
        rows, ends = rows[wrong], ends[wrong]
        high = _bisected(is_wrong, rows, own[rows], ends, high[wrong])
        strength = strength.scatter_reduce(0, rows, high[:, 0], "amin")
        least = high[:, 0] == strength[rows]
        end[rows[least]] = ends[least]
    return strength, end


def _bisected(
    is_wrong: Callable[[Tensor, Tensor], Tensor], rows: Tensor, own: Tensor, ends: Tensor, high: Tensor
) -> Tensor:
    """The least strength, `(N, 1)`, that is known to be wrong after a level was halved, at whose end `high` it is."""
    low = high - 1 / LEVELS
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        wrong = is_wrong(rows, torch.lerp(own, ends, middle))[:, None]
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return high


PAIRS, MEMBERS = 10_000, 2_000
"""Pairs of images that are measured, and at most so many members of a pool."""


@dataclass(frozen=True, eq=False)
class StyleScale:
    """How far the z⊥ of real images lie apart: a natural unit for the size of a change.

    A distance is Euclidean, with each latent number in standard deviations of the images; a number that is the same in
    all of them does not count.

    Args:
        unit: `(P,)`, those standard deviations, infinite for 0.
        pool: `(M, P)`, whose z⊥ are borrowed.
        pairs: distances of random pairs of images, in order.
        nearest: of each member of the pool to the nearest other one, in order.
    """

    unit: Tensor
    pool: Tensor
    pairs: Tensor
    nearest: Tensor

    @staticmethod
    def of(images: Tensor, pool: Tensor) -> StyleScale:
        """The scale of N images `(N, P)` and of a pool `(M, P)`, at least 2 each; random pairs have a fixed seed.

        At most `PAIRS` pairs and `MEMBERS` members are measured.
        """
        rng = generator(0, "style scale")
        members = pool[torch.randperm(len(pool), generator=rng)[:MEMBERS]]
        first = torch.randint(len(images), (PAIRS,), generator=rng)
        other = (first + torch.randint(1, len(images), (PAIRS,), generator=rng)) % len(images)
        unit = images.std(dim=0, correction=0)
        unit = unit.masked_fill(unit == 0, torch.inf)
        pairs = ((images[first] - images[other]) / unit).norm(dim=1)
        apart = torch.cdist(members / unit, members / unit).fill_diagonal_(torch.inf)
        return StyleScale(unit, members, pairs.sort().values, apart.min(dim=1).values.sort().values)

    def share_of_pairs(self, own: Tensor, perp: Tensor) -> Tensor:
        """The share of pairs of images that are more alike than `own` and `perp`, `(B, P)` each: `(B,)` in [0, 1]."""
        return _rank(self.pairs, ((perp - own) / self.unit).norm(dim=1))

    def share_of_pool(self, perp: Tensor) -> Tensor:
        """The share of the pool whose nearest other member is closer than the nearest one to `perp` `(B, P)`: `(B,)` in
        [0, 1], near 1 where no member looks like it.
        """
        return _rank(self.nearest, torch.cdist(perp / self.unit, self.pool / self.unit).min(dim=1).values)


def _rank(ordered: Tensor, values: Tensor) -> Tensor:
    """The share of `ordered` that is smaller than each value."""
    return torch.searchsorted(ordered, values.contiguous()).to(values) / len(ordered)


def clipped_share(before: Tensor, after: Tensor) -> Tensor:
    """The share of an image's pixel values that are 0 or 1 after a change and were not before: `(B, C, H, W)` in [0, 1]
    each to `(B,)`.
    """
    return (((after <= 0) | (after >= 1)) & (before > 0) & (before < 1)).flatten(1).double().mean(dim=1).to(after)
