"""The latents of a data set on disk, in shards: the pool of a search, and its spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import LEAST_SIDE, Encoder, encoded
from advmix.generators.style import NetworkConfig
from advmix.latents import Latents
from advmix.utils.config import check_values
from advmix.utils.device import in_first_process, own_turns
from advmix.utils.errors import UserError
from advmix.utils.files import FORMAT_VERSION, make_folder, read_json, write_json, write_tensors
from advmix.utils.memory import RowBudget
from advmix.utils.progress import track

if TYPE_CHECKING:
    from lightning_fabric import Fabric

INDEX, SHARDS = "store.json", "latents-*.safetensors"
IDENTITY = {"generator": str, "images": str, "encoder": str, "count": int, "shard_size": int}
"""What every shard repeats, so that shards of different stores are never joined."""
NETWORK = "encoder_network"
"""Fingerprint of the encoder network, which shards repeat too; None where there is none."""


@dataclass(frozen=True)
class LatentStore:
    """A folder of latents.

    >>> store = LatentStore.open(Path("runs/latents"), generator=fingerprint)
    >>> store.latents                       # all of them, in the order of the data set
    """

    folder: Path
    index: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, generator: str | None = None) -> LatentStore:
        """Open a complete store.

        Args:
            folder: what `encode` wrote.
            generator: fingerprint of the generator that the latents are wanted for.

        Raises:
            UserError: no store, not finished, or latents of another generator.
        """
        if not (folder / INDEX).is_file():
            raise UserError(f"{folder}: holds no latents; make them with advmix encode")
        store = cls(folder, _read_index(folder / INDEX))
        if generator is not None and store.index.get("generator") != generator:
            raise UserError(
                f"{folder}: latents of generator {store.index.get('generator')}, but this generator is {generator}; "
                "encode the data again with this one"
            )
        missing = store.shard_count - len(list(folder.glob(SHARDS)))  # counted first: an index may say any number
        if missing <= 0:
            missing = sum(not path.is_file() for path in store.shards)
        if missing:
            raise UserError(
                f"{folder}: {missing:,} of {store.shard_count:,} shards are missing; go on with advmix encode --resume"
            )
        return store

    @property
    def shard_count(self) -> int:
        """How many files there are when it is complete."""
        return -(-int(self.index["count"]) // int(self.index["shard_size"]))

    @property
    def shards(self) -> list[Path]:
        """The files, in order."""
        return [self.folder / f"latents-{number:05d}.safetensors" for number in range(self.shard_count)]

    def __len__(self) -> int:
        return int(self.index["count"])

    @cached_property
    def latents(self) -> Latents:
        """All latents, on the CPU: each shard is let go when it has been copied.

        Raises:
            UserError: a shard that is damaged, of another store or shape, or with numbers that are not finite.
        """
        whole: Latents | None = None
        for path, rows in zip(self.shards, slices(len(self), self.index["shard_size"]), strict=True):
            part, metadata = Latents.read(path)
            if metadata != self._shard_metadata:
                raise UserError(f"{path}: a shard of another store; delete it and go on with advmix encode --resume")
            wanted = rows.stop - rows.start
            if len(part) != wanted or shape_of(part) != shape_of(whole or part):
                raise UserError(
                    f"{path}: {part}, but {wanted:,} latents like those of the other shards are wanted; delete it "
                    "and go on with advmix encode --resume"
                )
            if whole is None:
                tensors = part.tensors().items()
                whole = Latents(**{name: one.new_empty((len(self), *one.shape[1:])) for name, one in tensors})
            for name, one in whole.tensors().items():
                one[rows] = part.tensors()[name]
        assert whole is not None
        return whole

    @property
    def _shard_metadata(self) -> dict[str, Any]:
        return {key: self.index[key] for key in (*IDENTITY, NETWORK)}

    @property
    def is_whole(self) -> bool:
        """Whether every shard is there, undamaged and of this store."""
        return all(self.has(number) for number in range(len(self.shards)))

    def has(self, number: int) -> bool:
        """Whether a shard is there and is one of this store."""
        path = self.shards[number]
        try:
            return path.is_file() and Latents.read(path)[1] == self._shard_metadata
        except UserError:
            return False


def _read_index(path: Path) -> dict[str, Any]:
    index = read_json(path)
    known = isinstance(index, dict) and all(type(index.get(key)) is kind for key, kind in IDENTITY.items())
    if not known or NETWORK not in index or index["count"] < 1 or index["shard_size"] < 1:
        raise UserError(f"{path}: not the index of a latent store, or damaged; encode the data again")
    return dict(index)


@dataclass(frozen=True)
class PoolOptions:
    """Whose z⊥ are borrowed.

    Args:
        pool: a folder or .zip archive of images, `torchvision:NAME` or `hf:NAME`; no labels are looked for. Or
            `photos`: a shipped pool of free photographs, for the ready-made generators. Or `train`: the training
            images. These are the default, but for `train` with a ready-made generator on colour images: `photos`.
        pool_images: at most so many of them, drawn at random.
        working_size: of the generator `photo`: longer side in pixels. Larger images are mixed at this size, and the
            change is enlarged; default 128.
    """

    pool: str | None = None
    pool_images: int = 2000
    working_size: int | None = None

    def __post_init__(self) -> None:
        check_values(self, "pool_images", least=2)
        check_values(self, "working_size", least=LEAST_SIDE)

    @property
    def is_train(self) -> bool:
        """Whether those of the training images are."""
        return self.pool in (None, TRAIN)


PHOTOS, TRAIN = "photos", "train"
"""Names of the pool that is shipped, and of the training images."""


def shape_of(latents: Latents) -> dict[str, tuple[int, ...]]:
    """Of one image's code, by part."""
    return {name: tuple(part.shape[1:]) for name, part in latents.tensors().items()}


