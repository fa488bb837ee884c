"""What a stage reads from the folders that earlier stages wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from advmix.data.datasets import Data, open_data
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.network import NO_ENCODER, Encoder, MeanEncoder
from advmix.encoders.optimize import OptimizeEncoder, OptimizeOptions
from advmix.encoders.store import LatentStore, open_latents
from advmix.generators.base import Generator
from advmix.generators.stylegan import MappedGenerator
from advmix.latents import Latents, Split
from advmix.training.features import Features, open_features
from advmix.training.methods import usual_split
from advmix.utils import config as configs
from advmix.utils.config import check_values, from_dict
from advmix.utils.errors import UserError
from advmix.utils.files import copy_folder
from advmix.utils.torch_tools import generator


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
        copy_folder(self.folder, folder)
        if not (Path(folder) / LATENTS).is_dir():
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


ENCODERS = ("network", "mean", "refine")


POOL = 1024
"""Latents behind Algorithm 2's mean latent and mixing loss."""


@dataclass(frozen=True)
class EncodeConfig:
    """Encode training images into a latent store, the pool of every search.

    Writes latents-*.safetensors, store.json and config.json.

    Args:
        generator: folder that fit or import wrote.
        data: the data set, whose training images are encoded; by default the one that the generator was made from, as
            other flags change it. Your own images are read in the generator's size.
        encoder: `network` (one pass), `mean` (Algorithm 2 from the mean latent) or `refine` (Algorithm 2 from the
            network's guess).
        features: what compares images in Algorithm 2 beside pixels: a classifier as --classifier names one, or the
            folder of a generator whose discriminator fit kept, this one's or another's; pixels alone by default.
        optimize: settings of Algorithm 2; `network` uses none of them.
        perp: layers that are z⊥ in Algorithm 2's mixing loss; negative ones count from the finest. By default all
            styles beside a spatial grid, else the two finest.
        perp_grid: whether a spatial grid is z⊥ too.
        batch: images encoded at once, at most; Algorithm 2 takes fewer of large images.
        shard_size: images per file.
        trust_code: whether a function that a file names (a .json, a saved config) may be called, too.
        seed: fixes what is drawn at random: of data that are not the generator's own, and of an imported generator.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    generator: Path
    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    encoder: str = "network"
    features: str | None = None
    optimize: OptimizeOptions = field(default_factory=OptimizeOptions)
    perp: tuple[int, ...] = ()
    perp_grid: bool = False
    batch: int = 256
    shard_size: int = 4096
    trust_code: bool = False
    seed: int = 0
    out: Path = Path("runs/latents")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise UserError(f"--encoder {self.encoder}: unknown; choose from {' '.join(ENCODERS)}")
        check_values(self, "batch shard_size", least=1)


def features_of(config: EncodeConfig, images: ImageSet) -> Features | None:
    """What compares images in Algorithm 2; None for pixels alone."""
    if config.features is None:
        return None
    return open_features(config.features, images.shape, config.trust_code)


def make_encoder(
    config: EncodeConfig,
    model: Autoencoder,
    images: ImageSet,
    device: torch.device,
    features: Features | None = None,
) -> Encoder:
    """The encoder that a config asks for. The mean latent and the partners of the mixing loss are the network's own
    codes of training images; where there is no encoder network, the generator's mean and what it makes up.

    Args:
        config: of `encode`.
        model: generator and encoder network, on `device`.
        images: the training set.
        device: for the encoder's other parts.
        features: what compares images.

    Raises:
        UserError: an encoder network that is not there.
    """
    if config.encoder != "mean" and not model.has_encoder:
        raise UserError(f"{config.generator}: {NO_ENCODER}")
    if config.optimize.one_style and not isinstance(model.generator, MappedGenerator):
        raise UserError(f"--one-style: {config.generator} has no mapping network; its layers have styles of their own")
    if config.encoder == "network":
        return model.encoder
    pool, start = _pool_and_start(config, model, images, device)
    return OptimizeEncoder(
        model.generator,
        usual_split(config.perp, config.perp_grid, model.config),
        pool,
        features=None if features is None else features.network.to(device),
        start=start,
        options=config.optimize,
    )


@torch.no_grad()
def _pool_and_start(
    config: EncodeConfig, model: Autoencoder, images: ImageSet, device: torch.device
) -> tuple[Latents, Encoder | None]:
    rng = generator(config.seed, "encode", "pool")
    if model.has_encoder:
        rows = torch.randperm(len(images), generator=rng)[:POOL]
        pool = model.encoder(images.batch(rows)[0].to(device))
        return pool, model.encoder if config.encoder == "refine" else None
    dec = model.generator
    assert isinstance(dec, MappedGenerator)  # nothing else comes without an encoder
    return dec.sample(POOL, rng), MeanEncoder(dec)


def pool_encoder(latents: Path, model: Autoencoder, images: ImageSet, device: torch.device) -> Encoder:
    """The encoder that made a pool: what is mixed with it must be encoded alike.

    Args:
        latents: folder that encode wrote.
        model: generator and encoder network, on `device`.
        images: the training set.
        device: for the encoder's other parts.

    Raises:
        UserError: a folder of something else.
    """
    config = configs.load(latents / "config.json", "encode", EncodeConfig)
    return make_encoder(config, model, images, device, features_of(config, images))
