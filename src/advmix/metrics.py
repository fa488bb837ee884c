"""How good, and how robust, a classifier is: accuracies, the worst case under the search, the exact worst
recolouring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from advmix.candidates import Loss
from advmix.data.images import ImageSet, slices
from advmix.generators.base import Generator
from advmix.latents import Latents
from advmix.mixing import AdvMix, Mix, RandMix, calibrated_cross_entropy, draw_all_donors
from advmix.utils.device import in_turns, own_turns
from advmix.utils.memory import MOST_ROWS, RowBudget, in_parts
from advmix.utils.progress import track
from advmix.utils.torch_tools import answers, eval_mode, generator, probabilities

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from advmix.data.colored import GrayDigits
    from advmix.data.digits import Painting

DRAWN_TOGETHER = 250
"""Images whose donors come from one generator of random numbers, however many of them are mixed at once."""
MOST_PREDICTED = 2 * MOST_ROWS
"""Images that a classifier is shown at once, without gradients, where memory is no matter."""
CALIBRATED_ON = 250
"""Images whose reconstructions say how far a classifier's logits spread."""


@torch.no_grad()
def predict(classifier: nn.Module, images: ImageSet, device: torch.device, budget: RowBudget | None = None) -> Tensor:
    """Class probabilities `(N, C)` in float64, on the CPU."""
    with eval_mode(classifier) as (model,):

        def ask(rows: slice) -> Tensor:
            return probabilities(model(images.batch(rows)[0].to(device)))

        return torch.cat((budget or RowBudget(MOST_PREDICTED)).parts(ask, len(images), device))


def predict_in_turns(fabric: Fabric | None, classifier: nn.Module, images: ImageSet, device: torch.device) -> Tensor:
    """The same, of several processes that take turns with the images; None for one."""
    parts, budget = list(slices(len(images), MOST_PREDICTED)), RowBudget(MOST_PREDICTED)
    return torch.cat(in_turns(fabric, parts, lambda part: predict(classifier, images[part], device, budget)))


@torch.no_grad()
def predict_pixels(classifier: nn.Module, images: Tensor) -> Tensor:
    """The same of images `(B, C, H, W)` in [0, 1], on the classifier's device."""
    with eval_mode(classifier) as (model,):
        return torch.cat(in_parts(lambda rows: probabilities(model(images[rows])), len(images), images.device))


@torch.no_grad()
def answer_latents(classifier: nn.Module, generator: Generator, latents: Latents) -> Tensor:
    """Classes `(N,)` that a classifier sees in decoded latents, on the CPU; -1 where its answer is not a number."""
    with eval_mode(classifier, generator) as (model, decoder):
        parts = in_parts(lambda rows: answers(model(decoder(latents[rows]))), len(latents), latents.styles.device)
    return torch.cat(parts).cpu()


def accuracy(classifier: nn.Module, images: ImageSet, device: torch.device) -> float:
    """Share of right answers, in [0, 1]; an answer that is not a number is not right."""
    return share(answers(predict(classifier, images, device)) == images.labels)


