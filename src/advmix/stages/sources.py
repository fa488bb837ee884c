"""What a stage reads from the folders that earlier stages wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advmix.classifiers.trained import load_classifier
from advmix.config import from_dict, with_defaults
from advmix.data import Data, DataConfig, open_data
from advmix.encoders.autoencoder import Autoencoder, fingerprint, load_autoencoder
from advmix.encoders.store import LatentStore
from advmix.errors import UserError
from advmix.latents import Latents


@dataclass(frozen=True, eq=False)
class Mixable:
    """A generator with the latents of its training set, on one device."""

    model: Autoencoder
    pool: Latents
    metadata: dict[str, Any]
    store: LatentStore


def data_of(metadata: Mapping[str, Any], source: Path) -> Data:
    """The data set that a file says it was made from.

    Raises:
        UserError: the data on disk are not the same any more.
    """
    if not metadata.keys() >= {"data", "data_seed", "data_fingerprint"}:
        raise UserError(f"{source}: does not say what data it was made from; make it again with advmix")
    filled, _ = with_defaults(DataConfig, metadata["data"])
    config = from_dict(DataConfig, filled, str(source))
    data = open_data(config, int(metadata["data_seed"]), download=False)
    if data.train.fingerprint != metadata["data_fingerprint"]:
        raise UserError(f"{source}: made from other images than those in {data.config.data_dir} now; make it again")
    return data


def load_mixable(generator: Path | None, latents: Path | None, device: torch.device) -> Mixable | None:
    """Generator and pool, checked against each other; None where neither is named.

    Raises:
        UserError: only one of the two, latents of another generator, or damaged files.
    """
    if generator is None and latents is None:
        return None
    if generator is None or latents is None:
        raise UserError("--generator and --latents go together: name what fit and encode wrote")
    model, metadata = load_autoencoder(generator)
    store = LatentStore.open(latents, generator=metadata["fingerprint"])
    return Mixable(model.to(device), store.latents.to(device), metadata, store)


def features_input(folder: Path | None) -> dict[str, str]:
    """What a run remembers of the classifier whose features it uses, if any: not where it lies, but which it is."""
    return {} if folder is None else {"features": fingerprint(load_classifier(folder)[0])}
