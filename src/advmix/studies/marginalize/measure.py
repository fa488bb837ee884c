"""How right classifiers are on images, on their reconstructions, and on the mean over many z⊥; and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data import ImageSet, slices
from advmix.encoders import Encoder
from advmix.generators import Generator
from advmix.latents import Latents, Split
from advmix.marginalized import Marginalized, encode, renditions
from advmix.modes import evaluating
from advmix.progress import Advance

BATCH = 250
REPEATS = 3
PLAIN, RECONSTRUCTION, MARGINALIZED = "plain", "reconstruction", "marginalized"


@torch.no_grad()
def right_answers(
    networks: Mapping[str, nn.Module],
    dec: Generator,
    encoder: Encoder,
    images: ImageSet,
    perp: Tensor,
    split: Split,
    samples: Sequence[int],
    advance: Advance,
    residual: bool = False,
) -> list[dict[str, Any]]:
    """A row for each classifier and way of asking it: `method`, `prediction`, `samples`, `accuracy`.

    Every mix is drawn once, for all classifiers and all numbers of samples: the first of the longest draw are the
    shorter ones.

    Args:
        networks: by name, images in [0, 1] to logits; in eval mode, as all others, on one device.
        dec: decodes.
        encoder: of the images.
        images: N of them.
        perp: `(max(samples), P)`, the z⊥ that are drawn.
        split: which latents are z⊥.
        samples: increasing.
        advance: called with the number of images done.
        residual: whether averaged images keep what the generator cannot draw; reconstructions never do.
    """
    right: dict[tuple[str, str, int], int] = {}

    def count(name: str, prediction: str, number: int, answers: Tensor, labels: Tensor) -> None:
        key = (name, prediction, number)
        right[key] = right.get(key, 0) + int((answers.argmax(dim=1) == labels).sum())

    for part in slices(len(images), BATCH):
        shown, labels = (tensor.to(perp.device) for tensor in images.batch(part))
        latents = encode(shown, encoder, dec, residual)
        for prediction, asked in ((PLAIN, shown), (RECONSTRUCTION, dec(replace(latents, residual=None)))):
            for name, network in networks.items():
                count(name, prediction, 0, network(asked), labels)
        totals: dict[str, Tensor] = {}
        for number, mix in enumerate(renditions(dec, latents, split, perp), start=1):
            for name, network in networks.items():
                answer = F.log_softmax(network(mix), dim=1)
                totals[name] = torch.logaddexp(totals[name], answer) if name in totals else answer
                if number in samples:
                    count(name, MARGINALIZED, number, totals[name], labels)
        advance(part.stop - part.start, "")
    keys = ("method", "prediction", "samples")
    return [dict(zip(keys, key, strict=True)) | {"accuracy": value / len(images)} for key, value in right.items()]


@torch.no_grad()
def costs(
    network: nn.Module,
    dec: Generator,
    encoder: Encoder,
    pool: Latents,
    split: Split,
    images: Tensor,
    samples: Sequence[int],
    residual: bool = False,
) -> dict[str, Any]:
    """Seconds for each image of a batch `(B, C, H, W)`, plain and by number of samples; the fastest of a few tries."""

    def seconds(ask: Callable[[Tensor], Tensor]) -> float:
        tries = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            ask(images).cpu()
            tries.append(time.perf_counter() - begun)
        return min(tries) / len(images)

    plain, found = seconds(network), []
    for number in samples:
        with evaluating(Marginalized(network, dec, encoder, split, pool, number, residual=residual)) as (robust,):
            found.append({"samples": number, "seconds": seconds(robust)})
    return {"plain": plain, "marginalized": [{**row, "times_plain": row["seconds"] / plain} for row in found]}
