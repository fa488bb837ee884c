"""What `advmix doctor` examines: a generator with its pool, and unseen images encoded as the pool was."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advmix.data import Data, ImageSet
from advmix.encoders import Autoencoder, Encoder, LatentStore, encoded, load_autoencoder
from advmix.latents import Latents, Split
from advmix.seeds import generator
from advmix.stages.doctor_runs import Runs
from advmix.stages.encode import pool_encoder
from advmix.stages.sources import data_of
from advmix.training.methods import SearchOptions

PROBED = 1000
"""Codes that the linear probe learns from; also the pool, where none was stored."""
SLOW_IMAGES = 64
"""Unseen images that are encoded where the encoder is an optimisation."""


@dataclass(frozen=True, eq=False)
class Patient:
    """A generator with all that is needed to examine it.

    Attributes:
        model: generator and encoder, on their device.
        fingerprint: of the generator.
        data: what it was fitted on.
        search: how a worst case is looked for.
        residual: whether mixes keep what the generator cannot draw.
        pool: latents of training images.
        rows: `(P,)`, which training images these are.
        images: N unseen ones.
        latents: theirs.
        stored: whether the pool comes from a file; otherwise it is a sample, encoded by the network.
        seed: of whatever is drawn.
    """

    model: Autoencoder
    fingerprint: str
    data: Data
    search: SearchOptions
    residual: bool
    pool: Latents
    rows: Tensor
    images: ImageSet
    latents: Latents
    stored: bool
    seed: int

    @property
    def split(self) -> Split:
        """Which layers are z⊥."""
        return self.search.split(self.model.generator.layers)

    def sample(self, count: int) -> Tensor:
        """Places of at most so many members of the pool, drawn at random."""
        return torch.randperm(len(self.pool), generator=generator(self.seed, "doctor", "pool"))[:count]

    @property
    def kept_latents(self) -> Latents:
        """The latents of the unseen images as they are mixed: with their residual where mixes keep it."""
        if not self.residual:
            return self.latents
        pixels = self.images.batch(slice(None))[0].to(self.pool.styles.device)
        return self.model.generator.complete(self.latents, pixels)


def open_patient(runs: Runs, images: int, seed: int, device: torch.device) -> Patient:
    """Load everything, and encode a sample of unseen images as the pool was encoded.

    Raises:
        UserError: bad input.
    """
    model, metadata = load_autoencoder(runs.generator)
    search = _search(runs.search, model)
    search.split(model.generator.layers)
    store = None if runs.latents is None else LatentStore.open(runs.latents, generator=metadata["fingerprint"])
    data = data_of(metadata, runs.generator)
    model, encoder = model.to(device), None
    test = data.test[torch.randperm(len(data.test), generator=generator(seed, "doctor", "images"))[:images]]
    if store is None or runs.latents is None:
        rows = torch.randperm(len(data.train), generator=generator(seed, "doctor", "train"))[:PROBED]
        pool = encoded(data.train[rows], model.encoder)
    else:
        rows, pool = torch.arange(len(store)), store.latents.to(device)
        encoder = pool_encoder(runs.latents, model, data.train, device)
    test = test if encoder in (None, model.encoder) else test[:SLOW_IMAGES]
    latents = _encode(encoder or model.encoder, test, device)
    return Patient(
        model,
        metadata["fingerprint"],
        data,
        search,
        runs.residual,
        pool,
        rows,
        test,
        latents,
        store is not None,
        seed,
    )


def _search(search: SearchOptions, model: Autoencoder) -> SearchOptions:
    """With layers, where none are named: all styles beside a spatial grid, else the two finest."""
    if search.perp or search.perp_grid:
        return search
    finest = range(-model.generator.layers if model.config.grid_shape else -2, 0)
    return replace(search, perp=tuple(finest))


def _encode(encoder: Encoder, images: ImageSet, device: torch.device) -> Latents:
    """As `encoded`, for encoders without weights, too."""
    latents: Latents = encoder(images.batch(slice(None))[0].to(device))
    return latents.detach()
