"""How far a classifier's probabilities can be believed: Brier score, calibration error, sensitivity at a fixed
specificity; each a function of how often every image counts, so that estimate and bootstrap are one code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

import torch
from torch import Tensor

from advmix.data.images import slices
from advmix.intervals import GroupBootstrap, Interval, wilson
from advmix.utils.torch_tools import generator

CONFIDENCE_BINS = 15
"""Of equal width, as in Guo et al. (2017)."""

SPECIFICITY = 0.9

RESAMPLES = 1000

CHUNK_WEIGHTS = 2_000_000
"""Weights of resamples that are held in memory at once."""


def brier_score(probabilities: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Brier score (Brier, "Verification of forecasts expressed in terms of probability", 1950): the squared distance of
    the probabilities to the truth, summed over the classes, mean over the images. As Brier has it and not halved: 0 is
    perfect, 2 is sure and wrong, and chance among C classes is 1 - 1/C.

    Args:
        probabilities: `(N, C)`, rows that add up to 1.
        labels: `(N,)`, class indices.
        weights: `(R, N)`, how often each image counts.

    Returns:
        `(R,)` in [0, 2]; NaN where no image counts.
    """
    truth = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return _mean((probabilities.double() - truth).square().sum(dim=1), weights)


def calibration_error(probabilities: Tensor, labels: Tensor, weights: Tensor, bins: int = CONFIDENCE_BINS) -> Tensor:
    """Expected calibration error (Guo et al., "On calibration of modern neural networks", 2017): images in bins of
    equal width by the probability of the answer; the distance of accuracy to mean probability in each bin, mean over
    the images. It is no less than 0 by chance alone, and so is too large for few images.

    Args:
        probabilities: `(N, C)`, rows that add up to 1.
        labels: `(N,)`, class indices.
        weights: `(R, N)`, how often each image counts.
        bins: how many; of probabilities in (0, 1/bins], (1/bins, 2/bins] and so on.

    Returns:
        `(R,)` in [0, 1]; NaN where no image counts.
    """
    confidence, answer = probabilities.double().max(dim=1)
    surplus = (answer == labels).double() - confidence
    by_bin = surplus[:, None] * _one_hot_bins(confidence, bins)
    return (weights @ by_bin).abs().sum(dim=1) / weights.sum(dim=1)


def _one_hot_bins(confidence: Tensor, bins: int) -> Tensor:
    """`(N,)` to `(N, bins)`."""
    place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    return torch.nn.functional.one_hot(place, bins).double()


def sensitivity_at_specificity(
    probabilities: Tensor, labels: Tensor, weights: Tensor, specificity: float = SPECIFICITY
) -> Tensor:
    """The share of the images of class 1 that are found (probability of class 1 at or above a threshold) at the lowest
    threshold where at least so large a share of the images of class 0 stays below it.

    Args:
        probabilities: `(N, 2)`.
        labels: `(N,)`, 0 or 1, the positive class.
        weights: `(R, N)`, how often each image counts; every row has a threshold of its own.
        specificity: in [0, 1].

    Returns:
        `(R,)` in [0, 1]; NaN where one of the classes does not count.
    """
    score, order = probabilities[:, 1].double().sort(descending=True)
    positive = (labels[order] == 1).double()
    ordered = weights[:, order]
    found, false = (ordered * positive).cumsum(dim=1), (ordered * (1 - positive)).cumsum(dim=1)
    last = torch.cat([score[1:] != score[:-1], torch.ones(1, dtype=torch.bool)])
    allowed = last & (false <= (1 - specificity) * false[:, -1:] + 1e-9)
    most = torch.where(allowed, found, 0.0).amax(dim=1) / found[:, -1]
    return torch.where(false[:, -1] > 0, most, torch.nan)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (weights @ values) / weights.sum(dim=1)


