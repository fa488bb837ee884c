"""`advmix encode`: the latents of a data set, on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from advmix import config as configs
from advmix.classifiers import load_classifier
from advmix.data import ImageSet
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.base import Encoder
from advmix.encoders.features import Activations
from advmix.encoders.optimize import OptimizeEncoder, OptimizeOptions
from advmix.encoders.store import LatentStore, write_store
from advmix.engine import make_fabric
from advmix.errors import UserError
from advmix.files import write_json
from advmix.options import require
from advmix.progress import console
from advmix.runs import open_run
from advmix.stages.sources import data_of, features_input
from advmix.training.methods import SearchOptions

ENCODERS = ("network", "mean", "refine")


@dataclass(frozen=True)
class EncodeConfig:
    """Encode the training images of a generator into a latent store, the pool of every search.

    Writes latents-*.safetensors, store.json and config.json.

    Args:
        generator: folder that fit wrote; its data set is encoded.
        encoder: `network` (one pass), `mean` (Algorithm 2 from the mean latent) or `refine` (Algorithm 2 from the
            network's guess).
        features: folder that train wrote, whose classifier's features compare images in Algorithm 2; pixels alone by
            default.
        optimize: settings of Algorithm 2; `network` uses none of them.
        perp: layers that are z⊥ in Algorithm 2's mixing loss; negative ones count from the finest.
        perp_grid: whether a spatial grid is z⊥ too.
        batch: images encoded at once.
        shard_size: images per file.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    generator: Path
    encoder: str = "network"
    features: Path | None = None
    optimize: OptimizeOptions = field(default_factory=OptimizeOptions)
    perp: tuple[int, ...] = (-2, -1)
    perp_grid: bool = False
    batch: int = 256
    shard_size: int = 4096
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
    images = data_of(metadata, config.generator).train
    encoder = make_encoder(config, model.to(fabric.device), images, fabric.device)
    inputs = {"generator": metadata["fingerprint"], "images": images.fingerprint, **features_input(config.features)}
    open_run(config.out, "encode", config, config.resume, inputs)
    if (config.out / "seconds.json").is_file():
        console.print(f"  done already: {config.out}")
        return LatentStore.open(config.out, generator=metadata["fingerprint"])
    begun = time.monotonic()
    store = write_store(
        config.out,
        encoder,
        images,
        generator=metadata["fingerprint"],
        made_by=config.encoder,
        batch=config.batch,
        shard_size=config.shard_size,
        device=fabric.device,
        metadata={key: metadata[key] for key in ("data", "data_seed", "data_fingerprint")},
    )
    write_json(config.out / "seconds.json", {"encode_seconds": round(time.monotonic() - begun, 2)})
    console.print(f"  {len(images)} latents in {config.out}")
    return store


def make_encoder(config: EncodeConfig, model: Autoencoder, images: ImageSet, device: torch.device) -> Encoder:
    """The encoder that a config asks for. The mean latent and the partners of the mixing loss are the network's own
    codes.
    """
    if config.encoder == "network":
        return model.encoder
    features = None
    if config.features is not None:
        features = Activations(load_classifier(config.features)[0].to(device))
    with torch.no_grad():
        pool = model.encoder(images.batch(slice(0, 1024))[0].to(device))
    return OptimizeEncoder(
        model.generator,
        SearchOptions(perp=config.perp, perp_grid=config.perp_grid).split(model.generator.layers),
        pool,
        features=features,
        start=model.encoder if config.encoder == "refine" else None,
        options=config.optimize,
    )


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
    return make_encoder(configs.load(latents / "config.json", "encode", EncodeConfig), model, images, device)