def share(right: Tensor) -> float:
    """Mean of a boolean vector."""
    return float(right.double().mean())


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What becomes of a classifier's answers to N images when they are mixed: `(N,)` boolean each.

    Attributes:
        right_start: right on what the mixes begin with: the reconstruction, or the image itself where mixes keep what
            the generator cannot draw of it.
        right_random_mix: right with the z⊥ of one other image, drawn at random.
        right_worst_case: right on what the mixes begin with, and on every candidate of the search.
        unanswered: whether some answer was not a number; such an image is not right there.
        vanished: whether the gradient said nothing, so that the search was a random one.
    """

    right_start: Tensor
    right_random_mix: Tensor
    right_worst_case: Tensor
    unanswered: Tensor
    vanished: Tensor

    @staticmethod
    def cat(parts: Sequence[Evaluation]) -> Evaluation:
        """Of all images, those of the parts one after the other."""
        return Evaluation(*(torch.cat(column) for column in zip(*map(astuple, parts), strict=True)))

    def cpu(self) -> Evaluation:
        """The same on the CPU."""
        return Evaluation(*(column.cpu() for column in astuple(self)))


@dataclass(frozen=True, eq=False)
class DrawnDonors:
    """Who lends to each of B images, drawn before these are cut into parts.

    Attributes:
        worst: `(K + 1, R, B)`, to the search: see `advmix.mixing.draw_all_donors`.
        random: `(1, 1, B)`, to the random mix.
    """

    worst: Tensor
    random: Tensor

    @staticmethod
    def draw(search: AdvMix, count: int, pool: Latents, seed: int, start: int) -> DrawnDonors:
        """For B = `count` images, the first of which has the place `start` among all."""
        rng = generator(seed, "worst-case", start)
        worst = draw_all_donors(search.search, count, len(pool), None, rng)
        chance = RandMix(search.generator, search.split).search
        return DrawnDonors(worst, draw_all_donors(chance, count, len(pool), None, generator(seed, "random mix", start)))

    def __getitem__(self, rows: slice) -> DrawnDonors:
        return DrawnDonors(self.worst[..., rows], self.random[..., rows])


def evaluate_batch(
    classifier: nn.Module,
    search: AdvMix,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    *,
    seed: int,
    start: int,
    loss: Loss,
    budget: RowBudget | None = None,
) -> tuple[Evaluation, Mix, Mix]:
    """Mix B images at random, and search around each, as many at once as memory allows. All classifiers meet the same
    donors: these follow from the seed and from the batch's place.

    Args:
        classifier: images in [0, 1] to logits.
        search: the search; its generator, `latents` and `pool` are on the classifier's device.
        latents: codes of the images, length B, not members of the pool.
        labels: `(B,)`.
        pool: whose `z⊥` are borrowed.
        seed: seed of the donors.
        start: place of the first image among all.
        loss: what the search climbs.
        budget: how many are searched at once, where it is known already.

    Returns:
        The evaluation, the candidates with the highest loss, and the random ones.
    """
    donors = DrawnDonors.draw(search, len(latents), pool, seed, start)

    def evaluate(rows: slice) -> tuple[Evaluation, Mix, Mix]:
        return evaluate_rows(classifier, search, latents[rows], labels[rows], pool, donors[rows], loss)

    parts = (budget or RowBudget()).parts(evaluate, len(latents), labels.device)
    found, worst, random = zip(*parts, strict=True)
    return Evaluation.cat(found), Mix.cat(worst), Mix.cat(random)


def evaluate_rows(
    classifier: nn.Module,
    search: AdvMix,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    donors: DrawnDonors,
    loss: Loss,
) -> tuple[Evaluation, Mix, Mix]:
    """The same, all at once, with donors that are known."""
    worst = search(classifier, latents, labels, pool, loss=loss, donors=donors.worst)
    mixer = RandMix(search.generator, search.split)
    random = mixer(classifier, latents, labels, pool, donors=donors.random)
    assert worst.unanswered is not None
    assert random.unanswered is not None
    with torch.no_grad(), eval_mode(classifier, search.generator) as (model, decoder):
        seen = answers(model(decoder(latents)))
    plain = seen == labels
    found = Evaluation(
        right_start=plain,
        right_random_mix=random.withstood,
        right_worst_case=plain & worst.withstood,
        unanswered=(seen < 0) | worst.unanswered | random.unanswered,
        vanished=torch.zeros_like(plain) if worst.vanished is None else worst.vanished,
    )
    return found, worst, random


def evaluate_latents(
    classifier: nn.Module,
    search: AdvMix,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    *,
    seed: int,
    title: str = "worst case",
    fabric: Fabric | None = None,
) -> Evaluation:
    """The same for N images, on the CPU; the search climbs cross-entropy at a temperature measured on the first ones.

    Args:
        classifier: as `evaluate_batch`, and so are the others.
        search: the search.
        latents: of length N.
        labels: `(N,)`.
        pool: whose `z⊥` are borrowed.
        seed: seed of the donors.
        title: title of the progress bar.
        fabric: the processes that take turns with the images; None for one.
    """
    loss, budget = search_loss(classifier, search.generator, latents), RowBudget(DRAWN_TOGETHER)
    parts = list(slices(len(latents), DRAWN_TOGETHER))
    with track(title, sum(part.stop - part.start for part in own_turns(fabric, parts))) as advance:

        def evaluate(part: slice) -> Evaluation:
            batch = latents[part], labels[part], pool
            of_part = {"seed": seed, "start": part.start, "loss": loss, "budget": budget}
            found = evaluate_batch(classifier, search, *batch, **of_part)[0]
            advance(part.stop - part.start, "")
            return found.cpu()

        return Evaluation.cat(in_turns(fabric, parts, evaluate))


@torch.no_grad()
def search_loss(classifier: nn.Module, generator: Generator, latents: Latents) -> Loss:
    """What a search of a classifier climbs, calibrated on the reconstructions of the first images."""
    first = latents[:CALIBRATED_ON]
    with eval_mode(classifier, generator) as (model, decoder):
        logits = in_parts(lambda rows: model(decoder(first[rows])), len(first), first.styles.device)
    return calibrated_cross_entropy(torch.cat(logits))


@torch.no_grad()
def unexplained(generator: Generator, latents: Latents, images: ImageSet) -> float | None:
    """Share of the images' variance that reconstructions miss: squared error over squared distance to the mean image.

    0 is perfect, 1 is as good as the mean image, and more is worse than that; None where all images are the same.

    Args:
        generator: `dec`.
        latents: of N images.
        images: the same ones.
    """
    device = latents.styles.device
    sums = [images.batch(part)[0].double().sum(dim=0) for part in slices(len(images), MOST_ROWS)]
    mean = torch.stack(sums).sum(dim=0) / len(images)

    def compare(rows: slice) -> Tensor:
        """Squared errors of the reconstructions and of the mean image, summed."""
        shown = images.batch(rows)[0].double()
        return torch.stack([(other - shown).square().sum() for other in (decoder(latents[rows]).cpu().double(), mean)])

    with eval_mode(generator) as (decoder,):
        missed, total = torch.stack(in_parts(compare, len(images), device)).sum(dim=0).tolist()
    return missed / total if total > 0 else None


@torch.no_grad()
def recolor_worst(
    classifier: nn.Module, digits: GrayDigits, look: Painting, paints: Tensor, device: torch.device
) -> Tensor:
    """Whether each real digit is right under *every* paint: `(N,)`. Exact, because here the true generator is known.

    Args:
        classifier: images in [0, 1] to logits.
        digits: without colour.
        look: how they are painted.
        paints: `(G, P)`, the look's grid.
        device: the classifier's.
    """
    alive, budget = torch.arange(len(digits.labels)), RowBudget(MOST_PREDICTED)

    def ask(alive: Tensor, paint: Tensor, part: slice) -> Tensor:
        rows = alive[part]
        images = look.paint(digits.pixels[rows].float() / 255, paint.expand(len(rows), -1)).to(device)
        logits = model(images.contiguous(memory_format=torch.channels_last))
        return answers(logits).cpu() == digits.labels[rows]

    with eval_mode(classifier) as (model,), track("recolour", len(paints)) as advance:
        for row in paints:
            right = budget.parts(partial(ask, alive, row), len(alive), device)
            alive = alive[torch.cat(right)] if right else alive
            advance(1, "")
    return torch.zeros(len(digits.labels), dtype=torch.bool).index_fill(0, alive, True)
