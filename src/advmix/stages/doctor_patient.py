"""What `advmix doctor` examines: a generator with its pool, and unseen images encoded as the pool was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from advmix.data import Data, ImageSet
from advmix.encoders import Autoencoder, Encoder, encoded, load_autoencoder
from advmix.latents import Latents, Split
from advmix.seeds import generator
from advmix.stages.doctor_runs import Runs
from advmix.stages.sources import data_of, load
from advmix.training.methods import SearchOptions, with_layers

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
    parts = (
        _sampled(runs.generator, seed, device)
        if runs.latents is None
        else _stored(runs.generator, runs.latents, device)
    )
    model, fingerprint, data, encoder, pool, rows = parts
    search = with_layers(runs.search, model.config)
    search.split(model.generator.layers)
    count = images if encoder is model.encoder else min(images, SLOW_IMAGES)
    test = data.test[torch.randperm(len(data.test), generator=generator(seed, "doctor", "images"))[:count]]
    latents, stored = _encode(encoder, test, device), runs.latents is not None
    return Patient(model, fingerprint, data, search, runs.residual, pool, rows, test, latents, stored, seed)


Parts = tuple[Autoencoder, str, Data, Encoder, Latents, Tensor]
"""Model, its fingerprint, data, encoder, pool, and which training images the pool is of."""


def _stored(folder: Path, latents: Path, device: torch.device) -> Parts:
    """With the pool that encode wrote, and the encoder that made it."""
    found = load(folder, latents, device)
    rows = torch.arange(len(found.pool))
    return found.model, found.metadata["fingerprint"], found.data, found.encoder, found.pool, rows


def _sampled(folder: Path, seed: int, device: torch.device) -> Parts:
    """With a sample of the training images, encoded now."""
    model, metadata = load_autoencoder(folder)
    data, model = data_of(metadata, folder), model.to(device)
    rows = torch.randperm(len(data.train), generator=generator(seed, "doctor", "train"))[:PROBED]
    return model, metadata["fingerprint"], data, model.encoder, encoded(data.train[rows], model.encoder), rows


def _encode(encoder: Encoder, images: ImageSet, device: torch.device) -> Latents:
    """As `encoded`, for encoders without weights, too."""
    latents: Latents = encoder(images.batch(slice(None))[0].to(device))
    return latents.detach()
