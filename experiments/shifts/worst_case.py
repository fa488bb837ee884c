"""Which images a classifier withstands a search on: right under every style near those of the donors that was tried."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import load_autoencoder
from advmix.encoders.network import encoded, start_latents
from advmix.mixing import AdvMix, Search, calibrated, usual_split
from advmix.utils.torch_tools import generator

BATCH = 100
"""Images that are searched at once."""

SEARCH = Search(restarts=3, steps=3)
"""Shorter than that of an audit, longer than those of the trainings."""


def withstood(network: nn.Module, images: ImageSet, donors: ImageSet, device: torch.device, seed: int) -> Tensor:
    """`(N,)`, whether the classifier is right on everything that the search tried. Styles are `statistics`.

    Args:
        network: on its device.
        images: labelled.
        donors: whose styles the search begins with.
        device: of the network.
        seed: of the donors' draw.
    """
    model, _ = load_autoencoder(Path("statistics"))
    model = model.to(device)
    pool = encoded(donors, model.encoder, styles_only=True)
    search, found = AdvMix(model.generator, usual_split((), False, model.config), SEARCH), []
    for part in slices(len(images), BATCH):
        pixels, labels = (one.to(device) for one in images.batch(part))
        start = start_latents(model.generator, model.encoder, pixels, None, True)
        rng = generator(seed, "shifts", "search", part.start)
        mix = search(network, start, labels, pool, loss=calibrated(network, pixels), rng=rng)
        found.append(mix.withstood.cpu())
    return torch.cat(found)
