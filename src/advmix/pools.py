"""What a stage reads from the folders that earlier stages wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.data.datasets import Data, names_of, open_data, unlabelled_images
from advmix.data.images import ImageSet
from advmix.data.photos.decode import PhotoShape
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder, is_ready_made, load_autoencoder, save_autoencoder
from advmix.encoders.network import Encoder, check_side
from advmix.encoders.quantized import read_styles
from advmix.encoders.store import INDEX, PHOTOS, LatentStore, PoolOptions, open_latents
from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.mixing import usual_split
from advmix.utils.config import from_dict, to_dict
from advmix.utils.errors import UserError
from advmix.utils.files import copy_folder, make_folder
from advmix.utils.torch_tools import generator as seeded


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A generator with a pool of latents, on one device.

    Attributes:
        model: generator and encoder network, frozen and in eval mode.
        pool: the latents whose z⊥ are borrowed, those of the training images in their order where nothing else is
            said; of a generator of any size styles alone.
        metadata: what the generator's file says of how it was made.
        folder: where that file lies, or the name of a ready-made generator.
        store: the folder of the latents; None where they are in memory alone.
        rows: `(P,)`, which training image each member is, -1 where it is none; None where the pool is of all of them,
            in their order.
        index: what is known of how the pool was made.
    """

    model: Autoencoder
    pool: Latents
    metadata: dict[str, Any]
    folder: Path
    store: LatentStore | None = None
    rows: Tensor | None = None
    index: Mapping[str, Any] = field(default_factory=lambda: {"encoder": "network"})

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
        if self.store is None or self.index["encoder"] == "network":
            return self.model.encoder

        from advmix.training.encoding import pool_encoder

        return pool_encoder(self.store.folder, self.model, self.data.train, self.pool.styles.device)

    @cached_property
    def data(self) -> Data:
        """The data set that generator and pool were made from, read again: `data.train` has the pool's order."""
        return data_of(self.index, self.folder if self.store is None else self.store.folder)

    def places(self, images: int) -> Tensor | None:
        """Where in the pool each of the training images is, `(images,)`, -1 where it is not; None where the pool is of
        all of them, in their order.
        """
        if self.rows is None:
            return None
        known = self.rows >= 0
        return torch.full((images,), -1).index_copy(0, self.rows[known], known.nonzero()[:, 0])

    def member_names(self, data: Data) -> Sequence[str]:
        """What the images of the pool are called, of all of them.

        Args:
            data: the images that are looked at; the pool may be of their training images.
        """
        if "names" in self.index:
            return [str(name) for name in self.index["names"]]
        if data.train.fingerprint != self.index.get("data_fingerprint"):
            return [f"pool image {place}" for place in range(len(self.pool))]
        names = names_of(data, "train")
        return names if self.rows is None else [names[row] for row in self.rows.tolist()]

    def side(self, images: ImageSet) -> int:
        """Of the images that it draws, in pixels: its own or, where it draws any size, theirs."""
        return images.shape[1] if self.generator.any_size else self.generator.resolution

    def save(self, folder: str | Path) -> None:
        """Write generator and latents into one folder, which `load` reads.

        Raises:
            UserError: something lies there already.
        """
        if self.store is None:
            raise UserError(f"{folder}: a pool that is in memory alone is not saved; encode it with advmix encode")
        if is_ready_made(self.folder):
            save_autoencoder(make_folder(Path(folder)), self.model, self.metadata)
        else:
            copy_folder(self.folder, folder, without=LATENTS)
        copy_folder(self.store.folder, Path(folder) / LATENTS)


@dataclass(frozen=True, eq=False)
class PoolMembers:
    """The images of a pool.

    Attributes:
        images: the images; their labels mean nothing.
        metadata: what the pool's index says of them.
    """

    images: ImageSet
    metadata: dict[str, Any]


