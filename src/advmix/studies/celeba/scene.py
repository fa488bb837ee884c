"""Mixes of held-out faces, and what becomes of them in the eyes of an independent reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from advmix.audit.bootstrap import GroupBootstrap
from advmix.audit.survival import Survival, mixes
from advmix.data import ImageSet, slices
from advmix.data.photos import Photos
from advmix.encoders import Autoencoder, encoded
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix
from advmix.modes import evaluating
from advmix.progress import track
from advmix.seeds import generator
from advmix.studies.celeba.bench import Bench
from advmix.studies.celeba.faces import divide

BATCH = 250


@dataclass(frozen=True, eq=False)
class Scene:
    """N images with what is needed to mix them, on one device.

    Args:
        model: generator and encoder.
        images: of persons that nothing was trained on.
        latents: of the images, with their residual where mixes keep it.
        pool: latents whose `z⊥` are lent.
        donors: `(D, N)`, places in the pool.
        reference: images in [0, 1] to logits.
    """

    model: Autoencoder
    images: ImageSet
    latents: Latents
    pool: Latents
    donors: Tensor
    reference: nn.Module


def make_scene(
    model: Autoencoder, images: ImageSet, lenders: ImageSet, reference: nn.Module, donors: int, residual: bool
) -> Scene:
    """Encode everything, and draw the donors: the same ones for any generator."""
    latents, device = encoded(images, model.encoder), next(model.parameters()).device
    if residual:
        parts = slices(len(images), BATCH)
        complete = model.generator.complete
        latents = Latents.cat([complete(latents[rows], images.batch(rows)[0].to(device)) for rows in parts])
    places = torch.randint(len(lenders), (donors, len(images)), generator=generator(0, "celeba", "donors"))
    return Scene(model, images, latents, encoded(lenders, model.encoder), places, reference)


def with_all_labels(bench: Bench, photos: Photos) -> Bench:
    """The bench whose labelled images are all training images: its reference knows more than any classifier that is
    compared, and is of another kind.
    """
    config = replace(bench.config, labelled=None)
    return Bench(config, bench.seed, divide(photos, None, config.judge, 0.0, bench.seed))


@torch.no_grad()
def random_mixes(scene: Scene, split: Split) -> tuple[Survival, float]:
    """What the reference sees in mixes with the donors, and the range of variation: mean absolute change of a pixel, in
    [0, 1], from the unmixed image.
    """
    dec, answers, change = scene.model.generator, [], []
    with evaluating(scene.reference, dec) as (judge, _), track("mix and ask", len(scene.images)) as advance:
        for rows in slices(len(scene.images), BATCH):
            latents = scene.latents[rows]
            plain = dec(latents)
            seen = [judge(plain).argmax(dim=1)]
            for mix in mixes(dec, split, latents, scene.pool, scene.donors[:, rows]):
                seen.append(judge(mix).argmax(dim=1))
                change.append((mix - plain).abs().cpu().double().mean(dim=(1, 2, 3)))
            answers.append(torch.stack(seen).cpu())
            advance(rows.stop - rows.start, "")
    return Survival.of(torch.cat(answers, dim=1), scene.images.labels), float(torch.cat(change).mean())


def searched_mixes(scene: Scene, search: AdvMix, classifier: nn.Module) -> Survival:
    """What the reference sees in the worst mix that a search finds of each image against a classifier."""
    answers, device = [], scene.latents.styles.device
    with track("search and ask", len(scene.images)) as advance:
        for rows in slices(len(scene.images), BATCH):
            latents, labels = scene.latents[rows], scene.images.labels[rows].to(device)
            rng = generator(0, "celeba", "search", rows.start)
            found = search(classifier, latents, labels, scene.pool, rng=rng)
            with torch.no_grad(), evaluating(scene.reference, search.generator) as (judge, dec):
                answers.append(torch.stack([judge(part).argmax(dim=1) for part in (dec(latents), found.images)]).cpu())
            advance(rows.stop - rows.start, "")
    return Survival.of(torch.cat(answers, dim=1), scene.images.labels)


def share_entry(survival: Survival, boot: GroupBootstrap, among: Tensor | None = None) -> dict[str, float] | None:
    """The share of labels that survive, over persons, as it goes into `results.json`; None where nothing counts."""
    share = survival.interval(boot, among)
    return None if share is None else share.to_dict()
