"""Forecasts of an accuracy on unlabelled images, from the probabilities of a classifier alone.

Probabilities are `(N, K)`, each row summing to one: those at home of validation images with labels `(N,)`, those of the
target without. A forecast is a share of right answers, in [0, 1]; an answer is the most probable class. Give them in
float64 (`torch_tools.probabilities`): in float32 many are exactly 1.

Every function raises a ValueError where rows are no probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Probabilities `(N, K)` to how sure each answer is, `(N,)`: the higher, the surer."""


def highest_probability(probabilities: Tensor) -> Tensor:
    """Of each row: `(N,)`."""
    return probabilities.amax(dim=1)


def negative_entropy(probabilities: Tensor) -> Tensor:
    """Of each row, in nats: `(N,)`, at most 0."""
    entropies: Tensor = torch.special.entr(probabilities)
    return -entropies.sum(dim=1)


def mean_confidence(target: Tensor) -> float:
    """The mean of the highest probabilities (Guillory et al., "Predicting with confidence on unseen distributions",
    2021).
    """
    return _mean(highest_probability(_checked(target)))


def thresholded_confidence(home: Tensor, labels: Tensor, target: Tensor, score: Score = negative_entropy) -> float:
    """The share of the target that is as sure as a threshold, or surer (Garg et al., "Leveraging unlabeled data to
    predict out-of-distribution performance", 2022). At home, that share is the accuracy, or as near as equal scores
    allow.

    The paper's variants are `negative_entropy`, which it prefers, and `highest_probability`.
    """
    return _mean(score(_checked(target)) >= _threshold(score(_checked(home)), _mean(home.argmax(dim=1) == labels)))


def _threshold(scores: Tensor, share: float) -> float:
    """The score that so large a share of the scores reaches; infinity where that is none."""
    values, counts = scores.unique(return_counts=True)
    reached = counts.flip(0).cumsum(0).flip(0) / len(scores)
    values, reached = torch.cat([values, values.new_tensor([torch.inf])]), torch.cat([reached, reached.new_zeros(1)])
    return values[(reached - share).abs().argmin()].item()


def agreement(target: Tensor, other: Tensor) -> float:
    """The share of the same answers of two classifiers that differ in their seed: how often each of them is right, in
    the mean (Jiang et al., "Assessing generalization of SGD via disagreement", 2022, where it may be the order of the
    images alone that differs).
    """
    if target.shape != other.shape:
        raise ValueError(f"probabilities {tuple(target.shape)} and {tuple(other.shape)}: of the same images are wanted")
    return _mean(_checked(target).argmax(dim=1) == _checked(other).argmax(dim=1))


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


def _checked(probabilities: Tensor) -> Tensor:
    if probabilities.ndim != 2 or not len(probabilities):
        raise ValueError(f"probabilities {tuple(probabilities.shape)}: (N, K) of one image or more are wanted")
    wrong = ~((probabilities.sum(dim=1) - 1).abs() < 1e-3) | (probabilities < 0).any(dim=1)
    if wrong.any():
        raise ValueError(f"row {int(wrong.nonzero()[0, 0])} is not of probabilities: they sum to one")
    return probabilities
