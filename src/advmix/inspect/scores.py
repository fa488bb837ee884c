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
from functools import cached_property

import torch
from torch import Tensor, nn

from advmix.data.images import slices
from advmix.generators.base import Generator
from advmix.intervals import Interval, wilson
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError
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
        return units(self.splits[0].layers, any(split.grid for split in self.splits))

    @property
    def everything(self) -> Split:
        """The swap of all layers, and of the grid where there is one."""
        return join(self.units)

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
        return join(self.units[self.units.index(unit) :])

    def ending(self, unit: Split) -> Split:
        """A unit with all coarser ones."""
        return join(self.units[: self.units.index(unit) + 1])


def units(layers: int, grid: bool) -> tuple[Split, ...]:
    """What can be swapped by itself, coarse to fine: the grid, where there is one, then every layer."""
    single = tuple(Split(layers, (layer,)) for layer in range(layers))
    return (Split(layers, (), grid=True), *single) if grid else single


def join(splits: Sequence[Split]) -> Split:
    """All layers of several splits."""
    perp = tuple(layer for split in splits for layer in split.perp)
    return Split(splits[0].layers, perp, any(split.grid for split in splits))


def parts(split: Split) -> tuple[Split, ...]:
    """The units of a split, coarse to fine: the inverse of `join`."""
    return tuple(unit for unit in units(split.layers, split.grid) if unit.grid or unit.perp[0] in split.perp)


def rest(split: Split, grid: bool) -> Split | None:
    """All that a split leaves out, in a generator with or without a grid; None where that is nothing."""
    others = [unit for unit in units(split.layers, grid) if unit not in parts(split)]
    return join(others) if others else None


def neighbours(layers: int, grid: bool) -> tuple[Split, ...]:
    """All runs of neighbouring units, `U * (U + 1) / 2` of them."""
    every = units(layers, grid)
    count = len(every)
    return tuple(join(every[first:last]) for first in range(count) for last in range(first + 1, count + 1))


def unit_name(unit: Split) -> str:
    """`"grid"`, or the layer's number."""
    return "grid" if unit.grid else str(unit.perp[0])


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
    batch: int = 250,
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
        batch: images decoded at once.

    Raises:
        UserError: the classifier is wrong on every reconstruction, or the images do not depend on the latents.
    """
    asked = neighbours(generator.layers, latents.grid is not None) if splits is None else tuple(splits)
    every = join(units(generator.layers, latents.grid is not None))
    asked = asked if every in asked else (*asked, every)
    found = []
    with eval_mode(classifier, generator) as (model, _), track("swap layers", len(latents)) as advance:
        for rows in slices(len(latents), batch):
            found.append(_swap(generator, model, latents[rows], donors[rows], asked))
            advance(rows.stop - rows.start, "")
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
    generator: Generator, classifier: nn.Module, latents: Latents, labels: Tensor, donors: Latents, batch: int = 1024
) -> DimensionScores:
    """Swap every number of every style by itself: `L * D` decodings of the images, so give it few (64).

    Args are those of `layer_scores`.
    """
    layers, depth = latents.styles.shape[1:]
    found = []
    with eval_mode(classifier, generator) as (model, _), track("swap numbers", layers * depth) as advance:
        plain = generator(latents)
        before, labels = probabilities(model(plain)), labels.cpu()
        for layer in range(layers):
            for numbers in slices(depth, max(1, batch // len(latents))):
                images = _swap_numbers(generator, latents, donors, layer, range(numbers.start, numbers.stop))
                after = probabilities(model(images.flatten(0, 1))).unflatten(0, images.shape[:2])
                change = (images - plain).abs().mean(dim=(1, 2, 3, 4)).cpu()
                found.append(torch.stack([change, *_label_effect(before, after, labels)]).float())
                advance(numbers.stop - numbers.start, "")
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
