"""Does a classifier that withstands our mixes withstand the true twin? On images whose twins are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.data.images import slices
from advmix.encoders.autoencoder import load_autoencoder
from advmix.encoders.network import encoded, start_latents
from advmix.metrics import predict
from advmix.mixing import AdvMix, Search, calibrated, usual_split
from advmix.utils.torch_tools import answers, generator
from experiments.shifts.sets import SiteImages

IMAGES, BATCH = 400, 100
"""Twins that are searched, and how many at once."""

SEARCH = Search(restarts=3, steps=2)
"""Of an audit, shorter."""


def measure_twins(network: nn.Module, site: SiteImages, device: torch.device, seed: int) -> dict[str, Any]:
    """How right a classifier is on twins from the site, by whether it withstands mixes of the plain ones with styles of
    the site's unlabelled images. Asked of judged images whose plain twin it knows.

    Args:
        network: on its device.
        site: with twins.
        device: where to ask.
        seed: of the donors, and of which images.

    Returns:
        `images`, that were asked; `withstood`, the share of them; `right_withstood` and `right_flipped`, how right it
        is on the true twins of those that withstood and of the others (None of none).
    """
    assert site.twins is not None
    judged = site.is_judged.nonzero()[:, 0]
    rows = judged[torch.randperm(len(judged), generator=generator(seed, "shifts", "twins"))[:IMAGES]]
    plain, true = site.twins[rows], site.images[rows]
    known = answers(predict(network, plain, device)) == plain.labels
    right = answers(predict(network, true, device)) == true.labels
    withstood = torch.cat([_withstood(network, site, rows[part], device, seed) for part in slices(len(rows), BATCH)])
    return {
        "images": int(known.sum()),
        "withstood": _share(withstood[known]),
        "right_withstood": _share(right[known & withstood]),
        "right_flipped": _share(right[known & ~withstood]),
    }


def _withstood(network: nn.Module, site: SiteImages, rows: Tensor, device: torch.device, seed: int) -> Tensor:
    """`(B,)`, whether the classifier is right under all styles that were tried on the plain twins."""
    assert site.twins is not None
    model, _ = load_autoencoder(Path("statistics"))
    pool = encoded(site.unlabelled, model.encoder, styles_only=True).to(device)
    images, labels = (part.to(device) for part in site.twins.batch(rows))
    search = AdvMix(model.generator.to(device), usual_split((), False, model.config), SEARCH)
    start = start_latents(model.generator, model.encoder.to(device), images, None, True)
    rng = generator(seed, "shifts", "twins", int(rows[0]))
    return search(network, start, labels, pool, loss=calibrated(network, images), rng=rng).withstood.cpu()


def _share(mask: Tensor) -> float | None:
    return float(mask.double().mean()) if len(mask) else None
