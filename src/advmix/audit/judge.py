"""Some images of an audit: every classifier is asked about the same images, mixes and swaps, and searched against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.answers import answers, probabilities
from advmix.attacks import Attack
from advmix.audit.attacks import still_right
from advmix.audit.found import Asked, Judged
from advmix.audit.swaps import Swap, rms, swapped
from advmix.data import slices
from advmix.generators import Generator
from advmix.latents import Latents
from advmix.mixing import AdvMix, Loss, Mix, RandMix, cross_entropy, draw_donors
from advmix.modes import evaluating
from advmix.seeds import derive
from advmix.seeds import generator as seeded

PIXELS = 2_500_000
"""Pixels that a classifier is shown at once, over all restarts: what fits into the memory of a small machine."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier under audit.

    Attributes:
        network: images in [0, 1] to logits `(B, K)`, in eval mode.
        side: of the images that it is shown, in pixels; larger than the generator's where the difference that a mix
            makes is added to the native image.
        loss: what the search climbs; see `advmix.mixing.calibrated`.
    """

    network: nn.Module
    side: int
    loss: Loss = cross_entropy


@dataclass(frozen=True, eq=False)
class Bench:
    """All that stays the same from image to image; everything is on one device.

    Attributes:
        search: the search, with the generator.
        pool: whose latents are borrowed.
        swaps: which layers are swapped by themselves.
        reference: votes whether a mix still shows the label.
        residual: whether mixes keep what the generator cannot draw of an image.
        seed: of the donors; the same ones for every classifier.
        attack: another's, tried besides.
    """

    search: AdvMix
    pool: Latents
    swaps: tuple[Swap, ...]
    reference: nn.Module
    residual: bool
    seed: int
    attack: Attack | None = None

    @property
    def generator(self) -> Generator:
        """`dec`."""
        return self.search.generator

    def batch_size(self, subjects: Sequence[Subject]) -> int:
        """Images at once; the same for all subjects, so that they meet the same donors."""
        side = max(subject.side for subject in subjects)
        return max(1, PIXELS // (side**2 * self.search.restarts))


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images, on the bench's device.

    Attributes:
        start: place of the first one among all that are audited; donors follow from it.
        rows: `(B,)`, places among the test images.
        groups: `(B,)`.
        labels: `(B,)`.
        pixels: `(B, C, H, W)` in [0, 1], of the generator's size.
        native: by side, the same images for classifiers that are shown larger ones.
        latents: B codes.
    """

    start: int
    rows: Tensor
    groups: Tensor
    labels: Tensor
    pixels: Tensor
    native: dict[int, Tensor]
    latents: Latents

    def shown(self, side: int) -> Tensor:
        """The images as a classifier of this side is shown them."""
        return self.native.get(side, self.pixels)

    def parts(self, size: int) -> Iterator[Batch]:
        """At most `size` images at once."""
        for rows in slices(len(self.labels), size):
            native = {side: images[rows] for side, images in self.native.items()}
            plain = (self.rows[rows], self.groups[rows], self.labels[rows], self.pixels[rows])
            yield Batch(self.start + rows.start, *plain, native, self.latents[rows])


@torch.no_grad()
def ask(bench: Bench, batch: Batch) -> Asked:
    """What is the same for all classifiers."""
    donors = _swap_donors(bench, batch)
    with evaluating(bench.reference, bench.generator) as (reference, _):
        begun = _begun(bench, batch, batch.pixels)
        swaps, *changes = swapped(bench.generator, reference, begun, bench.pool[donors], bench.swaps)
        seen = answers(reference(batch.pixels))
    grid = batch.latents.grid
    return Asked(
        rows=batch.rows.cpu(),
        labels=batch.labels.cpu(),
        groups=batch.groups.cpu(),
        styles=batch.latents.styles.cpu(),
        grid=None if grid is None else grid.cpu(),
        reference_before=seen.cpu(),
        reference_swaps=swaps.cpu(),
        swap_donors=donors.cpu(),
        swap_change=changes[0].cpu(),
        swap_color=changes[1].cpu(),
        swap_broad=changes[2].cpu(),
    )


