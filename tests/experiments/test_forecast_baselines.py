"""Forecasts from probabilities alone: against loops, and where the truth is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from experiments.shifts.forecast_baselines import (
    Score,
    agreement,
    highest_probability,
    mean_confidence,
    negative_entropy,
    thresholded_confidence,
)

SCORES = pytest.mark.parametrize("score", [negative_entropy, highest_probability])


def drawn(count: int, seed: int, sharpness: float = 2.0) -> tuple[Tensor, Tensor]:
    """Calibrated probabilities and labels that follow them."""
    rng = torch.Generator().manual_seed(seed)
    probabilities = (sharpness * torch.randn(count, 4, generator=rng, dtype=torch.float64)).softmax(dim=1)
    return probabilities, probabilities.multinomial(1, generator=rng)[:, 0]


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    return (probabilities.argmax(dim=1) == labels).double().mean().item()


def test_scores() -> None:
    rows = drawn(9, 0)[0]
    rows[0] = torch.tensor([1.0, 0, 0, 0])
    entropies = [-sum(p * math.log(p) for p in row if p) for row in rows.tolist()]
    assert negative_entropy(rows).tolist() == pytest.approx([-entropy for entropy in entropies])
    assert highest_probability(rows).tolist() == [max(row) for row in rows.tolist()]


def test_mean_confidence_of_a_calibrated_classifier_is_its_accuracy() -> None:
    rows, labels = drawn(4000, 1)
    assert mean_confidence(rows) == pytest.approx(sum(max(row) for row in rows.tolist()) / 4000)
    assert mean_confidence(rows) == pytest.approx(accuracy(rows, labels), abs=0.02)


def literal_threshold(scores: list[float], right: list[bool]) -> float:
    """The authors' way: from the lowest score up, until as many wrong ones are above it as right ones are below."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    wrong_above, right_below, best, threshold = right.count(False), 0, right.count(False), scores[order[0]]
    for place, row in enumerate(order[:-1]):
        wrong_above -= not right[row]
        right_below += right[row]
        if abs(wrong_above - right_below) < best:
            best, threshold = abs(wrong_above - right_below), scores[order[place + 1]]
    return threshold


@SCORES
@pytest.mark.parametrize("seed", range(5))
def test_threshold_is_the_papers(score: Score, seed: int) -> None:
    (home, labels), (target, _) = drawn(61, seed), drawn(200, 100 + seed, sharpness=1)
    right = (home.argmax(dim=1) == labels).tolist()
    threshold = literal_threshold(score(home).tolist(), right)
    expected = sum(one >= threshold for one in score(target).tolist()) / 200
    assert thresholded_confidence(home, labels, target, score) == pytest.approx(expected)
    assert thresholded_confidence(home, labels, home, score) == pytest.approx(sum(right) / 61)


@SCORES
def test_a_harder_target_has_a_lower_forecast(score: Score) -> None:
    (home, labels), (hard, _) = drawn(3000, 0, sharpness=3), drawn(3000, 1, sharpness=1)
    assert thresholded_confidence(home, labels, hard, score) < accuracy(home, labels) - 0.1


def test_extremes_and_equal_scores() -> None:
    rows = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    labels = torch.tensor([0, 1, 2, 0])
    assert thresholded_confidence(rows, labels, rows) == 1
    assert thresholded_confidence(rows, (labels + 1) % 3, rows) == 0
    assert thresholded_confidence(rows, torch.tensor([0, 1, 0, 1]), rows) in (0, 1)


def test_agreement_is_of_answers() -> None:
    (one, _), (other, _) = drawn(50, 0), drawn(50, 1)
    same = [a.index(max(a)) == b.index(max(b)) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    assert agreement(one, other) == pytest.approx(sum(same) / 50)
    assert agreement(one, one) == 1


@pytest.mark.parametrize("wrong", [torch.nan, -0.1, 2.0])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    rows, labels = drawn(5, 0)
    broken = rows.clone()
    broken[3, 1] = wrong
    with pytest.raises(ValueError, match="row 3 is not of probabilities"):
        mean_confidence(broken)
    with pytest.raises(ValueError, match="row 3 is not of probabilities"):
        thresholded_confidence(broken, labels, rows)
    with pytest.raises(ValueError, match="row 3 is not of probabilities"):
        thresholded_confidence(rows, labels, broken)
    with pytest.raises(ValueError, match="row 3 is not of probabilities"):
        agreement(rows, broken)
    with pytest.raises(ValueError, match=r"\(N, K\) of one image or more"):
        mean_confidence(rows[:0])
    with pytest.raises(ValueError, match="of the same images"):
        agreement(rows, rows[:4])
