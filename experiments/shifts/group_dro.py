"""GroupDRO: the worst group counts most."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet
from advmix.training.classify import flipped
from advmix.training.objectives import Batch, Objective


class GroupDRO(Objective):
    """`sum over groups g of q_g * CE_g(f(x), y)`, where each `q_g` grows by `exp(step * CE_g)` and all sum to one
    (Sagawa et al., "Distributionally robust neural networks for group shifts", 2020, without the adjustment for the
    sizes of the groups).

    Of the batch only the number of images counts: as in the paper, each image is one of a random group, all of them
    equally likely. `CE_g` is the mean over these; that of a group of which none was drawn is 0, as in the authors'
    code.

    `weights`, the `q`, are a state: an objective is for one training from its start, a resumed one would need them.

    Args:
        images: of the training.
        groups: `(N,)`, theirs, any integers.
        step: of the weights, at least 0.

    Attributes:
        weights: `(G,)`, sum 1, in the order of the integers.
    """

    def __init__(self, images: ImageSet, groups: Tensor, step: float = 0.01) -> None:
        self.images, self.step = images, step
        _, places, self.sizes = groups.unique(return_inverse=True, return_counts=True)
        self.members, self.starts = places.argsort(stable=True), self.sizes.cumsum(0) - self.sizes
        self.weights = torch.full((len(self.sizes),), 1 / len(self.sizes))

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """So many groups, and a member of each: places in the weights and in the training set, `(count,)` each."""
        groups = torch.randint(len(self.sizes), (count,), generator=rng)
        among = torch.rand(count, generator=rng, dtype=torch.float64) * self.sizes[groups]
        return groups, self.members[self.starts[groups] + among.long()]

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        device = batch.images.device
        groups, index = self.draw(len(batch.images), rng)
        images, labels = self.images.batch(index)
        if batch.augmented:
            images = flipped(images, rng)
        logits: Tensor = classifier(images.to(device)).float()
        losses = F.cross_entropy(logits, labels.to(device), reduction="none")
        means = torch.zeros(len(self.weights), device=device).index_add(0, groups.to(device), losses)
        means = means / groups.bincount(minlength=len(self.weights)).clamp_min(1).to(device)
        grown = self.weights.to(device) * (self.step * means.detach()).exp()
        self.weights = grown / grown.sum()
        return means @ self.weights
