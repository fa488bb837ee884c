"""What one process and two do alike: trainings of a few steps, command lines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from advmix.classifiers.networks import conv_net
from advmix.cli import main
from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import encoded
from advmix.generators.style import StyleConfig
from advmix.latents import Split
from advmix.mixing import AdvMix, RandMix
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.consistency import UnlabelledOptions
from advmix.training.loop import Loop, Trainee
from advmix.training.objectives import Adversarial, Augment, Mixing, Mixup, Nominal, Objective
from advmix.utils.device import MachineOptions, make_fabric
from advmix.utils.torch_tools import global_seed
from tiny_gan import pictures

STEPS = 20
DOUBLE = ("wide", "compiled")


def model_of(images: ImageSet) -> Autoencoder:
    """A small generator that was never trained."""
    side = images.shape[1]
    with global_seed(0):
        return Autoencoder(StyleConfig(side, 3, 8, (8, 8))).eval().requires_grad_(False)


def _mixing(name: str, images: ImageSet) -> Objective:
    model = model_of(images)
    pool, split = encoded(images, model.encoder), Split.fine(model.generator.layers, 2)
    if name == "advmix":
        return Mixing(AdvMix(model.generator, split, restarts=2, steps=2), pool, encoder=model.encoder)
    return Mixing(RandMix(model.generator, split), pool, encoder=model.encoder, together=True, consistency=0.5)


OBJECTIVES: dict[str, Callable[[ImageSet], Objective]] = {
    "nominal": lambda images: Nominal(),
    "wide": lambda images: Nominal(),
    "compiled": lambda images: Nominal(),
    "mixup": lambda images: Mixup(2),
    "linf": lambda images: Adversarial(0.05, 2),
    "jitter": lambda images: Augment(v2.ColorJitter(0.3, 0.3, 0.3, 0.3)),
    "unlabelled": lambda images: UnlabelledOptions("more").beside(Nominal(), images, True)[0],
    "unlabelled jitter": lambda images: UnlabelledOptions("more", "jitter").beside(
        Augment(v2.ColorJitter(0.3, 0.3, 0.3, 0.3)), images, True
    )[0],
    "randmix": lambda images: _mixing("randmix", images),
    "advmix": lambda images: _mixing("advmix", images),
}


class InFloat64(nn.Module):
    """Adam makes steps of rounding errors where gradients are small; here these are a billionth of the usual."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.double())
        return logits


def train_once(name: str, machines: MachineOptions | None) -> tuple[nn.Module, Loop, int]:
    """Twenty steps of batches of 13 and 14 images, which two processes share unequally; `fit` for the autoencoder."""
    torch.set_num_threads(1)
    fabric, images = make_fabric("cpu", machines), pictures()
    trainee: Trainee
    if name == "fit":
        options = FitOptions(fit_steps=STEPS, fit_batch=8)
        trainee = AutoencoderTrainee(images, options, 0, fabric, StyleConfig(8, 3, 8, (8, 8)))
    else:
        with global_seed(0):
            network: nn.Module = InFloat64(conv_net(2)) if name in DOUBLE else conv_net(2, widths=(4, 8))
        flip = TrainOptions(epochs=7, batch=13, lr=1e-3, flip=True)
        parts = network, OBJECTIVES[name](images), images, flip, 0, fabric
        with patch.object(torch, "compile", partial(torch.compile, backend="aot_eager")):
            trainee = ClassifierTrainee(*parts, compiled=name == "compiled")
    loop = Loop(name, STEPS, log_every=1)
    loop.train(trainee)
    return trainee.network, loop, fabric.global_rank


def train_rank(names: tuple[str, ...], folder: Path) -> None:
    """The same in one of two processes, which leaves weights and losses in the folder."""
    for name in names:
        network, loop, rank = train_once(name, MachineOptions(devices=2))
        torch.save({"weights": network.state_dict(), "history": loop.history}, folder / f"{name}{rank}.pt")


def run_all(lines: list[list[str]]) -> int:
    """Several command lines, one after the other; the exit code of the first that fails."""
    return next((code for code in map(main, lines) if code), 0)
