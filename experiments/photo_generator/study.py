"""`python -m experiments photo-generator`: the generator in the wheel, from a folder of free photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.encoders.autoencoder import FILE, Autoencoder, fingerprint, load_autoencoder, save_autoencoder
from advmix.encoders.network import Encoder
from advmix.encoders.quantized import write_styles
from advmix.generators.image_statistics import KINDS
from advmix.training.autoencode import FitOptions, style_shape
from advmix.training.loop import Loop
from advmix.utils.config import Settings, check_values, to_dict
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.progress import console
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import eval_mode, generator
from experiments.photo_generator.crops import draw_crops, relit
from experiments.photo_generator.pictures import Pyramids, listed_pictures
from experiments.photo_generator.training import PhotoTrainee

POOL_NAME = "pool.safetensors"
POOL = f"photo_{POOL_NAME}"
POOL_SIZE, POOL_BATCH, POOL_SEED = 64, 100, 0
"""Pixels of the pool's crops, how many are drawn at once, and the seed that fixes them for every encoder."""

WORKING_SIZE = 128
"""Longer side in pixels at which larger images are worked at, unless a user says otherwise."""

FIT = FitOptions(fit_steps=7000, fit_batch=16, latent_noise=0.05, grid_channels=16, l1_weight=1.0)
"""More steps of fewer crops, less noise and a wider grid than `fit` has; chosen on validation images of other kinds."""


@dataclass(frozen=True)
class PhotoGeneratorConfig(Settings):
    """Train the generator `photo` on random crops of free photographs, and write its pool.

    Writes generator.safetensors, and the same crops' styles for it and for statistics of every kind:
    photo_pool.safetensors and statistics_KIND_pool.safetensors. Goes on where it was stopped.

    Args:
        pictures: folder of the photographs, which `photo-pictures` wrote.
        fit: how generator and encoder are trained.
        sizes: sides of the crops in pixels, in turn, a multiple of 4 each.
        pool: styles in the pool.
        seed: fixes the first weights and every crop of the training.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        checkpoint_seconds: time between checkpoints.
    """

    pictures: Path = Path("runs/pictures")
    fit: FitOptions = field(default_factory=lambda: FIT)
    sizes: tuple[int, ...] = (64, 32)
    pool: int = 2000
    seed: int = 0
    out: Path = Path("runs/study/photo-generator")
    device: str = "auto"
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "pool", least=2)
        check_values(self, "checkpoint_seconds", least=0)
        for size in self.sizes:
            if size < 16 or size % 4:
                raise UserError(f"--sizes {size}: must be a multiple of 4, 16 or more")


def run_photo_generator(config: PhotoGeneratorConfig) -> None:
    """Train, unless that is done, and write the pool.

    Raises:
        UserError: a photograph is missing or another one, or the folder holds another run.
    """
    train_photo(config, Pyramids.read(config.pictures, listed_pictures()))


def train_photo(config: PhotoGeneratorConfig, pyramids: Pyramids) -> None:
    """The same with photographs that are in memory."""
    fabric = make_fabric(config.device)
    inputs = {"pictures": pyramids.fingerprint}
    with open_run(config.out, "study photo-generator", config, True, inputs) as run:
        if not (config.out / FILE).is_file():
            shape = replace(style_shape(3, 64, config.fit), working_size=WORKING_SIZE)
            trainee = PhotoTrainee(pyramids, config.sizes, config.fit, config.seed, fabric, shape)
            loop = Loop("train photo", config.fit.steps(64), config.out, run, config.checkpoint_seconds)
            loop.train(trainee)
            save_autoencoder(config.out, trainee.model, _metadata(config, pyramids, loop))
        model, _ = load_autoencoder(config.out)
        write_pools(config.out, model, pyramids, config.pool)
    console.print(f"  generator in {config.out / FILE}, {config.pool:,} styles in {config.out / POOL}")


def _metadata(config: PhotoGeneratorConfig, pyramids: Pyramids, loop: Loop) -> dict[str, Any]:
    return {
        "pictures": len(pyramids),
        "pictures_fingerprint": pyramids.fingerprint,
        "fit": to_dict(config.fit),
        "sizes": list(config.sizes),
        "seed": config.seed,
        "log_sha256": [loop.log_digest],
        "fit_seconds": round(loop.seconds, 2),
    }


def _made_with(model: Autoencoder) -> dict[str, Any]:
    return {
        "generator": fingerprint(model.generator, model.config),
        "encoder_network": model.network_fingerprint,
    }


def write_pools(folder: Path, photo: Autoencoder, pyramids: Pyramids, count: int) -> None:
    """The same crops' styles for every ready-made generator: `photo_pool`, `statistics_moments_pool` and so on.

    Args:
        folder: for the files.
        photo: the learned generator.
        pyramids: the photographs.
        count: styles in each.
    """
    write_pool(folder / POOL, photo.encoder, pyramids, count, _made_with(photo))
    for kind in KINDS:
        model, _ = load_autoencoder(Path(f"statistics:{kind}"))
        write_pool(folder / f"statistics_{kind}_{POOL_NAME}", model.encoder, pyramids, count, _made_with(model))


@torch.no_grad()
def write_pool(path: Path, encoder: Encoder, pyramids: Pyramids, count: int, made_with: dict[str, Any]) -> None:
    """The styles of crops of the photographs, every second one in another light, in a small file.

    Args:
        path: of the file.
        encoder: any; the crops are the same for all of them.
        pyramids: the photographs.
        count: how many.
        made_with: fingerprints, which go into the file.
    """
    with eval_mode(encoder):
        styles = torch.cat([encoder(images).styles for images in pool_images(pyramids, count)])
    crops = {"pictures_fingerprint": pyramids.fingerprint, "size": POOL_SIZE, "seed": POOL_SEED}
    write_styles(path, styles, {**made_with, **crops})


def pool_images(pyramids: Pyramids, count: int) -> Iterator[Tensor]:
    """The pool's images, in batches `(B, 3, 64, 64)` in [0, 1]: crops as they are and, by turns, in another light."""
    for first in range(0, count, POOL_BATCH):
        rng = generator(POOL_SEED, "photo pool", first)
        size = min(POOL_BATCH, count - first)
        crops = draw_crops(pyramids, size, POOL_SIZE, rng)
        changed = torch.arange(size)[:, None, None, None] % 2 == 1
        yield torch.where(changed, relit(crops, rng), crops).contiguous(memory_format=torch.channels_last)
