"""From the scores of the layers to a split, and how sure that is.

>>> propose_split(layer_scores(generator, classifier, latents, labels, donors, donor_labels)).split
Split(layers=6, perp=(4, 5), grid=False)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.inspect.scores import (
    LayerScores,
)
from advmix.latents import Split, parts

SURE, FAIRLY_SURE = 0.95, 0.8
"""Shares of the resamples that have to propose the same split."""


@dataclass(frozen=True)
class Proposal:
    """The split that the scores speak for, and how sure that is.

    Attributes:
        split: of the swaps that keep the label, the one that changes the image most; None where none keeps it.
        threshold: the share of labels that a swap must keep.
        agreement: share of the resamples of the pairs that propose the same.
        resamples: how many there are.
        support: share of the resamples that propose each unit, coarse to fine, whatever they propose with it.
        others: what the rest of them propose, most frequent first, with their shares.
        next_larger: of the swaps that change the image more, the one that keeps most labels; None where there is none.
        sure: `sure`, `fairly sure` or `not sure`, as far as the choice of the pairs goes.
    """

    split: Split | None
    threshold: float
    agreement: float
    resamples: int
    support: tuple[float, ...]
    others: tuple[tuple[Split | None, float], ...]
    next_larger: Split | None
    sure: str


def propose_split(
    scores: LayerScores,
    threshold: float = 0.95,
    resamples: int = 200,
    rng: torch.Generator | None = None,
    groups: Sequence[Split] | None = None,
) -> Proposal:
    """Of all measured swaps that keep at least `threshold` of the labels, the one that changes the image most.

    Only whole `groups` are proposed: layers that belong together, such as those of one resolution; every layer is its
    own by default. Swaps that begin or end with an idle group are left out, and so is the one of everything: `z∥` would
    be empty.
    The pairs are resampled with replacement `resamples` times (a bootstrap) and every resample makes a proposal of its
    own. `sure`: 95 % of them agree, and the whole interval of the kept labels lies above the threshold; `fairly sure`:
    80 % agree.
    """
    allowed = torch.tensor([_is_candidate(scores, groups or scores.units, split) for split in scores.splits])
    count = len(scores.labels)
    draws = torch.randint(count, (resamples, count), generator=rng)
    weights = torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(
        1, draws, torch.ones(draws.shape).double()
    )
    chosen = int(_choose(scores, allowed, threshold, torch.ones(1, count, dtype=torch.float64))[0])
    votes = _choose(scores, allowed, threshold, weights)
    agreement = float((votes == chosen).double().mean())
    split = None if chosen < 0 else scores.splits[chosen]
    low = 0.0 if split is None else scores.of(split).label_changes.rest.low
    return Proposal(
        split=split,
        threshold=threshold,
        agreement=agreement,
        resamples=resamples,
        support=_support(scores, votes),
        others=_others(scores, votes[votes != chosen], resamples),
        next_larger=None if split is None else _next_larger(scores, allowed, split),
        sure=_sureness(agreement, split is None or low >= threshold),
    )


def _is_candidate(scores: LayerScores, groups: Sequence[Split], split: Split) -> bool:
    mine = set(parts(split))
    whole = [set(parts(group)) for group in groups if set(parts(group)) <= mine]
    if split == scores.everything or not whole or set().union(*whole) != mine:
        return False
    return not (whole[0] <= set(scores.idle) or whole[-1] <= set(scores.idle))


def _choose(scores: LayerScores, allowed: Tensor, threshold: float, weights: Tensor) -> Tensor:
    """For each row of weights of the pairs, `(R, N)`, the index of the proposed swap, or -1: `(R,)`."""
    right = scores.right.double()
    kept = (scores.answers == scores.labels).double() * right
    share = weights @ kept.T / (weights @ right).clamp_min(1)[:, None]
    usable = allowed & (share >= threshold)
    best = (weights @ scores.change.T).masked_fill(~usable, -1).argmax(dim=1)
    return torch.where(usable.any(dim=1), best, -1)


def _support(scores: LayerScores, votes: Tensor) -> tuple[float, ...]:
    proposed = [parts(scores.splits[row]) for row in votes[votes >= 0].tolist()]
    return tuple(sum(unit in found for found in proposed) / len(votes) for unit in scores.units)


def _others(scores: LayerScores, votes: Tensor, resamples: int) -> tuple[tuple[Split | None, float], ...]:
    found, counts = votes.unique(return_counts=True)
    ranked = sorted(zip(counts.tolist(), found.tolist(), strict=True), reverse=True)
    return tuple((None if row < 0 else scores.splits[row], times / resamples) for times, row in ranked)


def _next_larger(scores: LayerScores, allowed: Tensor, split: Split) -> Split | None:
    least = scores.of(split).image_change
    candidates = [other for other, fine in zip(scores.splits, allowed.tolist(), strict=True) if fine]
    larger = [found for other in candidates if (found := scores.of(other)).image_change > least]
    return min(larger, key=lambda found: found.label_changes.value).split if larger else None


def _sureness(agreement: float, clear: bool) -> str:
    if agreement >= SURE and clear:
        return "sure"
    return "fairly sure" if agreement >= FAIRLY_SURE else "not sure"


def verdict(scores: LayerScores, proposal: Proposal, split: Split) -> str:
    """What some layers are found to be: `z⊥` (all of them proposed), `idle` (all of them), else `z∥`."""
    mine = parts(split)
    if proposal.split is not None and set(mine) <= set(parts(proposal.split)):
        return "z⊥"
    return "idle" if set(mine) <= set(scores.idle) else "z∥"
