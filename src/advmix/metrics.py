"""How good, and how robust, a classifier is: accuracies, the worst case under the search, the exact worst
recolouring.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet, slices
from advmix.generators.base import Generator
from advmix.latents import Latents
from advmix.mixing import AdvMix, Loss, Mix, RandMix, calibrated
from advmix.utils.device import in_turns, own_turns
from advmix.utils.progress import track
from advmix.utils.torch_tools import answers, eval_mode, generator, probabilities

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from advmix.data.colored import GrayDigits
    from advmix.data.digits import Painting

BATCH = 250


@torch.no_grad()
def predict(classifier: nn.Module, images: ImageSet, device: torch.device) -> Tensor:
    """Class probabilities `(N, C)` in float64, on the CPU."""
    with eval_mode(classifier) as (model,):
        parts = [probabilities(model(images.batch(part)[0].to(device))) for part in slices(len(images), 2 * BATCH)]
    return torch.cat(parts)


def predict_in_turns(fabric: Fabric | None, classifier: nn.Module, images: ImageSet, device: torch.device) -> Tensor:
    """The same, of several processes that take turns with the images; None for one."""
    parts = list(slices(len(images), 2 * BATCH))
    return torch.cat(in_turns(fabric, parts, lambda part: predict(classifier, images[part], device)))


@torch.no_grad()
def predict_pixels(classifier: nn.Module, images: Tensor) -> Tensor:
    """The same of images `(B, C, H, W)` in [0, 1], on the classifier's device."""
    with eval_mode(classifier) as (model,):
        return probabilities(model(images))


@torch.no_grad()
def answer_latents(classifier: nn.Module, generator: Generator, latents: Latents) -> Tensor:
    """Classes `(N,)` that a classifier sees in decoded latents, on the CPU; -1 where its answer is not a number."""
    with eval_mode(classifier, generator) as (model, decoder):
        parts = [answers(model(decoder(latents[part]))) for part in slices(len(latents), BATCH)]
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
) -> tuple[Evaluation, Mix, Mix]:
    """Mix B images at random, and search around each. All classifiers meet the same donors: these follow from the seed
    and from the batch's place.

    Args:
        classifier: images in [0, 1] to logits.
        search: the search; its generator, `latents` and `pool` are on the classifier's device.
        latents: codes of the images, length B, not members of the pool.
        labels: `(B,)`.
        pool: whose `z⊥` are borrowed.
        seed: seed of the donors.
        start: place of the first image among all.
        loss: what the search climbs.

    Returns:
        The evaluation, the candidates with the highest loss, and the random ones.
    """
    worst = search(classifier, latents, labels, pool, loss=loss, rng=generator(seed, "worst-case", start))
    mixer, rng = RandMix(search.generator, search.split), generator(seed, "random mix", start)
    random = mixer(classifier, latents, labels, pool, rng=rng)
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
    loss, parts = search_loss(classifier, search.generator, latents), list(slices(len(latents), BATCH))
    with track(title, sum(part.stop - part.start for part in own_turns(fabric, parts))) as advance:

        def evaluate(part: slice) -> tuple[Tensor, ...]:
            batch = latents[part], labels[part], pool
            found = evaluate_batch(classifier, search, *batch, seed=seed, start=part.start, loss=loss)[0]
            advance(part.stop - part.start, "")
            return tuple(column.cpu() for column in astuple(found))

        found = in_turns(fabric, parts, evaluate)
    return Evaluation(*(torch.cat(column) for column in zip(*found, strict=True)))


@torch.no_grad()
def search_loss(classifier: nn.Module, generator: Generator, latents: Latents) -> Loss:
    """What a search of a classifier climbs, calibrated on the reconstructions of the first images."""
    with eval_mode(generator) as (decoder,):
        return calibrated(classifier, decoder(latents[:BATCH]))


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
    with eval_mode(generator) as (decoder,):
        errors = [
            (decoder(latents[part]).cpu().double() - pixels[part]).square().sum() for part in slices(len(images), BATCH)
        ]
    return float(torch.stack(errors).sum() / total) if float(total) > 0 else None


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
    alive = torch.arange(len(digits.labels))
    with eval_mode(classifier) as (model,), track("recolour", len(paints)) as advance:
        for row in paints:
            right = []
            for rows in alive.split(2 * BATCH) if len(alive) else ():
                images = look.paint(digits.pixels[rows].float() / 255, row.expand(len(rows), -1)).to(device)
                logits = model(images.contiguous(memory_format=torch.channels_last))
                right.append(answers(logits).cpu() == digits.labels[rows])
            alive = alive[torch.cat(right)] if right else alive
            advance(1, "")
    return torch.zeros(len(digits.labels), dtype=torch.bool).index_fill(0, alive, True)