def open_latents(folder: Path, model: Autoencoder, metadata: Mapping[str, Any]) -> LatentStore:
    """The latents of a generator, made with the encoder network that it has, of which there may be several.

    Args:
        folder: what `encode` wrote.
        model: generator and encoder network.
        metadata: of the generator's file.

    Raises:
        UserError: as `LatentStore.open`, or latents made with another encoder network.
    """
    store, network = LatentStore.open(folder, metadata["fingerprint"]), model.network_fingerprint
    made_with = store.index[NETWORK]
    if made_with != network:
        raise UserError(
            f"{folder}: latents made with {_network(made_with)}, but this generator has {_network(network)}; name the "
            "generator that encoded them, or encode the data again with this one"
        )
    _check_shape(store, model.config)
    return store


def _check_shape(store: LatentStore, config: NetworkConfig) -> None:
    wanted: dict[str, tuple[int, ...]] = {"styles": (config.layers, config.style_dim)}
    if config.grid_shape is not None and not config.any_size:
        wanted["grid"] = config.grid_shape
    if shape_of(store.latents) != wanted:
        raise UserError(
            f"{store.folder}: {store.latents}, but this generator wants {wanted} for each image; encode the data again"
        )


def _network(fingerprint: str | None) -> str:
    return "no encoder network" if fingerprint is None else f"encoder network {fingerprint}"


def write_store(
    folder: Path,
    encoder: Encoder,
    images: ImageSet,
    *,
    generator: str,
    made_by: str = "network",
    network: str | None = None,
    shard_size: int = 1024,
    device: torch.device | str = "cpu",
    metadata: dict[str, Any] | None = None,
    styles_only: bool = False,
    fabric: Fabric | None = None,
) -> LatentStore:
    """Encode a data set into `folder`, shard by shard; shards that are there already are kept.

    Args:
        folder: of the store.
        encoder: images to latents.
        images: the data set.
        generator: fingerprint of the generator.
        made_by: which encoder; latents of different ones are not mixed in one store.
        network: fingerprint of the encoder network that took part, likewise; None where there is none.
        shard_size: images per file.
        device: where the encoder is.
        metadata: kept in `store.json`.
        styles_only: leave the grids out: of a generator of any size nothing but the styles is borrowed.
        fabric: the processes that take turns with the shards; None for one.
    """
    identity = {
        "generator": generator,
        "images": images.fingerprint,
        "encoder": made_by,
        NETWORK: network,
        "count": len(images),
        "shard_size": shard_size,
    }
    index = {"format": "advmix.latents", "version": FORMAT_VERSION, **identity, **(metadata or {})}
    store = LatentStore(folder, index)
    in_first_process(fabric, lambda: write_json(make_folder(folder) / INDEX, index))
    shards = list(enumerate(zip(store.shards, slices(len(images), shard_size), strict=True)))
    mine, budget = own_turns(fabric, shards), RowBudget()
    with track("encode", sum(part.stop - part.start for _, (_, part) in mine)) as advance:
        for number, (path, part) in mine:
            if store.has(number):
                advance(part.stop - part.start, "")
            else:
                latents = encoded(images[part], encoder, styles_only, advance, budget).to("cpu")
                _check_finite(latents)
                write_tensors(path, "latents", latents.tensors(), identity)
    if fabric is not None:
        fabric.barrier()
    return store


def _check_finite(latents: Latents) -> None:
    broken = latents.not_finite
    if len(broken):
        raise UserError(
            f"{len(broken):,} of {len(latents):,} images are encoded to latents that are no numbers (NaN or infinite); "
            "look at these images, or fit the generator again"
        )
