"""Which layers flip answers: an image with the latents of another one in some layers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.attacks import Attack, right_in_parts
from advmix.audit.records import ClassifierRecords, ImageRecords, joined_records
from advmix.candidates import Loss
from advmix.change_description import describe_flips
from advmix.data.images import slices
from advmix.encoders.network import Encoder, start_latents
from advmix.generators.base import Generator
from advmix.generators.style import NetworkConfig
from advmix.latents import Latents, Split, single_splits
from advmix.metrics import DrawnDonors, evaluate_rows
from advmix.mixing import AdvMix, cross_entropy, draw_donors
from advmix.smallest_change import clipped_share, smallest_change
from advmix.utils.memory import RowBudget
from advmix.utils.torch_tools import answers, eval_mode, probabilities
from advmix.utils.torch_tools import generator as seeded


@dataclass(frozen=True)
class Swap:
    """Some layers that are swapped together.

    Attributes:
        name: `grid`, `layer 3`, `layers 2 3`, or `z⊥`, all that the search moves.
        split: the layers.
        resolution: side in pixels at which they act; None for several.
        kind: `layer`, `resolution` or `all`.
    """

    name: str
    split: Split
    resolution: int | None
    kind: str

    def to_dict(self) -> dict[str, Any]:
        """As it goes into a file."""
        layers = {"layers": list(self.split.perp), "grid": self.split.grid}
        return {"name": self.name, "kind": self.kind, "resolution": self.resolution, **layers}


def swaps(network: NetworkConfig, perp: Split, side: int | None = None) -> tuple[Swap, ...]:
    """Every layer alone, the two of every resolution, and all of z⊥; coarse to fine, the grid first. Of a generator of
    any size nothing but styles is borrowed, and no grid; layers that act on the image as a whole have no resolution.

    Args:
        network: shape of the generator.
        perp: what the search moves.
        side: of the images, in pixels; default the network's.
    """
    spatial = network.spatial_layers
    grid = network.grid_shape is not None and not network.any_size
    start = round(network.start * (side / network.resolution if side and spatial else 1))
    sides = [start * 2 ** (layer // 2) for layer in range(spatial)]
    single = [
        Swap("grid", unit, network.start, "layer")
        if unit.grid
        else Swap(network.layer_name(unit.perp[0]), unit, sides[unit.perp[0]], "layer")
        for unit in single_splits(network.layers, grid)
        if unit.grid or unit.perp[0] < spatial
    ]
    pairs = [
        Swap(f"layers {layer} {layer + 1}", Split(network.layers, (layer, layer + 1)), sides[layer], "resolution")
        for layer in range(0, spatial, 2)
    ]
    whole = [
        Swap(network.layer_name(layer), Split(network.layers, (layer,)), None, "resolution")
        for layer in range(spatial, network.layers)
    ]
    return (*single, *pairs, *whole, Swap("z⊥", perp, None, "all"))


Swapped = tuple[Tensor, Tensor, Tensor, Tensor]


@torch.no_grad()
def swapped(
    generator: Generator, model: nn.Module, latents: Latents, donors: Latents, asked: tuple[Swap, ...]
) -> Swapped:
    """A classifier's answers `(B, U)` after each of U swaps, and what these change, `(B, U)` each: root mean square
    pixel difference, share of it that is colour (`color_share`), share that is broad (`broad_share`).

    Args:
        generator: `dec`, in eval mode.
        model: images in [0, 1] to logits, in eval mode.
        latents: B images, with their residual where mixes keep it.
        donors: B others.
        asked: the swaps.
    """
    plain = generator(latents)
    found = []
    for swap in asked:
        images = generator.render(generator.prefix(latents, swap.split), swap.split.perp_of(donors))
        change = images - plain
        found.append((answers(model(images)), rms(change), color_share(plain, change), broad_share(change)))
    seen, size, color, broad = (torch.stack(column, dim=1) for column in zip(*found, strict=True))
    return seen, size, color, broad


def rms(difference: Tensor) -> Tensor:
    """Root mean square over the pixels of each image: `(B, C, H, W)` to `(B,)`."""
    return difference.flatten(1).square().mean(dim=1).sqrt()


def color_share(images: Tensor, change: Tensor) -> Tensor:
    """How much of a change one colour map of the whole image makes, `(B,)` in [0, 1].

    The map is the affine one of colours to colours that fits best (least squares): it repaints, relights and changes
    contrast, and can move no edge. The share is of the squared change; 0 where nothing changes. It is
    computed in float64 on the CPU: not every device has that.

    Args:
        images: `(B, C, H, W)` before.
        change: what is added to them.
    """
    colors = images.flatten(2).cpu().double().mT
    known = torch.cat([colors, torch.ones_like(colors[..., :1])], dim=2)
    wanted = change.flatten(2).cpu().double().mT
    square = known.mT @ known + 1e-6 * torch.eye(known.shape[2], dtype=torch.float64)
    fitted = known @ torch.linalg.solve(square, known.mT @ wanted)
    return _share((wanted - fitted).flatten(1), wanted.flatten(1))


def broad_share(change: Tensor) -> Tensor:
    """How much of a change is left when it is averaged over blocks of an eighth of the side: `(B,)` in [0, 1]."""
    side = change.shape[-1]
    coarse = F.interpolate(F.adaptive_avg_pool2d(change, min(8, side)), change.shape[-2:], mode="nearest")
    return _share((change - coarse).flatten(1), change.flatten(1))


def _share(rest: Tensor, whole: Tensor) -> Tensor:
    """One less the squared rest's part of the squared whole, `(B,)`."""
    total = whole.square().sum(dim=1)
    share = 1 - rest.square().sum(dim=1) / total.clamp_min(1e-12)
    return torch.where(total > 1e-12, share.clamp(0, 1), 0).float()


