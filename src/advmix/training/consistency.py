"""Consistency: of a strong view of an image a classifier should say what it says of the image. That needs no label.

Sohn et al., "FixMatch: simplifying semi-supervised learning with consistency and confidence" (2020); Xie et al.,
"Unsupervised data augmentation for consistency training" (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet, to_bytes, to_float
from advmix.training.classify import flipped
from advmix.training.objectives import Batch, Objective, divergence
from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import PartGenerator, draw_seed, eval_mode, global_seed, part_generator, rows_drawn

View = Callable[[nn.Module, Tensor, torch.Generator], Tensor]
"""A classifier (images in [0, 1] to logits), images `(B, C, H, W)` in [0, 1] and a CPU generator to other views of the
images, of the same shape and range: what they show must stay what it is. All randomness is the generator's; the
classifier is left as it is.
"""


def transformed(transform: Callable[[Tensor], Tensor]) -> View:
    """A random transform of torchvision as a view, drawn anew for each image.

    Args:
        transform: one image `(C, H, W)`, uint8, to another one; its randomness is torch's global one.
    """

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        count, own = rows_drawn(rng, len(images))
        views = []
        seeds = torch.randint(2**62, (count,), generator=rng)[own].tolist()
        for image, seed in zip(to_bytes(images).cpu(), seeds, strict=True):
            with global_seed(seed):
                views.append(transform(image))
        return to_float(torch.stack(views)).to(images.device).contiguous(memory_format=torch.channels_last)

    return view


def _randaugment() -> View:
    from torchvision.transforms import v2

    return transformed(v2.RandAugment())


def _jitter() -> View:
    from torchvision.transforms import v2

    return transformed(v2.ColorJitter(0.5, 0.5, 0.5, 0.5))


VIEWS = {"randaugment": _randaugment, "jitter": _jitter}
"""Makes the views of `train`, by name."""


@dataclass(frozen=True)
class UnlabelledOptions:
    """Images without labels, which are trained on beside the labelled ones.

    Args:
        unlabelled: a folder or .zip archive of images, `torchvision:NAME` or `hf:NAME`; no labels are looked for. As
            many of them as labelled ones are in each step, and the answer to a view of each is held to that to the
            image.
        view: of an unlabelled image: `randaugment`, or `jitter` (brightness, contrast, saturation, hue).
        unlabelled_weight: of that divergence beside the loss of the labelled images, at least 0.
    """

    unlabelled: str | None = None
    view: str = "randaugment"
    unlabelled_weight: float = 1.0

    def __post_init__(self) -> None:
        check_values(self, "unlabelled_weight", least=0)
        if self.view not in VIEWS:
            raise UserError(f"--view {self.view}: unknown; choose from {' '.join(VIEWS)}")

    def beside(self, labelled: Objective, images: ImageSet, flip: bool) -> tuple[Objective, dict[str, Any]]:
        """The objective of both, and the numbers that define what is new in it.

        Args:
            labelled: the objective of the labelled images.
            images: the unlabelled ones.
            flip: see `Consistency`.
        """
        made = {"view": self.view, "unlabelled_weight": self.unlabelled_weight, "unlabelled_images": len(images)}
        view = VIEWS[self.view]()
        objective = Consistency(labelled, images, view, weight=self.unlabelled_weight, threshold=None, flip=flip)
        return objective, made


class Consistency(Objective):
    """The loss of labelled images, and beside it the disagreement of a classifier with itself on images without labels.

    >>> Consistency(Nominal(), unlabelled, view)                     # FixMatch
    >>> Consistency(Nominal(), unlabelled, view, threshold=None)     # UDA

    What it says of an image is asked in eval mode, without a gradient; each view is compared with that.

    Args:
        labelled: of the labelled images.
        unlabelled: drawn from at random; their labels are not looked at.
        view: a strong view of them.
        batch: unlabelled images per step, in every process; by default as many as labelled ones, which processes share.
        weight: of the disagreement, beside the labelled loss.
        threshold: in [0, 1]; images whose most probable class is at least so probable count, with that class for a
            label, in cross-entropy averaged over all of them (FixMatch). None: all count, and the disagreement is the
            divergence of Kullback and Leibler from all probabilities (UDA).
        flip: mirror every second image at random, before it is asked about and viewed.
    """

    def __init__(
        self,
        labelled: Objective,
        unlabelled: ImageSet,
        view: View,
        *,
        batch: int | None = None,
        weight: float = 1.0,
        threshold: float | None = 0.95,
        flip: bool = True,
    ) -> None:
        if (batch is not None and batch < 2) or weight < 0 or not (threshold is None or 0 <= threshold <= 1):
            raise ValueError(f"batch {batch}, weight {weight}, threshold {threshold}: from 2, from 0, in [0, 1]")
        self.labelled, self.unlabelled, self.view = labelled, unlabelled, view
        self.batch, self.weight, self.threshold, self.flip = batch, weight, threshold, flip
        self.sees_whole_batch = labelled.sees_whole_batch

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        draws = _own_rows(batch, rng) if self.batch is None else rng
        images = self._drawn(self.batch or len(batch.labels[batch.own]), draws).to(batch.images.device)
        with torch.no_grad(), eval_mode(classifier) as (model,):
            said = model(images).float()
        view = self.view(classifier, images, draws)
        disagreement = self._disagreement(classifier(view).float(), said)
        return self.labelled(classifier, batch, rng) + self.weight * disagreement

    def _drawn(self, count: int, rng: torch.Generator) -> Tensor:
        drawn, own = rows_drawn(rng, count)
        images, _ = self.unlabelled.batch(torch.randint(len(self.unlabelled), (drawn,), generator=rng)[own])
        return flipped(images, rng) if self.flip else images

    def _disagreement(self, logits: Tensor, said: Tensor) -> Tensor:
        """Of the logits of views with those of their images, both `(B, K)`."""
        if self.threshold is None:
            return divergence(logits, said)
        certainty, label = said.softmax(dim=1).max(dim=1)
        return (F.cross_entropy(logits, label, reduction="none") * (certainty >= self.threshold)).mean()


def _own_rows(batch: Batch, rng: torch.Generator) -> PartGenerator:
    """Draws for as many images as the whole batch has, and takes those of this process."""
    count, own = rows_drawn(rng, len(batch.labels))
    if own == slice(None):
        own = slice(0, count)
    return part_generator(draw_seed(rng), count=count, own=own if batch.own == slice(None) else batch.own)
