"""`advmix encode`: the latents of a data set, on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from advmix.data.datasets import Data
from advmix.data.settings import DataConfig
from advmix.encoders.network import encoded
from advmix.encoders.store import INDEX, PHOTOS, LatentStore, PoolOptions, open_latents, write_store
from advmix.pools import (
    FittedModel,
    check_size,
    data_for,
    data_of,
    load,
    open_generator,
    pool_members,
    pool_rows,
    remembered,
    some_images,
)
from advmix.training.encoding import EncodeConfig, features_of, make_encoder
from advmix.training.features import features_input
from advmix.utils.device import in_first_process, is_first, local_first, open_processes
from advmix.utils.errors import UserError
from advmix.utils.files import read_json
from advmix.utils.progress import SECONDS_FILE, PhaseTimer, console, quietly, read_seconds, write_seconds
from advmix.utils.runs import open_run

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def run_encode(config: EncodeConfig) -> LatentStore:
    """Encode what is not encoded yet.

    Raises:
        UserError: bad input.
    """
    device, fabric = open_processes(config.device, config.machines)
    with quietly(not is_first(fabric)):
        return encode_images(config, None, device, fabric)


def encode_images(
    config: EncodeConfig, data: Data | None, device: torch.device, fabric: Fabric | None = None
) -> LatentStore:
    """The same, with the data, where they are there already.

    Args:
        config: of the run.
        data: the images; None to open those that the config names.
        device: where they are encoded.
        fabric: the processes that take turns with the shards; None for one.

    Raises:
        UserError: bad input.
    """
    model, metadata = open_generator(config.generator, config.data, config.pool, data)
    with local_first(fabric):
        if data is None and (config.data.data or config.pool.is_train):
            data = data_for(metadata, config.generator, config.data, config.seed, model.generator)
        members = pool_members(config.pool, config.data, data, model.generator, config.seed)
    images = members.images
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
    with open_run(config.out, "encode", config, config.resume, inputs, fabric=fabric):
        before = read_seconds(config.out)
        if in_first_process(fabric, lambda: _is_done(config.out)):
            console.print(f"  done already: {config.out}")
            return open_latents(config.out, model, metadata)
        clock = PhaseTimer(config.out if is_first(fabric) else None)
        with clock("encode"):
            store = write_store(
                config.out,
                encoder,
                images,
                generator=metadata["fingerprint"],
                network=network,
                made_by=config.encoder,
                shard_size=config.shard_size,
                device=device,
                metadata=members.metadata,
                styles_only=model.generator.any_size,
                fabric=fabric,
            )
        if is_first(fabric):
            write_seconds(config.out, encode_seconds=before.get("encode_seconds", 0.0) + clock.seconds["encode"])
        console.print(f"  {len(images)} latents in {config.out}")
        return store


def _is_done(out: Path) -> bool:
    """Whether everything is there, and no shard has been damaged since."""
    there = all((out / name).is_file() for name in (SECONDS_FILE, INDEX))
    return there and LatentStore(out, read_json(out / INDEX)).is_whole


def open_model(
    generator: Path,
    latents: Path | None,
    options: PoolOptions,
    data: Data,
    out: Path | None,
    device: torch.device,
    fabric: Fabric | None = None,
) -> FittedModel:
    """Generator and pool, checked against each other; a pool that is not named is encoded.

    Args:
        generator: folder that `fit` or `import` wrote, or the name of a ready-made one.
        latents: what `encode` wrote; by default the pool is encoded into `out`.
        options: whose z⊥ are borrowed.
        data: the images that are looked at; where the generator has none of its own, its pool is their training images.
        out: folder for a pool that is made; None for memory alone.
        device: where networks and pool shall be.
        fabric: the processes that take turns with what is encoded into `out`; None for one.

    Raises:
        UserError: missing or damaged files, or parts that do not go together.
    """
    if latents is not None and options.pool is not None:
        raise UserError(f"--pool {options.pool}: goes without --latents, which are a pool already")
    model, metadata = open_generator(generator, data.config, options, data)
    check_size(some_images(data), model.generator)
    if latents is not None:
        return load(generator, latents, device, data=data, options=options)
    if options.pool == PHOTOS:
        return load(generator, PHOTOS, device, data=data, options=options)
    foreign = "data" in metadata and options.is_train
    if out is None:
        pooled_data = data_of(metadata, generator) if foreign else data
        members = pool_members(options, data.config, pooled_data, model.generator, data.seed)
        pool = encoded(members.images, model.to(device).encoder, styles_only=model.generator.any_size)
        rows, index = pool_rows(members.metadata, len(pool), data), {"encoder": "network", **members.metadata}
        return FittedModel(model, pool, metadata, generator, None, rows, index)
    pooled = DataConfig(data="") if foreign else data.config
    config = EncodeConfig(generator, pooled, options, out=out, seed=data.seed, device=str(device), resume=True)
    encode_images(config, None if foreign else data, device, fabric)
    return load(generator, out, device, data=data, options=options)