def open_generator(
    generator: Path, flags: DataConfig, pool: PoolOptions, data: Data | None = None
) -> tuple[Autoencoder, dict[str, Any]]:
    """A generator for images as they are read: a folder's, or a ready-made one.

    Args:
        generator: folder that `fit` or `import` wrote, or the name of a ready-made one.
        flags: what is said of images.
        pool: of `photo`, the size at which it works.
        data: the images, where they are open already.

    Raises:
        UserError: missing, damaged or not ours.
    """
    channels = some_images(data).shape[0] if data is not None else 3 if flags.is_painted else flags.photos.channels
    return load_autoencoder(generator, channels, pool.working_size)


def some_images(data: Data) -> ImageSet:
    """The training images, for their size; the others where there are none."""
    try:
        return data.train
    except UserError:
        return data.test


def pool_members(options: PoolOptions, flags: DataConfig, data: Data | None, dec: Generator, seed: int) -> PoolMembers:
    """The images whose latents are a pool.

    Args:
        options: which.
        flags: how images are read.
        data: the data set, where there is one.
        dec: the generator.
        seed: fixes which of them are drawn.

    Raises:
        UserError: no images, or some that the generator cannot draw.
    """
    rng = seeded(seed, "pool")
    if options.pool is not None and not options.is_train:
        shape = some_images(data).shape if data is not None else (flags.photos.channels, flags.photos.size)
        side = shape[1] if dec.any_size else dec.resolution
        read = replace(flags.sized(dec.channels, side).photo_options(), limit=options.pool_images)
        images, names = unlabelled_images("--pool", options.pool, read, rng)
        return PoolMembers(images, {"pool": options.pool, "names": list(names)})
    assert data is not None
    try:
        images = data.train
    except UserError as error:
        raise UserError(f"{error}; say whose styles are borrowed: --pool {PHOTOS}, or a folder of images") from error
    own: dict[str, Any] = {"data_seed": data.seed, "data_fingerprint": images.fingerprint}
    if data.config.data:
        own = {"data": to_dict(data.config), **own}
    check_size(images, dec)
    if dec.any_size and len(images) > options.pool_images:
        rows = torch.randperm(len(images), generator=rng)[: options.pool_images].sort().values
        return PoolMembers(images[rows], {**own, "rows": rows.tolist()})
    return PoolMembers(images, own)


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
    check_size(some_images(data), dec)
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
    """The same images, a user's own read in the generator's size; as they are, where it draws any size."""
    if flags.is_painted or not flags.data:
        return flags
    return flags.sized(dec.channels, flags.photos.size if dec.any_size else dec.resolution)


def check_size(images: ImageSet, dec: Generator) -> None:
    """Refuse images that the generator cannot draw.

    Raises:
        UserError: giving both sizes.
    """
    found, wanted = images.shape, (dec.channels, dec.resolution, dec.resolution)
    if dec.any_size and found[0] == dec.channels:
        check_side(images.pixels)
    elif dec.any_size:
        raise UserError(f"--data: images of {found[0]} channels, but the generator draws {dec.channels}: --channels")
    elif found != wanted:
        shown = [f"{shape[1]}x{shape[2]} pixels in {shape[0]} channels" for shape in (found, wanted)]
        raise UserError(f"--data: images of {shown[0]}, but the generator draws {shown[1]}; name other images")


LATENTS = "latents"
"""Where the latents lie in a folder that holds all of a model."""


