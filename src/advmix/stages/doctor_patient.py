"""What `advmix doctor` examines: a generator with its pool, and unseen images encoded as the pool was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.data import Data, ImageSet
from advmix.encoders import Autoencoder, Encoder, encoded, load_autoencoder
from advmix.errors import UserError
from advmix.latents import Latents, Split
from advmix.seeds import generator
from advmix.stages.doctor_runs import Runs
from advmix.stages.sources import data_for, data_of, in_size, load
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
        data: what it was fitted on; where an audit is examined, what was audited.
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
    model, metadata, ours, encoder, pool, rows = parts
    search = with_layers(runs.search, model.config)
    search.split(model.generator.layers)
    data, stored = _examined(runs, ours, metadata, model), runs.latents is not None
    if data is not ours:  # other images, or other labels: nothing is known of the pool's
        rows, pool = _sample(data.train, encoder, seed, PROBED if encoder is model.encoder else SLOW_IMAGES)
        stored = False
    count = images if encoder is model.encoder else min(images, SLOW_IMAGES)
    test = data.test[torch.randperm(len(data.test), generator=generator(seed, "doctor", "images"))[:count]]
    latents = _encode(encoder, test, device)
    fingerprint = metadata["fingerprint"]
    return Patient(model, fingerprint, data, search, runs.residual, pool, rows, test, latents, stored, seed)


Parts = tuple[Autoencoder, dict[str, Any], Data, Encoder, Latents, Tensor]
"""Model, what its file says, data, encoder, pool, and which training images the pool is of."""


def _stored(folder: Path, latents: Path, device: torch.device) -> Parts:
    """With the pool that encode wrote, and the encoder that made it."""
    found = load(folder, latents, device)
    return found.model, found.metadata, found.data, found.encoder, found.pool, torch.arange(len(found.pool))


def _sampled(folder: Path, seed: int, device: torch.device) -> Parts:
    """With a sample of the training images, encoded now."""
    model, metadata = load_autoencoder(folder)
    data, model = data_of(metadata, folder), model.to(device)
    rows, pool = _sample(data.train, model.encoder, seed, PROBED)
    return model, metadata, data, model.encoder, pool, rows


def _sample(images: ImageSet, encoder: Encoder, seed: int, count: int) -> tuple[Tensor, Latents]:
    rows = torch.randperm(len(images), generator=generator(seed, "doctor", "train"))[:count]
    return rows, encoded(images[rows], encoder)


def _examined(runs: Runs, ours: Data, metadata: dict[str, Any], model: Autoencoder) -> Data:
    """What was audited, in the generator's size: classifiers and reference are of these labels. `ours`, the pool's
    own, where no audit says otherwise.

    Raises:
        UserError: audits of different images or labels.
    """
    dec, found = model.generator, [] if runs.audited else [ours]
    for flags, seed in runs.audited:
        same = flags.says_nothing or in_size(flags, dec) == ours.config
        found.append(ours if same else data_for(metadata, runs.generator, flags, seed, dec))
    if len({data.test.fingerprint for data in found}) > 1:
        named = " and ".join(f"{data.config.data} for {data.config.target}" for data in found)
        raise UserError(f"audits of different images or labels ({named}): name the runs of one of them")
    return ours if found[0].train.fingerprint == ours.train.fingerprint else found[0]


def _encode(encoder: Encoder, images: ImageSet, device: torch.device) -> Latents:
    """As `encoded`, for encoders without weights, too."""
    latents: Latents = encoder(images.batch(slice(None))[0].to(device))
    return latents.detach()
