"""A GAN of a few numbers, and pictures for it."""

from __future__ import annotations

from pathlib import Path

import torch

from advmix.data.images import ImageSet, to_bytes
from advmix.generators.stylegan import StyleGanConfig
from advmix.training.gan import GanOptions, GanTrainee
from advmix.training.loop import Loop
from advmix.utils.device import MachineOptions, make_fabric
from advmix.utils.torch_tools import generator as seeded

SHAPE = StyleGanConfig(resolution=8, style_dim=4, mapping_layers=2, widths=(8, 6))
OPTIONS = GanOptions(gan_steps=8, gan_batch=8, r1_every=3)


def pictures(count: int = 40) -> ImageSet:
    """8x8 pixels, dark, each with a bright square of a random colour near the middle."""
    rng = seeded(0, "tests", "pictures")
    images = torch.zeros(count, 3, 8, 8)
    images[:, :, 2:6, 2:6] = 0.5 + 0.5 * torch.rand(count, 3, 1, 1, generator=rng)
    return ImageSet(to_bytes(images), torch.arange(count) % 2, ("even", "odd"))


def train_rank(folder: Path) -> None:
    """Ten steps in one of two processes, which leaves its weights in the folder."""
    torch.set_num_threads(1)
    fabric = make_fabric("cpu", MachineOptions(devices=2))
    trainee = GanTrainee(pictures(), OPTIONS, 0, fabric, SHAPE)
    loop = Loop("fit StyleGAN", 10, folder, log_every=1)
    loop.train(trainee)
    state = {name: part for name, part in trainee.state_dict().items() if "optimizer" not in name}
    torch.save({"state": state, "history": loop.history}, folder / f"rank{fabric.global_rank}.pt")


def make_trainee(options: GanOptions = OPTIONS, seed: int = 0, precision: str = "32") -> GanTrainee:
    return GanTrainee(pictures(), options, seed, make_fabric("cpu", precision=precision), SHAPE)
