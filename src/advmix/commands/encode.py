"""`advmix encode`: the latents of a data set, on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advmix.data.datasets import Data
from advmix.encoders.autoencoder import load_autoencoder
from advmix.encoders.store import INDEX, LatentStore, open_latents, write_store
from advmix.pools import data_for, remembered
from advmix.training.encoding import EncodeConfig, features_of, make_encoder
from advmix.training.features import features_input
from advmix.utils.config import to_dict
from advmix.utils.device import open_device
from advmix.utils.files import read_json
from advmix.utils.progress import SECONDS_FILE, PhaseTimer, console, read_seconds, write_seconds
from advmix.utils.runs import open_run


def run_encode(config: EncodeConfig) -> LatentStore:
    """Encode what is not encoded yet.

    Raises:
        UserError: bad input.
    """
    return encode_images(config, None)


def encode_images(config: EncodeConfig, data: Data | None) -> LatentStore:
    """The same, with the data, where they are there already.

    Raises:
        UserError: bad input.
    """
    device = open_device(config.device)
    model, metadata = load_autoencoder(config.generator)
    if data is None:
        data = data_for(metadata, config.generator, config.data, config.seed, model.generator)
    images = data.train
    config = replace(config, data=remembered(config.data))
    features = features_of(config, images)
    encoder = make_encoder(config, model.to(device), images, device, features)
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
        clock = PhaseTimer(config.out)
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
                device=device,
                metadata={
                    **({"data": to_dict(data.config)} if data.config.data else {}),
                    "data_seed": data.seed,
                    "data_fingerprint": images.fingerprint,
                },
            )
        write_seconds(config.out, encode_seconds=before.get("encode_seconds", 0.0) + clock.seconds["encode"])
        console.print(f"  {len(images)} latents in {config.out}")
        return store


def _is_done(out: Path) -> bool:
    """Whether everything is there, and no shard has been damaged since."""
    there = all((out / name).is_file() for name in (SECONDS_FILE, INDEX))
    return there and LatentStore(out, read_json(out / INDEX)).is_whole