def judge(bench: Bench, subject: Subject, batch: Batch) -> Judged:
    """Try one classifier on every image of a batch."""
    shown, labels, drawn = batch.shown(subject.side), batch.labels, batch.latents
    begun = _begun(bench, batch, shown)
    mix, mixed = _search(bench, subject, batch, begun), _mixed(bench, subject, batch, begun)
    mix_drawn, mixed_drawn = mix, mixed
    if bench.residual:
        mix_drawn, mixed_drawn = _search(bench, subject, batch, drawn), _mixed(bench, subject, batch, drawn)
    perp = bench.search.split.perp_of(mix.latents)
    with torch.no_grad(), evaluating(subject.network, bench.generator, bench.reference) as (model, dec, reference):
        start = dec(begun)
        seen_start, seen_drawn = (answers(model(images)) for images in (start, dec(drawn)))
        before, seen_small = model(shown), answers(model(batch.pixels))
        small = bench.search.split.with_perp(_begun(bench, batch, batch.pixels), perp)
        donors = bench.pool[_swap_donors(bench, batch)]
        after = model(mix.images)
        seen = torch.stack([answers(before), answers(after), seen_small, seen_start, seen_drawn])
        mixes = (mix, mixed, mix_drawn, mixed_drawn)
        return Judged(
            right=(answers(before) == labels).cpu(),
            right_small=(seen_small == labels).cpu(),
            right_reconstruction=(seen_drawn == labels).cpu(),
            right_mixed=_withstood(mixed).cpu(),
            right_worst=(_withstood(mix) & (seen_start == labels)).cpu(),
            right_mixed_drawn=_withstood(mixed_drawn).cpu(),
            right_worst_drawn=(_withstood(mix_drawn) & (seen_drawn == labels)).cpu(),
            unanswered=((seen < 0).any(dim=0) | torch.stack([_unanswered(one) for one in mixes]).any(dim=0)).cpu(),
            vanished=_vanished(mix).cpu(),
            donors=mix.donors.cpu(),
            perp=perp.cpu(),
            losses=cross_entropy(after, labels).cpu(),
            before=probabilities(before),
            after=probabilities(after),
            change=rms(mix.images - start).cpu(),
            reference_after=answers(reference(dec(small))).cpu(),
            swap_answers=swapped(bench.generator, model, begun, donors, bench.swaps)[0].cpu(),
            right_attacked=_attacked(bench, subject, batch),
        )


def _begun(bench: Bench, batch: Batch, images: Tensor) -> Latents:
    """What is mixed: the images' codes, with what the generator cannot draw of `images`, unless that is left out."""
    return bench.generator.complete(batch.latents, images) if bench.residual else batch.latents


def _swap_donors(bench: Bench, batch: Batch) -> Tensor:
    rng = seeded(bench.seed, "swap", batch.start)
    return draw_donors((1, len(batch.labels)), len(bench.pool), None, rng)[0].to(batch.labels.device)


def _search(bench: Bench, subject: Subject, batch: Batch, latents: Latents) -> Mix:
    rng = seeded(bench.seed, "worst-case", batch.start)
    return bench.search(subject.network, latents, batch.labels, bench.pool, loss=subject.loss, rng=rng)


def _mixed(bench: Bench, subject: Subject, batch: Batch, latents: Latents) -> Mix:
    rng = seeded(bench.seed, "random mix", batch.start)
    mixer = RandMix(bench.generator, bench.search.split)
    return mixer(subject.network, latents, batch.labels, bench.pool, rng=rng)


def _attacked(bench: Bench, subject: Subject, batch: Batch) -> Tensor | None:
    if bench.attack is None:
        return None
    seed = derive(bench.seed, "attack", batch.start)
    with torch.enable_grad():
        return still_right(subject.network, bench.attack, batch.shown(subject.side), batch.labels, seed)


def _withstood(mix: Mix) -> Tensor:
    """Right on every candidate."""
    assert mix.fooled is not None
    return ~mix.fooled & ~_unanswered(mix)


def _unanswered(mix: Mix) -> Tensor:
    assert mix.unanswered is not None
    return mix.unanswered


def _vanished(mix: Mix) -> Tensor:
    """Where the search had no gradient to follow, though it asked for one."""
    return torch.zeros_like(_unanswered(mix)) if mix.vanished is None else mix.vanished
