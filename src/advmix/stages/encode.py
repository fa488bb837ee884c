"""`advmix encode`: the latents of a data set, on disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from advmix import config as configs
from advmix.clock import KEPT, Clock, read_seconds, write_seconds
from advmix.config import to_dict
from advmix.data import DataConfig, ImageSet
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.base import NO_ENCODER, Encoder, MeanEncoder
from advmix.encoders.optimize import OptimizeEncoder, OptimizeOptions
from advmix.encoders.store import INDEX, LatentStore, open_latents, write_store
from advmix.engine import make_fabric
from advmix.errors import UserError
from advmix.files import read_json
from advmix.generators import MappedGenerator
from advmix.latents import Latents
from advmix.options import require
from advmix.progress import console
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.stages.features import Features, features_input, open_features
from advmix.stages.sources import data_for, remembered
from advmix.training.methods import usual_split

ENCODERS = ("network", "mean", "refine")
POOL = 1024
"""Latents behind Algorithm 2's mean latent and mixing loss."""
DRAWN, FIRST = "drawn", "first"
"""Of which training images. Older versions took the first ones: of images in folders, those of the first classes."""


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
        require(self, "batch shard_size", least=1)


def run_encode(config: EncodeConfig) -> LatentStore:
    """Encode what is not encoded yet.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    model, metadata = load_autoencoder(config.generator)
    data = data_for(metadata, config.generator, config.data, config.seed, model.generator)
    images = data.train
    config = replace(config, data=remembered(config.data))
    features, rule = features_of(config, images), pool_rule(config.out)
    encoder = make_encoder(config, model.to(fabric.device), images, fabric.device, features, rule)
    network = model.network_fingerprint
    inputs = {
        "generator": metadata["fingerprint"],
        "encoder network": network,
        "images": images.fingerprint,
        **features_input(features),
    }
    with open_run(config.out, "encode", config, config.resume, inputs):
        before = read_seconds(config.out)
        if _is_done(config.out):
            console.print(f"  done already: {config.out}")
            return open_latents(config.out, model, metadata)
        clock = Clock(config.out)
        with clock("encode"):
            store = write_store(
                config.out,
                encoder,
                images,
                generator=metadata["fingerprint"],
                network=network,
                made_by=config.encoder,
                batch=config.batch,
                shard_size=config.shard_size,
                device=fabric.device,
                metadata={
                    "data": to_dict(data.config),
                    "data_seed": data.seed,
                    "data_fingerprint": images.fingerprint,
                    **({} if config.encoder == "network" else {"optimize_pool": rule}),
                },
            )
        write_seconds(config.out, encode_seconds=before.get("encode_seconds", 0.0) + clock.seconds["encode"])
        console.print(f"  {len(images)} latents in {config.out}")
        return store


def _is_done(out: Path) -> bool:
    """Whether everything is there, and no shard has been damaged since."""
    there = all((out / name).is_file() for name in (KEPT, INDEX))
    return there and LatentStore(out, read_json(out / INDEX)).is_whole


def features_of(config: EncodeConfig, images: ImageSet) -> Features | None:
    """What compares images in Algorithm 2; None for pixels alone."""
    if config.features is None:
        return None
    return open_features(config.features, images.shape, config.trust_code)


def pool_rule(store: Path) -> str:
    """Of which training images Algorithm 2's pool is, in a folder of latents: one is gone on with as it was begun."""
    path = store / INDEX
    index = read_json(path) if path.is_file() else {"optimize_pool": DRAWN}
    return str(index.get("optimize_pool", FIRST)) if isinstance(index, dict) else FIRST


def make_encoder(
    config: EncodeConfig,
    model: Autoencoder,
    images: ImageSet,
    device: torch.device,
    features: Features | None = None,
    rule: str = DRAWN,
) -> Encoder:
    """The encoder that a config asks for. The mean latent and the partners of the mixing loss are the network's own
    codes of training images; where there is no encoder network, the generator's mean and what it makes up.

    Args:
        config: of `encode`.
        model: generator and encoder network, on `device`.
        images: the training set.
        device: for the encoder's other parts.
        features: what compares images.
        rule: as `pool_rule`.

    Raises:
        UserError: an encoder network that is not there.
    """
    if config.encoder != "mean" and not model.has_encoder:
        raise UserError(f"{config.generator}: {NO_ENCODER}")
    if config.optimize.one_style and not isinstance(model.generator, MappedGenerator):
        raise UserError(f"--one-style: {config.generator} has no mapping network; its layers have styles of their own")
    if config.encoder == "network":
        return model.encoder
    pool, start = _pool_and_start(config, model, images, device, rule)
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
    config: EncodeConfig, model: Autoencoder, images: ImageSet, device: torch.device, rule: str
) -> tuple[Latents, Encoder | None]:
    rng = generator(config.seed, "encode", "pool")
    if model.has_encoder:
        rows = torch.arange(len(images)) if rule == FIRST else torch.randperm(len(images), generator=rng)
        pool = model.encoder(images.batch(rows[:POOL])[0].to(device))
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
    return make_encoder(config, model, images, device, features_of(config, images), pool_rule(latents))
