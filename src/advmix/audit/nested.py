"""One search that holds all smaller ones: what fewer restarts and fewer steps would have found, without searching
again.

The candidates of `R' <= R` restarts and `K' <= K` steps are among those of `R` and `K`, because donors are drawn in
order and a step does not depend on how many follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from advmix.answers import answers
from advmix.audit.evaluate import BATCH, search_loss
from advmix.data import slices
from advmix.encoders import Autoencoder
from advmix.latents import Latents
from advmix.mixing import Loss, Mix, cross_entropy
from advmix.modes import evaluating
from advmix.progress import track
from advmix.seeds import generator
from advmix.training.methods import SearchOptions

ROWS = 1250
"""Candidates judged at once: what fits into the memory of a small machine."""


@dataclass(frozen=True, eq=False)
class Nested:
    """Every verdict of a search over N images, on the CPU.

    Attributes:
        plain: `(N,)`, whether the reconstruction is classified rightly.
        wrong: `(K + 1, R, N)`, whether a candidate is classified wrongly; step 0 is the start.
        losses: `(K + 1, R, N)`, the classifier's cross-entropy on it.
        images: `(N, C, H, W)` in [0, 1], the candidate with the highest loss of all.
    """

    plain: Tensor
    wrong: Tensor
    losses: Tensor
    images: Tensor

    def right(self, restarts: int, steps: int) -> Tensor:
        """`(N,)`: right on the reconstruction and on every candidate of the smaller search."""
        return self.plain & ~self.wrong[: steps + 1, :restarts].flatten(0, 1).any(dim=0)

    def loss(self, restarts: int, steps: int) -> Tensor:
        """`(N,)`: the highest loss that the smaller search finds, in nats."""
        return self.losses[: steps + 1, :restarts].flatten(0, 1).amax(dim=0)


class Recorder:
    """A loss that writes down the verdict on every candidate it is asked about.

    Args:
        loss: what is climbed.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.wrong: list[Tensor] = []
        self.losses: list[Tensor] = []

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the search climbs, `(B,)`."""
        self.wrong.append((answers(logits.detach()) != labels).cpu())
        self.losses.append(cross_entropy(logits.detach(), labels).cpu())
        return self.loss(logits, labels)


def nested_search(
    classifier: nn.Module,
    model: Autoencoder,
    search: SearchOptions,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    *,
    seed: int,
    title: str = "search",
) -> Nested:
    """The search of `audit.evaluate.worst_case`, from the same donors, with every verdict kept.

    Args:
        classifier: images in [0, 1] to logits; on the device of `latents`, `labels`, `pool` and `model`.
        model: its generator draws the candidates.
        search: the largest search.
        latents: codes of the images, length N, not members of the pool.
        labels: `(N,)`.
        pool: whose `z⊥` are borrowed.
        seed: of the donors.
        title: of the progress bar.
    """
    parts, loss = [], search_loss(classifier, model.generator, latents)
    with track(title, len(latents)) as advance:
        for part in slices(len(latents), BATCH):
            rng = generator(seed, "worst-case", part.start)
            parts.append(_search(classifier, model, search, latents[part], labels[part], pool, rng, loss))
            advance(part.stop - part.start, "")
    columns = zip(*((part.plain, part.wrong, part.losses, part.images) for part in parts), strict=True)
    plain, wrong, losses, images = columns
    return Nested(torch.cat(plain), torch.cat(wrong, dim=2), torch.cat(losses, dim=2), torch.cat(images))


def _search(
    classifier: nn.Module,
    model: Autoencoder,
    search: SearchOptions,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    rng: torch.Generator,
    loss: Loss,
) -> Nested:
    """A few restarts at a time; `rng` goes on from one block to the next as it would have in one."""
    count, recorders, mixes = len(latents), [], list[Mix]()
    for part in slices(search.restarts, max(1, ROWS // count)):
        mixer, recorder = replace(search, restarts=part.stop - part.start).mixer(model), Recorder(loss)
        mixes.append(mixer(classifier, latents, labels, pool, loss=recorder, rng=rng))
        recorders.append(recorder)
    with torch.no_grad(), evaluating(classifier, model.generator) as (judge, decoder):
        plain = answers(judge(decoder(latents))) == labels
    wrong = [torch.stack(recorder.wrong).unflatten(1, (-1, count)) for recorder in recorders]
    losses = [torch.stack(recorder.losses).unflatten(1, (-1, count)) for recorder in recorders]
    return Nested(plain.cpu(), torch.cat(wrong, dim=1), torch.cat(losses, dim=1), _worst_images(mixes))


def _worst_images(mixes: list[Mix]) -> Tensor:
    """`(N, C, H, W)`, of the block with the highest loss, image by image."""
    losses = torch.stack([mix.losses for mix in mixes if mix.losses is not None])
    images = torch.stack([mix.images for mix in mixes])
    return images[losses.argmax(dim=0), torch.arange(losses.shape[1], device=images.device)].cpu()