def load(
    generator: str | Path,
    latents: str | Path | None = None,
    device: torch.device | str = "cpu",
    *,
    data: Data | None = None,
    options: PoolOptions | None = None,
    channels: int = 3,
) -> FittedModel:
    """What a training loop, an attack or an audit of your own needs.

    >>> model = advmix.load("runs/fit", "runs/latents")          # from the folders that the commands wrote
    >>> model = advmix.load("photo", "photos")                   # ready-made, with the z⊥ of free photographs
    >>> model.generator, model.encoder, model.split, model.pool

    Args:
        generator: folder that `advmix fit`, `advmix.fit` or `FittedModel.save` wrote; or a ready-made generator:
            `photo`, `statistics`, `statistics:KIND`.
        latents: folder that `advmix encode` wrote, or `photos`; by default `latents` in the first one.
        device: where networks and pool shall be.
        data: the images that are mixed, for a generator that takes its channels from them.
        options: of `photo`, the size at which it works.
        channels: of the images, where `data` does not say it.

    Raises:
        UserError: missing or damaged files, or latents of another generator or encoder network.
    """
    folder = Path(generator)
    flags = DataConfig(data="", photos=PhotoShape(channels=channels)) if data is None else data.config
    model, metadata = open_generator(folder, flags, options or PoolOptions(), data)
    if latents is not None and str(latents) == PHOTOS:
        pool = photo_pool(folder, metadata).to(device)
        if model.generator.channels != PHOTO_CHANNELS:
            raise UserError(
                f"--pool {PHOTOS}: photographs in colour, but these images have {model.generator.channels} channels; "
                "name a folder of images, or the training images"
            )
        index = {"encoder": "network", "names": [f"free photograph {place}" for place in range(len(pool))]}
        return FittedModel(model.to(device), pool, metadata, folder, None, torch.full((len(pool),), -1), index)
    if latents is None and is_ready_made(folder):
        raise UserError(f"--generator {folder}: name a pool too: a folder that encode wrote, or {PHOTOS}")
    store = open_latents(folder / LATENTS if latents is None else Path(latents), model, metadata)
    pool, index = store.latents.to(device), store.index
    return FittedModel(model.to(device), pool, metadata, folder, store, pool_rows(index, len(store), data), index)


def pool_rows(index: Mapping[str, Any], count: int, data: Data | None) -> Tensor | None:
    """Which training images a pool of `count` latents is of: see `FittedModel.rows`.

    Raises:
        UserError: its index is damaged.
    """
    made_from, rows = index.get("data_fingerprint"), index.get("rows")
    if made_from is None or (data is not None and data.train.fingerprint != made_from):
        return torch.full((count,), -1)
    if rows is None:
        return None
    if not isinstance(rows, list) or len(rows) != count or any(type(row) is not int or row < 0 for row in rows):
        raise UserError(f"{INDEX}: does not say which images its latents are of; encode the data again")
    return torch.tensor(rows, dtype=torch.int64)


PRETRAINED = Path(__file__).parent / "pretrained"
PHOTO_CHANNELS = 3
"""Of the photographs whose styles are shipped."""

JOINED = ("photo", "statistics_moments")
"""Pools of the same crops, which make that of `photo:moments`."""


def photo_pool(generator: Path, metadata: Mapping[str, Any]) -> Latents:
    """The shipped pool of free photographs, for a ready-made generator.

    Raises:
        UserError: there is none for this one.
    """
    name = str(metadata.get("ready_made")).replace(":", "_")
    if name == "photo_moments":
        return _joined(*(read_styles(PRETRAINED / f"{part}_pool.safetensors")[0] for part in JOINED))
    path = PRETRAINED / f"{'statistics_moments' if name == 'statistics' else name}_pool.safetensors"
    if not path.is_file():
        there = sorted(path.name.removesuffix("_pool.safetensors") for path in PRETRAINED.glob("*_pool.safetensors"))
        known = ", ".join(name.replace("_", ":") for name in there)
        raise UserError(f"--pool {PHOTOS}: not for generator {generator}, but for {known}; name a folder of images")
    return read_styles(path)[0]


def _joined(learned: Latents, moments: Latents) -> Latents:
    """Styles of both, `(P, L + 2, D)`."""
    padded = F.pad(moments.styles, (0, learned.styles.shape[2] - moments.styles.shape[2]))
    return Latents(torch.cat([learned.styles, padded], dim=1))


def fingerprints_of(mixable: FittedModel | None) -> dict[str, str | None]:
    """The same where there may be none."""
    return {"generator": None, "latents": None} if mixable is None else mixable.fingerprints
