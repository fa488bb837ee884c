"""How good, and how robust, a classifier is: accuracies, the worst case under the search, the exact worst
recolouring.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.data import GrayDigits, ImageSet, Painting, slices
from advmix.generators import Generator
from advmix.latents import Latents
from advmix.mixing import AdvMix, Loss, calibrated
from advmix.utils.progress import track
from advmix.utils.torch_tools import answers, eval_mode, generator, probabilities

BATCH = 250


@torch.no_grad()
def predict(classifier: nn.Module, images: ImageSet, device: torch.device) -> Tensor:
    """Class probabilities `(N, C)` in float64, on the CPU."""
    with eval_mode(classifier) as (model,):
        parts = [probabilities(model(images.batch(part)[0].to(device))) for part in slices(len(images), 2 * BATCH)]
    return torch.cat(parts)


def accuracy(classifier: nn.Module, images: ImageSet, device: torch.device) -> float:
    """Share of right answers, in [0, 1]; an answer that is not a number is not right."""
    return share(answers(predict(classifier, images, device)) == images.labels)


def share(right: Tensor) -> float:
    """Mean of a boolean vector."""
    return float(right.double().mean())


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The search's answer for N images, on the CPU.

    Attributes:
        right: `(N,)`, whether the reconstruction *and* every candidate of the search are classified rightly.
        right_reconstruction: `(N,)`, the reconstruction alone.
        images: `(N, C, H, W)` in [0, 1], the candidate with the highest loss.
        probabilities: `(N, classes)` on `images`.
        vanished: `(N,)`, where the gradient said nothing and the search was a random one.
    """

    right: Tensor
    right_reconstruction: Tensor
    images: Tensor
    probabilities: Tensor
    vanished: Tensor


def worst_case(
    classifier: nn.Module,
    search: AdvMix,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    *,
    seed: int,
    title: str = "worst case",
) -> WorstCase:
    """Search around every one of N latents. Donors follow from the seed and the batch's place, so classifiers are
    compared fairly.

    Args:
        classifier: images in [0, 1] to logits.
        search: the search; its generator, `latents` and `pool` are on the classifier's device.
        latents: codes of the images, length N, not members of the pool.
        labels: `(N,)`.
        pool: whose `z⊥` are borrowed.
        seed: of the donors.
        title: of the progress bar.
    """
    parts: list[tuple[Tensor, ...]] = []
    loss = search_loss(classifier, search.generator, latents)
    with track(title, len(latents)) as advance:
        for part in slices(len(latents), BATCH):
            rng = generator(seed, "worst-case", part.start)
            parts.append(_search(classifier, search, latents[part], labels[part], pool, rng, loss))
            advance(part.stop - part.start, "")
    return WorstCase(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


@torch.no_grad()
def search_loss(classifier: nn.Module, generator: Generator, latents: Latents) -> Loss:
    """What a search of a classifier climbs, calibrated on the reconstructions of the first images."""
    with eval_mode(generator) as (decoder,):
        return calibrated(classifier, decoder(latents[:BATCH]))


def _search(
    classifier: nn.Module,
    search: AdvMix,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    rng: torch.Generator,
    loss: Loss,
) -> tuple[Tensor, ...]:
    mix = search(classifier, latents, labels, pool, loss=loss, rng=rng)
    assert mix.fooled is not None
    assert mix.unanswered is not None
    lost = torch.zeros_like(mix.fooled) if mix.vanished is None else mix.vanished
    with torch.no_grad(), eval_mode(classifier, search.generator) as (model, decoder):
        plain = answers(model(decoder(latents))) == labels
        return ~mix.fooled & ~mix.unanswered & plain, plain, mix.images, probabilities(model(mix.images)), lost


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
