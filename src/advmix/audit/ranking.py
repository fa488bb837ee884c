"""How well a score ranks, whatever the threshold: what is left to ask where a shift has moved all scores."""

from __future__ import annotations

import torch
from torch import Tensor

from advmix.audit.bootstrap import GroupBootstrap, Interval


def roc_auc(scores: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Area under the ROC curve: how often a positive scores higher than a negative, a tie counting half.

    Args:
        scores: `(N,)`.
        positive: `(N,)` booleans.
        weights: `(R, N)`, how often each image counts.

    Returns:
        `(R,)` in [0, 1]; nan where one of the two kinds has no weight.
    """
    values, rank = scores.unique(return_inverse=True)
    mass = [
        torch.zeros(len(weights), len(values), dtype=torch.float64).index_add_(1, rank, weights.double() * which)
        for which in (positive, ~positive)
    ]
    higher, lower = mass
    below = lower.cumsum(dim=1) - lower / 2
    return (higher * below).sum(dim=1) / (higher.sum(dim=1) * lower.sum(dim=1))


def auc_interval(scores: Tensor, positive: Tensor, boot: GroupBootstrap) -> Interval:
    """The area with its 95 % bootstrap interval; resamples without one of the two kinds do not count."""
    value = float(roc_auc(scores, positive, torch.ones(1, len(scores))))
    found = roc_auc(scores, positive, boot.weights[:, boot.groups])
    low, high = found.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)