def chance_error(probabilities: Tensor, resamples: int, rng: torch.Generator) -> Tensor:
    """Calibration errors of a classifier whose probabilities are right, on as many images with the same probabilities:
    what the error of few images owes to their number (Bröcker and Smith, "Increasing the reliability of reliability
    diagrams", 2007).

    Args:
        probabilities: `(N, C)`, rows that add up to 1.
        resamples: how many times, R.
        rng: on the CPU.

    Returns:
        `(R,)` in [0, 1].
    """
    confidence = probabilities.double().max(dim=1).values
    right = torch.rand(resamples, len(confidence), dtype=torch.float64, generator=rng) < confidence
    surplus = right.double() - confidence
    return (surplus @ _one_hot_bins(confidence, CONFIDENCE_BINS)).abs().sum(dim=1) / len(confidence)


Score = Callable[[Tensor, Tensor, Tensor], Tensor]

SCORES: dict[str, Score] = {
    "brier": brier_score,
    "calibration_error": calibration_error,
    "sensitivity_at_specificity": sensitivity_at_specificity,
}
"""By the key in `results.json`; the last one of two classes alone."""


def score_probabilities(
    probabilities: Tensor, labels: Tensor, units: Tensor | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval | None]:
    """Every score with its 95 % bootstrap interval, and `calibration_error_chance`, what the calibration error would be
    if the probabilities were right; None where it is not known: of no images, of a class without any.

    Images without an answer (probabilities that are not numbers) do not count. The interval of the calibration error is
    the basic one, which takes away what resampling adds to it (Davison and Hinkley, 1997, section 5.2); the others are
    percentiles, and that of the sensitivity is at least as wide as Wilson's.

    Args:
        probabilities: `(N, C)`, rows that add up to 1.
        labels: `(N,)`, class indices.
        units: `(N,)`, the same for images that are resampled together, such as those of one person; default each
            image by itself.
        resamples: how many.
        seed: fixes them.
    """
    known = probabilities.isfinite().all(dim=1)
    probabilities, labels = probabilities[known], labels[known]
    units = torch.arange(len(labels)) if units is None else units[known]
    names = [name for name in SCORES if probabilities.shape[1] == 2 or name != "sensitivity_at_specificity"]
    if not len(labels):
        return dict.fromkeys((*names, CHANCE))
    rng = generator(seed, "calibration")
    drawn = _resampled(names, probabilities, labels, units, resamples, rng)
    every = torch.ones(1, len(labels), dtype=torch.float64)
    found = {name: _percentiles(float(SCORES[name](probabilities, labels, every)), drawn[name]) for name in names}
    chance, sensitivity = drawn[CHANCE], found.get("sensitivity_at_specificity")
    if sensitivity is not None:
        found["sensitivity_at_specificity"] = _widened(sensitivity, int((labels == 1).sum()))
    return found | {
        "calibration_error": _basic(found["calibration_error"]),
        CHANCE: _percentiles(float(chance.mean()), chance),
    }


def _widened(share: Interval, count: int) -> Interval:
    """At least as wide as Wilson's of so many images: resamples of all or none are all alike."""
    least = wilson(share.value * count, count)
    return Interval(share.value, min(share.low, least.low), max(share.high, least.high))


CHANCE = "calibration_error_chance"


def _resampled(
    names: Sequence[str], probabilities: Tensor, labels: Tensor, units: Tensor, resamples: int, rng: torch.Generator
) -> dict[str, Tensor]:
    """Scores of every resample, `(R,)` each, some resamples at a time."""
    drawn: dict[str, list[Tensor]] = {name: [] for name in (*names, CHANCE)}
    for part in slices(resamples, max(1, CHUNK_WEIGHTS // len(labels))):
        boot = GroupBootstrap.draw(units, part.stop - part.start, rng)
        weights = boot.weights[:, boot.groups]
        for name in names:
            drawn[name].append(SCORES[name](probabilities, labels, weights))
        drawn[CHANCE].append(chance_error(probabilities, len(weights), rng))
    return {name: torch.cat(parts) for name, parts in drawn.items()}


def _percentiles(value: float, drawn: Tensor) -> Interval | None:
    asked = drawn[~drawn.isnan()]
    if isnan(value) or not len(asked):
        return None
    low, high = asked.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)


def _basic(found: Interval | None) -> Interval | None:
    """Percentiles turned around the value."""
    if found is None:
        return None
    return Interval(found.value, max(0.0, 2 * found.value - found.high), max(0.0, 2 * found.value - found.low))
