"""One run: a method trained until it has been better, and what becomes of its answers."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet, epoch_batches
from advmix.metrics import predict, share
from advmix.mixing import AdvMix, RandMix
from advmix.training.classify import batches_per_epoch, flipped
from advmix.training.consistency import Consistency
from advmix.training.objectives import Batch, Mixing, Nominal, Objective
from advmix.transforms import open_styles
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import answers, generator, global_seed
from experiments.faces.dataset import Faces
from experiments.shifts.rivals import AugMixConsistency
from experiments.smiling.settings import BOTH, CONSISTENCY, RunOptions, SmilingConfig
from experiments.smiling.views import Viewed, generator_of, make_view


def make_network(config: SmilingConfig, method: str, seed: int, classes: int) -> nn.Module:
    """The classifier with its first weights."""
    with global_seed(seed):
        if config.network == "conv":
            return conv_net(classes, pool=2 if method.endswith("-2x2") else 4)
        from torchvision.models import resnet18

        network: nn.Module = resnet18(num_classes=classes)
        return network.to(memory_format=torch.channels_last)


def make_objective(config: SmilingConfig, method: str, faces: Faces) -> Objective:
    """What each step minimises."""
    if CONSISTENCY in method:
        options, unlabelled = config.consistency, faces.unlabelled
        view = make_view(method.partition(CONSISTENCY)[2], unlabelled, config.jitter)
        return Consistency(
            _mixing("randmix", faces.labelled) if method == BOTH else Nominal(),
            unlabelled,
            view,
            batch=options.unlabelled_batch,
            weight=options.weight,
            threshold=options.threshold,
        )
    if method.startswith("nominal"):
        return Nominal()
    if method.startswith(("randmix", "advmix")):
        return _mixing(method, faces.labelled)
    if method == "augmix":
        return AugMixConsistency()
    return Viewed(make_view(method, faces.labelled, config.jitter))


def _mixing(method: str, labelled: ImageSet) -> Mixing:
    styles = open_styles(labelled, generator_of(method))
    kind = RandMix if method.startswith("randmix") else AdvMix
    assert styles.pool is not None
    mixer = kind(styles.generator, styles.split)
    return Mixing(mixer, styles.pool, encoder=styles.encoder, residual=True, together=True)


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run ended with.

    Attributes:
        network: averaged weights, as they were best.
        step: after how many steps that was.
        curve: `[steps, error]` of every look at the images that choose.
        seconds: of a processor, for all steps; without the looks.
    """

    network: nn.Module
    step: int
    curve: list[list[float]]
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Everything but the network."""
        return {"step": self.step, "curve": self.curve, "cpu_seconds": round(self.seconds, 1)}


@dataclass(eq=False)
class Training:
    """Adam at a constant rate on labelled images, mirrored at random; an average of the weights beside it.

    Args:
        network: with its first weights, on the device.
        objective: what each step minimises.
        images: labelled.
        options: how.
        seed: fixes every step, together with its number.
        device: of the network.
    """

    network: nn.Module
    objective: Objective
    images: ImageSet
    options: RunOptions
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.options.lr, fused=True)
        average = get_ema_multi_avg_fn(self.options.decay)
        self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)

    def best(self, choose: ImageSet) -> Trained:
        """Train until the error on the images that choose has not been lower for as long as the options say.

        Raises:
            UserError: the loss is not finite.
        """
        options, curve, seconds = self.options, [], 0.0
        least, best, at = math.inf, self.averaged.module, 0
        for step, index in zip(range(options.steps), self._order(), strict=False):
            begun = time.process_time()
            self._step(step, index)
            seconds += time.process_time() - begun
            done = step + 1
            if done % options.check_every and done != options.steps:
                continue
            error = self._error(choose)
            curve.append([done, round(error, 5)])
            if error < least:
                least, best, at = error, copy.deepcopy(self.averaged.module), done
            elif done - at >= options.patience * options.check_every:
                break
        return Trained(best, at, curve, seconds)

    def _order(self) -> Iterator[Tensor]:
        """Places of a batch after the other, epoch after epoch."""
        epoch = 0
        while True:
            yield from epoch_batches(len(self.images), self.options.batch, self.seed, epoch)
            epoch += 1

    def _step(self, step: int, index: Tensor) -> None:
        images, labels = self.images.batch(index)
        images = flipped(images, generator(self.seed, "flip", step))
        batch = Batch(images, labels, index, augmented=True).to(self.device)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bf16):
            loss = self.objective(self.network, batch, generator(self.seed, "train", step))
        if not bool(loss.isfinite()):
            raise UserError(f"the loss is {float(loss)} at step {step}; try a smaller --lr, with other --cells")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.averaged.update_parameters(self.network)

    def _error(self, images: ImageSet) -> float:
        return 1 - share(answers(predict(self.averaged.module, images, self.device)) == images.labels)


def epochs_of(step: int, labelled: int, options: RunOptions) -> float:
    """How many passes over the labelled images so many steps are."""
    return round(step / batches_per_epoch(labelled, options.batch), 1)
