"""`advmix sample`: images that a StyleGAN makes up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from advmix.data.images import png
from advmix.encoders.autoencoder import load_autoencoder
from advmix.engine import make_fabric
from advmix.errors import UserError
from advmix.files import atomic_write, make_folder
from advmix.generators import MappedGenerator
from advmix.options import require
from advmix.progress import console, track
from advmix.report.page import save_figures
from advmix.report.samples import sample_grid
from advmix.runs import open_run
from advmix.seeds import generator

AT_ONCE = 4
"""Images that are drawn and decoded together; each such group has random numbers of its own."""
SHOWN, COLUMNS, THUMBNAIL = 64, 8, 256
"""Of the sheet."""
FOLDER = "images"


@dataclass(frozen=True)
class SampleConfig:
    """Draw images that a StyleGAN makes up: files, and a sheet of the first 64.

    Writes images/00000.png and so on, samples.png and config.json. An image depends on its number and the seed alone: a
    longer run begins with the same ones.

    Args:
        generator: folder that fit --regime gan or import wrote.
        count: images.
        truncation: 1 is all variety, 0 the mean image; in between, fewer odd images and less variety.
        mixing: probability that an image has two styles, from a random layer on the other one, in [0, 1].
        seed: fixes the images.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    generator: Path
    count: int = SHOWN
    truncation: float = 1.0
    mixing: float = 0.0
    seed: int = 0
    out: Path = Path("runs/samples")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        require(self, "count", least=1)
        require(self, "truncation", least=0)
        require(self, "mixing", within=(0, 1))


def run_sample(config: SampleConfig) -> None:
    """Draw and write them; one that went on writes the same files again.

    Raises:
        UserError: a generator that makes nothing up.
    """
    device = make_fabric(config.device).device
    model, metadata = load_autoencoder(config.generator)
    dec = model.generator
    if not isinstance(dec, MappedGenerator):
        raise UserError(
            f"--generator {config.generator}: an autoencoder, which draws only what it is given; fit one with "
            "--regime gan, or import one"
        )
    with open_run(config.out, "sample", config, config.resume, {"generator": metadata["fingerprint"]}):
        folder, shown = make_folder(config.out / FOLDER), list[Tensor]()
        with track("sample", config.count) as advance:
            for first, images in draw(dec.to(device), config.count, config.seed, config.truncation, config.mixing):
                for place, image in enumerate(images, first):
                    atomic_write(folder / f"{place:05}.png", png(image))
                shown += thumbnails(images[: max(0, SHOWN - first)])
                advance(len(images), "")
        save_figures({"samples": sheet(torch.stack(shown))}, config.out)
        console.print(f"  {config.count:,} images in {folder}; look at {config.out / 'samples.png'}", markup=False)


@torch.no_grad()
def draw(
    dec: MappedGenerator, count: int, seed: int, truncation: float = 1.0, mixing: float = 0.0
) -> Iterator[tuple[int, Tensor]]:
    """Images of random latents, some at a time.

    Args:
        dec: makes them up, on its device.
        count: how many.
        seed: fixes each of them by its number.
        truncation: see `MappedGenerator.sample`.
        mixing: likewise.

    Yields:
        The number of the first one, and images `(B, C, H, W)` in [0, 1] on the CPU.
    """
    for first in range(0, count, AT_ONCE):
        latents = dec.sample(AT_ONCE, generator(seed, "samples", first), truncation, mixing)
        yield first, dec(latents).cpu()[: count - first]


def thumbnails(images: Tensor) -> Tensor:
    """Images `(B, C, H, W)`, at most `THUMBNAIL` pixels a side: a sheet shows no more of them."""
    return F.adaptive_avg_pool2d(images, THUMBNAIL) if images.shape[-1] > THUMBNAIL else images


def sheet(images: Tensor) -> Figure:
    """Images `(N, C, H, W)` in [0, 1], C 1 or 3, eight in a row."""
    return sample_grid(images.expand(-1, 3, -1, -1), columns=min(COLUMNS, len(images)), side=1.0)
