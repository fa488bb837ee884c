"""Which layers of a generator carry the label: measured, by giving an image the styles of another one.

What decides the label may be written into several layers at once. Swapping any one of them then changes few labels, and
swapping them together changes nearly all: a split has to be judged by its joint swap. So all runs of neighbouring
layers are measured, and a single layer is only the shortest of them.

>>> rows = torch.arange(1000)
>>> donors = other_label(labels[rows], labels, rng)
>>> scores = layer_scores(generator, classifier, pool[rows], labels[rows], pool[donors], labels[donors])
>>> scores.of(Split.fine(layers=6, count=2)).label_changes.value
0.013
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from advmix.generators.base import Generator
from advmix.intervals import Interval, wilson
from advmix.latents import Latents, Split, join_splits, neighbour_splits, single_splits, split_parts
from advmix.utils.errors import UserError
from advmix.utils.memory import RowBudget
from advmix.utils.progress import track
from advmix.utils.torch_tools import answers, eval_mode, mistakes, probabilities

IDLE = 0.02
"""A layer is idle when swapping it makes less than this share of the change that swapping everything makes."""


@dataclass(frozen=True)
class SwapScore:
    """What swapping some layers together does.

    Attributes:
        split: the layers, as the `z⊥` that they would be.
        image_change: mean absolute pixel change, pixels in [0, 1].
        image_share: the same as a share of what swapping everything changes.
        label_changes: how often the classifier's answer is no longer the label, where it was on the reconstruction.
        takes_donor: how often it is the donor's label instead: these layers carry it.
    """

    split: Split
    image_change: float
    image_share: float
    label_changes: Interval
    takes_donor: Interval


@dataclass(frozen=True, eq=False)
class LayerScores:
    """M swaps of N pairs of images, on the CPU.

    Attributes:
        splits: what was swapped.
        change: `(M, N)` float64, mean absolute pixel change of each image.
        answers: `(M, N)`, the classifier's answer after the swap.
        labels: `(N,)`, the images' own.
        donor_labels: `(N,)`, of the images whose styles they took.
        right: `(N,)`, whether the classifier is right on the reconstruction; labels are counted on these alone.
    """

    splits: tuple[Split, ...]
    change: Tensor
    answers: Tensor
    labels: Tensor
    donor_labels: Tensor
    right: Tensor

    @cached_property
    def units(self) -> tuple[Split, ...]:
        """Grid and layers, each alone, coarse to fine."""
        return single_splits(self.splits[0].layers, any(split.grid for split in self.splits))

    @property
    def everything(self) -> Split:
        """The swap of all layers, and of the grid where there is one."""
        return join_splits(self.units)

    def of(self, split: Split) -> SwapScore:
        """What one swap did."""
        row = self.splits.index(split)
        seen, pairs = self.answers[row][self.right], int(self.right.sum())
        change, all_change = (float(self.change[index].mean()) for index in (row, self.splits.index(self.everything)))
        return SwapScore(
            split,
            change,
            change / all_change,
            wilson(int(mistakes(seen, self.labels[self.right]).sum()), pairs),
            wilson(int((seen == self.donor_labels[self.right]).sum()), pairs),
        )

    @cached_property
    def idle(self) -> tuple[Split, ...]:
        """The units that hardly change the image; whether they are z⊥ makes no difference."""
        return tuple(unit for unit in self.units if self.of(unit).image_share < IDLE)

    def starting(self, unit: Split) -> Split:
        """A unit with all finer ones."""
        return join_splits(self.units[self.units.index(unit) :])

    def ending(self, unit: Split) -> Split:
        """A unit with all coarser ones."""
        return join_splits(self.units[: self.units.index(unit) + 1])


def other_label(labels: Tensor, pool_labels: Tensor, rng: torch.Generator | None = None) -> Tensor:
    """For each of `labels`, the index of a pool member with another one, drawn uniformly: `(N,)`, all on the CPU.

    Raises:
        UserError: the whole pool has one label.
    """
    order = pool_labels.argsort(stable=True)
    counts = pool_labels.bincount(minlength=int(labels.max()) + 1)
    before, own = (counts.cumsum(0) - counts)[labels], counts[labels]
    others = len(pool_labels) - own
    if int(others.min()) < 1:
        raise UserError(f"all {len(pool_labels)} images have one label: a swap between them says nothing about labels")
    draw = (torch.rand(len(labels), generator=rng, dtype=torch.float64) * others).long()
    return order[draw + (draw >= before).long() * own]  # the pool in order of labels, its own class left out


@torch.no_grad()
def layer_scores(
    generator: Generator,
    classifier: nn.Module,
    latents: Latents,
    labels: Tensor,
    donors: Latents,
    donor_labels: Tensor,
    splits: Sequence[Split] | None = None,
) -> LayerScores:
    """Give each of N images the styles of its donor, layers by layers, and ask a classifier.

    Args:
        generator: `dec`, on the latents' device; any.
        classifier: images in [0, 1] to logits `(B, C)`, on that device. If the images are biased it must not share
            their bias: what is measured is what *it* looks at.
        latents: of N images.
        labels: `(N,)`.
        donors: of N others, row by row; a donor with the same label says nothing about labels.
        donor_labels: `(N,)`.
        splits: what to swap; all runs of neighbouring layers by default. Every single layer must be among them.

    Raises:
        UserError: the classifier is wrong on every reconstruction, or the images do not depend on the latents.
    """
    asked = neighbour_splits(generator.layers, latents.grid is not None) if splits is None else tuple(splits)
    every = join_splits(single_splits(generator.layers, latents.grid is not None))
    asked = asked if every in asked else (*asked, every)
    with eval_mode(classifier, generator) as (model, _), track("swap layers", len(latents)) as advance:
        found = RowBudget().parts(
            lambda rows: _swap(generator, model, latents[rows], donors[rows], asked),
            len(latents),
            latents.styles.device,
            advance,
        )
    change, seen, plain = (torch.cat(column, dim=-1).cpu() for column in zip(*found, strict=True))
    scores = LayerScores(asked, change.double(), seen, labels.cpu(), donor_labels.cpu(), plain == labels.cpu())
    if not scores.right.any():
        raise UserError(
            f"the reference is wrong on all {len(latents)} reconstructions: choose another with --reference"
        )
    if float(change[asked.index(every)].mean()) == 0:
        raise UserError("swapping every layer changes no image: this generator does not use its latents")
    return scores


def _swap(
    generator: Generator, model: nn.Module, latents: Latents, donors: Latents, splits: Sequence[Split]
) -> tuple[Tensor, Tensor, Tensor]:
    """Changes `(M, B)` and answers `(M, B)` of all swaps of a batch, and the answers `(B,)` on the reconstructions."""
    plain = generator(latents)
    change, seen = [], []
    for split in splits:
        images = generator.render(generator.prefix(latents, split), split.perp_of(donors))
        change.append((images - plain).abs().flatten(1).mean(dim=1))
        seen.append(answers(model(images)))
    return torch.stack(change), torch.stack(seen), answers(model(plain))


@dataclass(frozen=True, eq=False)
class DimensionScores:
    """What swapping a single latent number does, `(L, D)` each, on the CPU.

    Attributes:
        change: mean absolute pixel change, pixels in [0, 1].
        label_changes: share of labels that change, of those that are right on the reconstruction.
        probability_change: mean absolute change of the probability of the label: it shows what no label does yet.
    """

    change: Tensor
    label_changes: Tensor
    probability_change: Tensor


@torch.no_grad()
def dimension_scores(
    generator: Generator, classifier: nn.Module, latents: Latents, labels: Tensor, donors: Latents
) -> DimensionScores:
    """Swap every number of every style by itself: `L * D` decodings of the images, so give it few (64).

    Args are those of `layer_scores`.
    """
    layers, depth = latents.styles.shape[1:]
    found, budget = [], RowBudget(most=16)
    with eval_mode(classifier, generator) as (model, _), track("swap numbers", layers * depth) as advance:
        plain = generator(latents)
        before, labels = probabilities(model(plain)), labels.cpu()

        def swap(layer: int, numbers: slice) -> Tensor:
            images = _swap_numbers(generator, latents, donors, layer, range(numbers.start, numbers.stop))
            after = probabilities(model(images.flatten(0, 1))).unflatten(0, images.shape[:2])
            change = (images - plain).abs().mean(dim=(1, 2, 3, 4)).cpu()
            return torch.stack([change, *_label_effect(before, after, labels)]).float()

        for layer in range(layers):
            found += budget.parts(partial(swap, layer), depth, latents.styles.device, advance)
    return DimensionScores(*torch.cat(found, dim=1).view(3, layers, depth))


def _label_effect(before: Tensor, after: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities `(B, C)` and `(K, B, C)`: label changes and mean change of the label's probability, `(K,)` each."""
    right = before.argmax(dim=1) == labels
    wrong = (after.argmax(dim=2) != labels) & right
    moved = (after - before).abs()[:, torch.arange(len(labels)), labels]
    return wrong.sum(dim=1) / right.sum().clamp_min(1), moved.mean(dim=1)


def _swap_numbers(
    generator: Generator, latents: Latents, donors: Latents, layer: int, numbers: Sequence[int]
) -> Tensor:
    """`(len(numbers), B, C, H, W)`: each number of one layer taken from the donors by itself."""
    split = Split(generator.layers, (layer,))
    own, theirs = split.perp_of(latents), split.perp_of(donors)
    perp = own.repeat(len(numbers), 1, 1)
    for row, number in enumerate(numbers):
        perp[row, :, number] = theirs[:, number]
    state = generator.prefix(latents, split).repeat(len(numbers))
    images = generator.render(state, perp.flatten(0, 1))
    return images.view(len(numbers), *own.shape[:1], *images.shape[1:])


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
    mine = set(split_parts(split))
    whole = [set(split_parts(group)) for group in groups if set(split_parts(group)) <= mine]
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
    proposed = [split_parts(scores.splits[row]) for row in votes[votes >= 0].tolist()]
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
    mine = split_parts(split)
    if proposal.split is not None and set(mine) <= set(split_parts(proposal.split)):
        return "z⊥"
    return "idle" if set(mine) <= set(scores.idle) else "z∥"
