"""What a stage reads from the folders that earlier stages wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from advmix.data.datasets import Data, open_data
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.network import Encoder
from advmix.encoders.store import LatentStore, open_latents
from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.mixing import usual_split
from advmix.utils.config import from_dict
from advmix.utils.errors import UserError
from advmix.utils.files import copy_folder


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A generator with the latents of its training set, on one device.

    Attributes:
        model: generator and encoder network, frozen and in eval mode.
        pool: the latents of the training set, in its order.
        metadata: what the generator's file says of how it was made.
        folder: where that file lies.
        store: the folder of the latents.
    """

    model: Autoencoder
    pool: Latents
    metadata: dict[str, Any]
    folder: Path
    store: LatentStore

    @property
    def generator(self) -> Generator:
        """`dec`."""
        return self.model.generator

    @cached_property
    def split(self) -> Split:
        """Which layers are z⊥ where nobody says otherwise, as in all commands."""
        return usual_split((), False, self.model.config)

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """What a run remembers of generator and pool."""
        return {"generator": self.metadata["fingerprint"], "latents": self.pool.fingerprint}

    @cached_property
    def encoder(self) -> Encoder:
        """`enc`, the one that made the pool: what is mixed with a pool must be encoded alike."""
        if self.store.index["encoder"] == "network":
            return self.model.encoder

        from advmix.training.encoding import pool_encoder

        return pool_encoder(self.store.folder, self.model, self.data.train, self.pool.styles.device)

    @cached_property
    def data(self) -> Data:
        """The data set that generator and pool were made from, read again: `data.train` has the pool's order."""
        return data_of(self.store.index, self.store.folder)

    def save(self, folder: str | Path) -> None:
        """Copy generator and latents into one folder, which `load` reads.

        Raises:
            UserError: something lies there already.
        """
        copy_folder(self.folder, folder, without=LATENTS)
        copy_folder(self.store.folder, Path(folder) / LATENTS)


def data_of(metadata: Mapping[str, Any], source: Path) -> Data:
    """The data set that a file says it was made from.

    Raises:
        UserError: the data on disk are not the same any more.
    """
    config = config_of(metadata, source)
    data = open_data(config, int(metadata["data_seed"]), download=False)
    if data.train.fingerprint != metadata["data_fingerprint"]:
        raise UserError(f"{source}: made from other images than those in {data.config.data_dir} now; make it again")
    return data


def config_of(metadata: Mapping[str, Any], source: Path) -> DataConfig:
    """Which data set a file says it was made from.

    Raises:
        UserError: it says nothing, as an imported generator's.
    """
    if not metadata.keys() >= {"data", "data_seed", "data_fingerprint"}:
        raise UserError(
            f"{source}: does not say what data it was made from; name them with --data, or make it again with advmix"
        )
    return from_dict(DataConfig, metadata["data"], str(source))


def data_for(metadata: Mapping[str, Any], source: Path, flags: DataConfig, seed: int, dec: Generator) -> Data:
    """The images that flags describe, in the size of the generator. Where they name none, those that the generator or
    its latents were made from, with what else the flags say laid over them.

    Args:
        metadata: of the generator's file, or of its latents'.
        source: the folder of that.
        flags: what the command line says about images; the defaults count as nothing.
        seed: of the data, where they are not the generator's own.
        dec: the generator.

    Raises:
        UserError: images of another size than the generator's, or none at all.
    """
    wanted = in_size(flags, dec)
    if "data" in metadata and (flags.says_nothing or wanted == config_of(metadata, source)):
        return data_of(metadata, source)
    data = open_data(wanted, seed) if flags.data else own_data(metadata, source, flags, dec)
    check_size(data.train, dec)
    return data


def own_data(metadata: Mapping[str, Any], source: Path, flags: DataConfig, dec: Generator | None = None) -> Data:
    """The images that a file says it was made from, with what flags without --data say laid over them.

    Args:
        metadata: of the file.
        source: its folder.
        flags: what the command line says about images.
        dec: a generator, whose size the images are read in.

    Raises:
        UserError: the file says nothing of images, or the flags are for images of another kind.
    """
    if flags.says_nothing:
        return data_of(metadata, source)
    config = flags.over(config_of(metadata, source), source)
    return open_data(config if dec is None else in_size(config, dec), int(metadata["data_seed"]))


def remembered(flags: DataConfig) -> DataConfig:
    """The flags as a run's config has them where images need not be named."""
    return DataConfig() if flags.says_nothing else flags


def in_size(flags: DataConfig, dec: Generator) -> DataConfig:
    """The same images, a user's own read in the generator's size."""
    if flags.is_painted or not flags.data:
        return flags
    return flags.sized(dec.channels, dec.resolution)


def check_size(images: ImageSet, dec: Generator) -> None:
    """Refuse images that the generator cannot draw.

    Raises:
        UserError: giving both sizes.
    """
    found, wanted = images.shape, (dec.channels, dec.resolution, dec.resolution)
    if found != wanted:
        shown = [f"{shape[1]}x{shape[2]} pixels in {shape[0]} channels" for shape in (found, wanted)]
        raise UserError(f"--data: images of {shown[0]}, but the generator draws {shown[1]}; name other images")


def load_fitted_model(generator: Path | None, latents: Path | None, device: torch.device) -> FittedModel | None:
    """Generator and pool, checked against each other; None where neither is named.

    Raises:
        UserError: only one of the two, latents of another generator or encoder network, or damaged files.
    """
    if generator is None and latents is None:
        return None
    if generator is None or latents is None:
        raise UserError("--generator and --latents go together: name what fit and encode wrote")
    return load(generator, latents, device)


LATENTS = "latents"
"""Where the latents lie in a folder that holds all of a model."""


def load(generator: str | Path, latents: str | Path | None = None, device: torch.device | str = "cpu") -> FittedModel:
    """What a training loop, an attack or an audit of your own needs, from the folders that the commands wrote.

    >>> model = advmix.load("runs/fit", "runs/latents")
    >>> model.generator, model.encoder, model.split, model.pool, model.data.train

    Args:
        generator: folder that `advmix fit`, `advmix.fit` or `FittedModel.save` wrote.
        latents: folder that `advmix encode` wrote; by default `latents` in the first one.
        device: where networks and pool shall be.

    Raises:
        UserError: missing or damaged files, or latents of another generator or encoder network.
    """
    folder = Path(generator)
    model, metadata = load_autoencoder(folder)
    store = open_latents(folder / LATENTS if latents is None else Path(latents), model, metadata)
    return FittedModel(model.to(device), store.latents.to(device), metadata, folder, store)


def fingerprints_of(mixable: FittedModel | None) -> dict[str, str | None]:
    """The same where there may be none."""
    return {"generator": None, "latents": None} if mixable is None else mixable.fingerprints
