"""Which encoder a config asks for: a network, or Algorithm 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import NO_ENCODER, Encoder, MeanEncoder
from advmix.encoders.optimize import OptimizeEncoder, OptimizeOptions
from advmix.encoders.store import PHOTOS, PoolOptions
from advmix.generators.stylegan import MappedGenerator
from advmix.latents import Latents
from advmix.mixing import usual_split
from advmix.training.features import Features, open_features
from advmix.utils import config as configs
from advmix.utils.config import Settings, check_values
from advmix.utils.device import MachineOptions
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator

ENCODERS = ("network", "mean", "refine")


POOL = 1024
"""Latents behind Algorithm 2's mean latent and mixing loss."""


@dataclass(frozen=True)
class EncodeConfig(Settings):
    """Encode images into a latent store, the pool of every search.

    Writes latents-*.safetensors, store.json and config.json.

    Args:
        generator: folder that fit or import wrote, or a ready-made one: `photo`, `statistics` or `statistics:KIND`.
        data: the data set, whose training images are encoded; by default the one that the generator was made from, as
            other flags change it. Your own images are read in the generator's size.
        pool: which images are encoded, where they are not the training images. Of the training images a ready-made
            generator encodes `--pool-images`, the others all.
        encoder: `network` (one pass), `mean` (Algorithm 2 from the mean latent) or `refine` (Algorithm 2 from the
            network's guess).
        features: what compares images in Algorithm 2 beside pixels: a classifier as --classifier names one, or the
            folder of a generator whose discriminator fit kept, this one's or another's; pixels alone by default.
        optimize: settings of Algorithm 2; `network` uses none of them.
        perp: layers that are z⊥ in Algorithm 2's mixing loss; negative ones count from the finest. By default all
            styles beside a spatial grid, else the two finest.
        perp_grid: whether a spatial grid is z⊥ too.
        shard_size: images per file; several processes take turns with the files.
        trust_code: whether a function that a file names (a .json, a saved config) may be called, too.
        seed: fixes what is drawn at random: of data that are not the generator's own, and of an imported generator.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        machines: how many processes take turns with the files.
        resume: go on with a run that was stopped.
    """

    generator: Path
    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    pool: PoolOptions = field(default_factory=PoolOptions)
    encoder: str = "network"
    features: str | None = None
    optimize: OptimizeOptions = field(default_factory=OptimizeOptions)
    perp: tuple[int, ...] = ()
    perp_grid: bool = False
    shard_size: int = 1024
    trust_code: bool = False
    seed: int = 0
    out: Path = Path("runs/latents")
    device: str = "auto"
    machines: MachineOptions = field(default_factory=MachineOptions)
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder not in ENCODERS:
            raise UserError(f"--encoder {self.encoder}: unknown; choose from {' '.join(ENCODERS)}")
        check_values(self, "shard_size", least=1)
        if self.pool.pool == PHOTOS:
            raise UserError(f"--pool {PHOTOS}: is encoded already; name it where it is used")


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
