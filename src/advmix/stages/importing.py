"""`advmix import`: a generator that others trained, in our format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from matplotlib.figure import Figure

from advmix.encoders.autoencoder import FILE, Autoencoder, save_autoencoder
from advmix.engine import make_fabric
from advmix.generators import StyleGan2
from advmix.imports import import_generator
from advmix.options import require
from advmix.progress import console, track
from advmix.report.page import save_figures
from advmix.runs import open_run
from advmix.stages.sample import draw, sheet, thumbnails


@dataclass(frozen=True)
class ImportConfig:
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
        require(self, "samples truncation", least=0)
        require(self, "mapping_lr", above=0)


def run_import(config: ImportConfig) -> None:
    """Import, unless `out` holds the finished result already.

    Raises:
        UserError: a file that cannot be read, or should not be.
    """
    fabric, imported = make_fabric(config.device), import_generator(config.file, config.label, config.mapping_lr)
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
            save_figures({"samples": _samples(dec.to(fabric.device), config)}, config.out)
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
