"""Consistency: of a strong view of an image a classifier should say what it says of the image. That needs no label.

Sohn et al., "FixMatch: simplifying semi-supervised learning with consistency and confidence" (2020); Xie et al.,
"Unsupervised data augmentation for consistency training" (2020).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet
from advmix.training.classify import flipped
from advmix.training.objectives import Batch, Objective, divergence
from advmix.utils.torch_tools import eval_mode

View = Callable[[nn.Module, Tensor, torch.Generator], Tensor]
"""A classifier (images in [0, 1] to logits), images `(B, C, H, W)` in [0, 1] and a CPU generator to other views of the
images, of the same shape and range: what they show must stay what it is. All randomness is the generator's; the
classifier is left as it is.
"""


class Consistency(Objective):
    """The loss of labelled images, and beside it the disagreement of a classifier with itself on images without labels.

    >>> Consistency(Nominal(), unlabelled, view)                     # FixMatch
    >>> Consistency(Nominal(), unlabelled, view, threshold=None)     # UDA

    What it says of an image is asked in eval mode, without a gradient; each view is compared with that.

    Args:
        labelled: of the labelled images.
        unlabelled: drawn from at random; their labels are not looked at.
        view: a strong view of them.
        batch: unlabelled images per step.
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
        batch: int = 64,
        weight: float = 1.0,
        threshold: float | None = 0.95,
        flip: bool = True,
    ) -> None:
        if batch < 2 or weight < 0 or not (threshold is None or 0 <= threshold <= 1):
            raise ValueError(f"batch {batch}, weight {weight}, threshold {threshold}: from 2, from 0, in [0, 1]")
        self.labelled, self.unlabelled, self.view = labelled, unlabelled, view
        self.batch, self.weight, self.threshold, self.flip = batch, weight, threshold, flip

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        images = self._drawn(rng).to(batch.images.device)
        with torch.no_grad(), eval_mode(classifier) as (model,):
            said = model(images).float()
        view = self.view(classifier, images, rng)
        disagreement = self._disagreement(classifier(view).float(), said)
        return self.labelled(classifier, batch, rng) + self.weight * disagreement

    def _drawn(self, rng: torch.Generator) -> Tensor:
        images, _ = self.unlabelled.batch(torch.randint(len(self.unlabelled), (self.batch,), generator=rng))
        return flipped(images, rng) if self.flip else images

    def _disagreement(self, logits: Tensor, said: Tensor) -> Tensor:
        """Of the logits of views with those of their images, both `(B, K)`."""
        if self.threshold is None:
            return divergence(logits, said)
        certainty, label = said.softmax(dim=1).max(dim=1)
        return (F.cross_entropy(logits, label, reduction="none") * (certainty >= self.threshold)).mean()