DRAWN_PIXELS = 2_500_000
"""Pixels of the images, over all restarts, whose donors come from one generator of random numbers; how many of them are
searched at once does not matter.
"""


@dataclass(frozen=True, eq=False)
class AuditedClassifier:
    """A classifier under audit.

    Attributes:
        network: images in [0, 1] to logits `(B, K)`, in eval mode.
        side: of the images that it is shown, in pixels; larger than the generator's where the difference that a mix
            makes is added to the native image.
        loss: what the search climbs; see `advmix.mixing.calibrated`.
        budget: how many images are searched at once.
        attack_budget: how many another's attack is given at once.
    """

    network: nn.Module
    side: int
    loss: Loss = cross_entropy
    budget: RowBudget = field(default_factory=RowBudget)
    attack_budget: RowBudget = field(default_factory=RowBudget)


@dataclass(frozen=True, eq=False)
class AuditSetup:
    """All that stays the same from image to image; everything is on one device.

    Attributes:
        mixer: the search, with the generator.
        encoder: of the generator.
        pool: whose latents are borrowed.
        swaps: which layers are swapped by themselves.
        reference: votes whether a mix still shows the label.
        residual: whether mixes keep what the generator cannot draw of an image.
        seed: of the donors; the same ones for every classifier.
        attack: another's, tried besides.
        budget: how many images the reference is shown at once.
    """

    mixer: AdvMix
    encoder: Encoder
    pool: Latents
    swaps: tuple[Swap, ...]
    reference: nn.Module
    residual: bool
    seed: int
    attack: Attack | None = None
    budget: RowBudget = field(default_factory=RowBudget)

    @property
    def generator(self) -> Generator:
        """`dec`."""
        return self.mixer.generator

    @property
    def searches_drawings(self) -> bool:
        """Whether a second search looks at what the generator draws alone: not of a ready-made one, which was not
        fitted to the images.
        """
        return self.residual and not self.generator.any_size

    def start_latents(self, images: Tensor, latents: Latents) -> Latents:
        """What mixes of images begin with: see `advmix.encoders.network.start_latents`."""
        return start_latents(self.generator, self.encoder, images, latents, self.residual)

    def drawn_together(self, classifiers: Sequence[AuditedClassifier]) -> int:
        """Images whose donors are drawn together; the same for all classifiers, so that they meet the same ones."""
        side = max(classifier.side for classifier in classifiers)
        return max(1, DRAWN_PIXELS // (side**2 * self.mixer.search.restarts))


@dataclass(frozen=True, eq=False)
class AuditBatch:
    """Some images, on the setup's device.

    Attributes:
        start: place of the first one among all that are audited; donors follow from it.
        rows: `(B,)`, places among the test images.
        groups: `(B,)`.
        sites: `(B,)`.
        labels: `(B,)`.
        pixels: `(B, C, H, W)` in [0, 1], of the generator's size.
        native: by side, the same images for classifiers that are shown larger ones.
        latents: B codes.
    """

    start: int
    rows: Tensor
    groups: Tensor
    sites: Tensor
    labels: Tensor
    pixels: Tensor
    native: dict[int, Tensor]
    latents: Latents

    def shown(self, side: int) -> Tensor:
        """The images as a classifier of this side is shown them."""
        return self.native.get(side, self.pixels)

    def parts(self, size: int) -> Iterator[AuditBatch]:
        """At most `size` images at once."""
        for rows in slices(len(self.labels), size):
            yield self[rows]

    def __getitem__(self, rows: slice) -> AuditBatch:
        native = {side: images[rows] for side, images in self.native.items()}
        known = (self.rows[rows], self.groups[rows], self.sites[rows], self.labels[rows])
        return AuditBatch(self.start + rows.start, *known, self.pixels[rows], native, self.latents[rows])


def measure_images(setup: AuditSetup, batch: AuditBatch) -> ImageRecords:
    """What is the same for all classifiers."""
    donors, count = _swap_donors(setup, batch), len(batch.labels)
    return joined_records(
        setup.budget.parts(lambda rows: _images(setup, batch[rows], donors[rows]), count, donors.device)
    )


@torch.no_grad()
def _images(setup: AuditSetup, batch: AuditBatch, donors: Tensor) -> ImageRecords:
    """The same, all at once."""
    with eval_mode(setup.reference, setup.generator) as (reference, _):
        start_latents = setup.start_latents(batch.pixels, batch.latents)
        swaps, *changes = swapped(setup.generator, reference, start_latents, setup.pool[donors], setup.swaps)
        seen = answers(reference(batch.pixels))
    grid = None if setup.generator.any_size else batch.latents.grid
    return ImageRecords(
        rows=batch.rows.cpu(),
        labels=batch.labels.cpu(),
        groups=batch.groups.cpu(),
        sites=batch.sites.cpu(),
        styles=batch.latents.styles.cpu(),
        grid=None if grid is None else grid.cpu(),
        reference_before=seen.cpu(),
        reference_swaps=swaps.cpu(),
        swap_donors=donors.cpu(),
        swap_change=changes[0].cpu(),
        swap_color=changes[1].cpu(),
        swap_broad=changes[2].cpu(),
    )


def measure_classifier(setup: AuditSetup, classifier: AuditedClassifier, batch: AuditBatch) -> ClassifierRecords:
    """Try one classifier on every image of a batch."""
    count, swapped = len(batch.labels), _swap_donors(setup, batch)
    drawn = DrawnDonors.draw(setup.mixer, count, setup.pool, setup.seed, batch.start)

    def measure(rows: slice) -> ClassifierRecords:
        return _answers(setup, classifier, batch[rows], drawn[rows], swapped[rows])

    found = joined_records(classifier.budget.parts(measure, count, batch.labels.device))
    return replace(found, right_attacked=_attacked(setup, classifier, batch))


def _answers(
    setup: AuditSetup, classifier: AuditedClassifier, batch: AuditBatch, drawn: DrawnDonors, swap_donors: Tensor
) -> ClassifierRecords:
    """The same, all at once, without another's attack."""
    shown, labels, split, dec = batch.shown(classifier.side), batch.labels, setup.mixer.split, setup.generator
    start_latents = setup.start_latents(shown, batch.latents)
    known = labels, setup.pool, drawn, classifier.loss
    found, worst, random = evaluate_rows(classifier.network, setup.mixer, start_latents, *known)
    drawings = found
    if setup.searches_drawings:
        drawings = evaluate_rows(classifier.network, setup.mixer, batch.latents, *known)[0]
    perp = split.perp_of(worst.latents)
    ways = classifier.network, dec, split, start_latents, labels
    least = smallest_change(*ways, worst.flips)
    by_chance = smallest_change(*ways, random.flips).strength
    with torch.no_grad(), eval_mode(classifier.network, dec, setup.reference) as (model, _, reference):
        start_images, flip_logits = dec(start_latents), model(least.images)
        asked = setup.residual and not (setup.searches_drawings or dec.exact)
        reconstructed = answers(model(dec(batch.latents))) == labels if asked else drawings.right_start
        before, after, small = model(shown), model(worst.images), answers(model(batch.pixels))
        small_latents = setup.start_latents(batch.pixels, batch.latents)
        judged = [reference(dec(split.with_perp(small_latents, one))) for one in (perp, least.perp)]
        donors = setup.pool[swap_donors]
        unanswered = (torch.stack([answers(before), answers(after), small]) < 0).any(dim=0)
        return ClassifierRecords(
            right_clean=(answers(before) == labels).cpu(),
            right_small=(small == labels).cpu(),
            right_reconstruction=reconstructed.cpu(),
            right_random_mix=found.right_random_mix.cpu(),
            right_worst_case=found.right_worst_case.cpu(),
            right_random_mix_drawn=drawings.right_random_mix.cpu(),
            right_worst_case_drawn=drawings.right_worst_case.cpu(),
            unanswered=(unanswered | found.unanswered | drawings.unanswered).cpu(),
            vanished=found.vanished.cpu(),
            donors=worst.donors.cpu(),
            perp=perp.cpu(),
            losses=cross_entropy(after, labels).cpu(),
            before=probabilities(before),
            after=probabilities(after),
            change=rms(worst.images - start_images).cpu(),
            clipped=clipped_share(start_images, worst.images).cpu(),
            reference_after=answers(judged[0]).cpu(),
            random_strength=by_chance.cpu(),
            flip_strength=least.strength.cpu(),
            flip_perp=least.perp.cpu(),
            flip_answers=probabilities(flip_logits),
            flip_change=rms(least.images - start_images).cpu(),
            flip_clipped=clipped_share(start_images, least.images).cpu(),
            flip_terms=describe_flips(model, labels, start_images, least.images).to_tensor(),
            reference_flip=answers(judged[1]).cpu(),
            reference_label=probabilities(judged[1]).gather(1, labels.cpu()[:, None])[:, 0],
            swap_answers=swapped(dec, model, start_latents, donors, setup.swaps)[0].cpu(),
        )


def _swap_donors(setup: AuditSetup, batch: AuditBatch) -> Tensor:
    rng = seeded(setup.seed, "swap", batch.start)
    return draw_donors((1, len(batch.labels)), len(setup.pool), None, rng)[0].to(batch.labels.device)


def _attacked(setup: AuditSetup, classifier: AuditedClassifier, batch: AuditBatch) -> Tensor | None:
    if setup.attack is None:
        return None
    shown, seed, budget = batch.shown(classifier.side), setup.seed, classifier.attack_budget
    with torch.enable_grad():
        return right_in_parts(classifier.network, setup.attack, shown, batch.labels, seed, batch.start, budget)
