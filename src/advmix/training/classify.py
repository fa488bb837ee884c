"""`train`: a classifier, by any objective, with the same budget for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet, balanced_batches, epoch_batches
from advmix.training.loop import Trainee
from advmix.training.normalisation import whole_batch_norm
from advmix.training.objectives import Batch, Objective
from advmix.utils.config import check_values
from advmix.utils.device import own_part
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import part_generator, rows_drawn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class TrainOptions:
    """How every classifier is trained.

    Args:
        epochs: passes over the training set; default 15 at 16x16 pixels, 5 above.
        batch: images per step, over all devices.
        lr: peak learning rate of Adam, one cycle.
        flip: mirror every second image at random, whatever the method.
        balance: draw every class equally often, for classes of unlike size; the number of steps stays the same.
    """

    epochs: int | None = None
    batch: int = 64
    lr: float = 3e-3
    flip: bool = False
    balance: bool = False

    def __post_init__(self) -> None:
        check_values(self, "epochs lr", above=0)
        check_values(self, "batch", least=2)  # batch normalisation cannot train on one

    def times(self, factor: int, images: ImageSet) -> TrainOptions:
        """The same with `factor` times as many epochs."""
        return replace(self, epochs=factor * self._epochs(images))

    def steps(self, images: ImageSet) -> int:
        """Number of optimisation steps in all."""
        return self._epochs(images) * batches_per_epoch(len(images), self.batch)

    def _epochs(self, images: ImageSet) -> int:
        return self.epochs or (15 if images.pixels.shape[-1] <= 16 else 5)


def batches_per_epoch(count: int, batch: int) -> int:
    """Batches that `epoch_batches` yields: a last one of a single example joins the one before it."""
    return max(1, math.ceil(count / batch) - (count % batch == 1))


class ClassifierTrainee(Trainee):
    """Adam, one cycle; the order of the images and all other randomness follow from the seed and the step.

    Several processes share each batch, with the normalisation statistics of the whole of it: but for rounding the
    weights are those of one process.

    Raises:
        UserError: a batch of fewer images than processes.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        images: ImageSet,
        options: TrainOptions,
        seed: int,
        fabric: Fabric,
        compiled: bool = False,
    ) -> None:
        super().__init__(network, fabric, options.lr, options.steps(images), betas=(0.9, 0.999), compiled=compiled)
        self.objective, self.images, self.options, self.seed = objective, images, options, seed
        self.epoch, self.batches = -1, [torch.empty(0)]
        self._check_batches()

    def _check_batches(self) -> None:
        processes = self.fabric.world_size
        last = min(len(batch) for batch in self._drawn(0)) if processes > 1 else processes
        if last < processes:
            raise UserError(
                f"--batch {self.options.batch}: {last} of {len(self.images):,} images are left for the last batch of "
                f"an epoch, fewer than the {processes} devices; choose another batch"
            )

    def _batch(self, epoch: int, position: int) -> Tensor:
        """Indices of a batch; the epoch's order is kept until the next epoch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.batches = list(self._drawn(epoch))
        return self.batches[position]

    def _drawn(self, epoch: int) -> Iterator[Tensor]:
        if self.options.balance:
            return balanced_batches(self.images.labels, self.options.batch, self.seed, epoch)
        return epoch_batches(len(self.images), self.options.batch, self.seed, epoch)

    def loss(self, step: int) -> Tensor:
        """The objective on the step's batch."""
        epoch, position = divmod(step, batches_per_epoch(len(self.images), self.options.batch))
        index = self._batch(epoch, position)
        count, own = len(index), own_part(self.fabric, len(index))
        whole = self.objective.sees_whole_batch
        rows = slice(0, count) if whole else own
        images, labels = self.images.batch(index[rows])
        if self.options.flip:
            images = flipped(images, part_generator(self.seed, "flip", step, count=count, own=rows))
        batch = Batch(images, labels, index[rows], self.options.flip, own if whole else slice(None))
        rng = part_generator(self.seed, "train", step, count=count, own=rows)
        self.wrapped.train()
        with whole_batch_norm(self.network, self.fabric):
            loss: Tensor = self.objective(self.wrapped, batch.to(self.fabric.device), rng)
        weight: float = (own.stop - own.start) * self.fabric.world_size / count
        return loss * weight  # its mean over the processes is the mean over the batch


def flipped(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images `(B, C, H, W)`, each of them mirrored left to right with probability one half."""
    count, own = rows_drawn(rng, len(images))
    mirror = torch.rand(count, generator=rng)[own] < 0.5
    return torch.where(mirror[:, None, None, None], images.flip(-1), images)
