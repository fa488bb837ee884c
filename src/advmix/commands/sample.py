"""What a generator makes up, as a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from advmix.data.images import png
from advmix.encoders.autoencoder import FILE, Autoencoder, load_autoencoder, save_autoencoder
from advmix.generators.stylegan import MappedGenerator
from advmix.generators.stylegan2 import StyleGan2
from advmix.pretrained.read import import_generator
from advmix.report.drawing import Canvas, tile
from advmix.report.page import save_figures
from advmix.utils.config import Settings, check_values
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import atomic_write, make_folder
from advmix.utils.progress import console, track
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import generator


def sample_grid(images: Tensor, columns: int = 16, side: float = 0.5) -> Figure:
    """Images `(N, 3, H, W)` in [0, 1] side by side, row by row, `side` inches each."""
    rows = -(-len(images) // columns)
    canvas = Canvas(side * columns, side * rows)
    canvas.image(tile(images, columns, rows), 0, 0, canvas.width, canvas.height)
    return canvas.figure


AT_ONCE = 4

"""Images that are drawn and decoded together; each such group has random numbers of its own."""

SHOWN, COLUMNS, THUMBNAIL = 64, 8, 256

"""Of the sheet."""

FOLDER = "images"


@dataclass(frozen=True)
class SampleConfig(Settings):
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
        super().__post_init__()
        check_values(self, "count", least=1)
        check_values(self, "truncation", least=0)
        check_values(self, "mixing", within=(0, 1))


def run_sample(config: SampleConfig) -> None:
    """Draw and write them; one that went on writes the same files again.

    Raises:
        UserError: a generator that makes nothing up.
    """
    device = open_device(config.device)
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


@dataclass(frozen=True)
class ImportConfig(Settings):
    """Read a StyleGAN2 generator that others trained; nothing in their file is executed.

    Writes generator.safetensors, samples.png and config.json; the folder serves as --generator. There is no encoder
    network in it: encode with --encoder mean, or train one with fit --regime invert.

    Args:
        file: a .pkl of stylegan2-ada-pytorch or stylegan3 (StyleGAN2 configurations), or a .pt of rosinality's
            stylegan2-pytorch.
        label: the class whose images are drawn, where the generator is conditional.
        mapping_lr: learning rate of the mapping network relative to the rest's (lr_mlp), where a checkpoint of
            stylegan2-pytorch was trained with another one than 0.01 and does not state it.
        samples: images in samples.png; 0 draws none.
        truncation: of the samples: 1 is all variety, 0 the mean image.
        seed: fixes the samples.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps, for the samples.
        resume: go on with a run that was stopped.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    label: int | None = None
    mapping_lr: float | None = None
    samples: int = 32
    truncation: float = 0.7
    seed: int = 0
    out: Path = Path("runs/imported")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "samples truncation", least=0)
        check_values(self, "mapping_lr", above=0)


def run_import(config: ImportConfig) -> None:
    """Import, unless `out` holds the finished result already.

    Raises:
        UserError: a file that cannot be read, or should not be.
    """
    device, imported = open_device(config.device), import_generator(config.file, config.label, config.mapping_lr)
    dec = imported.generator
    with config.file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with open_run(config.out, "import", config, config.resume, {"file": digest}):
        if (config.out / FILE).is_file():
            console.print(f"  done already: {config.out / FILE}")
            return
        model = Autoencoder(dec.config, with_encoder=False)
        model.generator = dec
        if config.samples:
            save_figures({"samples": _samples(dec.to(device), config)}, config.out)
        source = {"file": config.file.name, "sha256": digest, "format": imported.format, "label": config.label}
        save_autoencoder(config.out, model, {"imported": source, "fit_seconds": 0.0, "reconstruction_mse": None})
        for remark in imported.remarks:
            console.print(f"  {config.file}: {remark}", markup=False)
        console.print(f"  {described(dec)} in {config.out / FILE}", markup=False)


def described(dec: StyleGan2) -> str:
    """One line about a generator."""
    config = dec.config
    colours = "RGB" if config.channels == 3 else "grey"
    return (
        f"StyleGAN2 ({config.architecture}), {config.resolution}x{config.resolution} {colours}, "
        f"{config.layers} layers of {config.style_dim} numbers"
    )


def _samples(dec: StyleGan2, config: ImportConfig) -> Figure:
    images = []
    with track("samples", config.samples) as advance:
        for _, drawn in draw(dec, config.samples, config.seed, config.truncation):
            images.append(thumbnails(drawn))
            advance(len(drawn), "")
    return sheet(torch.cat(images))
