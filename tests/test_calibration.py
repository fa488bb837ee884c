"""Scores of probabilities: against loops over the images, by hand, and where they must be known or unknown."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_curve
from torch import Tensor

from advmix.calibration import (
    brier_score,
    calibration_error,
    chance_error,
    score_probabilities,
    sensitivity_at_specificity,
)
from advmix.utils.torch_tools import generator


def drawn(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities, with ties, and labels that follow them."""
    rng = generator(seed, "tests", "calibration")
    logits = (2 * torch.randn(count, classes, generator=rng, dtype=torch.float64)).round()
    probabilities = logits.softmax(dim=1)
    return probabilities, torch.multinomial(probabilities, 1, generator=rng)[:, 0]


def every(count: int) -> Tensor:
    return torch.ones(1, count, dtype=torch.float64)


def literal_brier(probabilities: list[list[float]], labels: list[int]) -> float:
    total = 0.0
    for row, label in zip(probabilities, labels, strict=True):
        for place, probability in enumerate(row):
            total += (probability - (place == label)) ** 2
    return total / len(labels)


def literal_error(probabilities: list[list[float]], labels: list[int], bins: int) -> float:
    """Formula (3) of Guo et al.: the sum over the bins of |B| / n |acc(B) - conf(B)|."""
    total = 0.0
    for place in range(bins):
        inside = [
            (max(row), row.index(max(row)) == label)
            for row, label in zip(probabilities, labels, strict=True)
            if place / bins < max(row) <= (place + 1) / bins
        ]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(sure for sure, _ in inside) / len(inside)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


def literal_sensitivity(scores: list[float], labels: list[int], specificity: float) -> float:
    best = 0.0
    for threshold in [*scores, math.inf]:
        negatives = [score for score, label in zip(scores, labels, strict=True) if label == 0]
        positives = [score for score, label in zip(scores, labels, strict=True) if label == 1]
        if sum(score < threshold for score in negatives) >= specificity * len(negatives) - 1e-9:
            best = max(best, sum(score >= threshold for score in positives) / len(positives))
    return best


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_are_those_of_the_loops(classes: int) -> None:
    probabilities, labels = drawn(70, classes)
    plain = probabilities.tolist(), labels.tolist()
    assert float(brier_score(probabilities, labels, every(70))) == pytest.approx(literal_brier(*plain))
    for bins in (1, 4, 15):
        found = calibration_error(probabilities, labels, every(70), bins)
        assert float(found) == pytest.approx(literal_error(*plain, bins))


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.9, 1.0])
def test_sensitivity_is_that_of_the_loop_and_of_the_curve(specificity: float) -> None:
    probabilities, labels = drawn(90, 2)
    found = float(sensitivity_at_specificity(probabilities, labels, every(90), specificity))
    assert found == pytest.approx(literal_sensitivity(probabilities[:, 1].tolist(), labels.tolist(), specificity))
    false, true, _ = roc_curve(labels, probabilities[:, 1], drop_intermediate=False)
    assert found == pytest.approx(true[false <= 1 - specificity + 1e-9].max())


def test_a_weight_counts_an_image_as_often() -> None:
    """What a resample is: the same images, some of them twice, others not at all."""
    probabilities, labels = drawn(40, 2)
    chosen = torch.randint(40, (40,), generator=generator(1, "tests", "resample"))
    weights = chosen.bincount(minlength=40).double()[None]
    for score in (brier_score, calibration_error, sensitivity_at_specificity):
        expected = score(probabilities[chosen], labels[chosen], every(40))
        assert torch.allclose(score(probabilities, labels, weights), expected)


def test_scores_known_by_hand() -> None:
    sure, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    assert float(brier_score(sure, labels, every(2))) == 1.0  # 0 for the first, 2 for the second
    assert float(calibration_error(sure, labels, every(2))) == 0.5
    even = torch.full((3, 4), 0.25)
    assert float(brier_score(even, torch.tensor([0, 1, 2]), every(3))) == pytest.approx(1 - 1 / 4)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.7, 0.1])
    both = torch.stack([1 - scores, scores], dim=1)
    found = sensitivity_at_specificity(both, torch.tensor([1, 0, 1, 0, 1]), every(5), 0.5)
    assert float(found) == pytest.approx(1 / 3)  # at 0.7 both others are taken for it


def test_intervals_hold_the_truth_of_probabilities_that_are_right() -> None:
    """Most of the time, of many draws."""
    truth = float(brier_score(*drawn(20_000, 3, seed=9), every(20_000)))
    held = chance = 0
    for seed in range(40):
        found = score_probabilities(*drawn(200, 3, seed=seed), resamples=200)
        brier, error, expected = found["brier"], found["calibration_error"], found["calibration_error_chance"]
        assert brier is not None
        assert error is not None
        assert expected is not None
        held += brier.low <= truth <= brier.high
        chance += expected.low <= error.value <= expected.high
        assert error.low <= error.value
    assert held >= 33
    assert chance >= 33


def test_images_of_one_person_make_wider_intervals() -> None:
    probabilities, labels = drawn(50, 2)
    alone = score_probabilities(probabilities, labels)["brier"]
    several, person = (probabilities.repeat(8, 1), labels.repeat(8)), torch.arange(50).repeat(8)
    apart, together = score_probabilities(*several)["brier"], score_probabilities(*several, units=person)["brier"]
    assert alone is not None
    assert apart is not None
    assert together is not None
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.2)
    assert apart.high - apart.low < 0.6 * (together.high - together.low)


def test_what_cannot_be_known_is_none() -> None:
    probabilities, labels = drawn(30, 2)
    assert score_probabilities(probabilities, torch.ones_like(labels))["sensitivity_at_specificity"] is None
    assert "sensitivity_at_specificity" not in score_probabilities(*drawn(30, 3))
    assert set(score_probabilities(probabilities[:0], labels[:0]).values()) == {None}
    silent = probabilities.clone()
    silent[:10] = torch.nan
    assert score_probabilities(silent, labels) == score_probabilities(probabilities[10:], labels[10:])


def test_chance_shrinks_with_the_number_of_images() -> None:
    few, many = (float(chance_error(drawn(count, 3)[0], 50, generator(0)).mean()) for count in (50, 5000))
    assert few > 5 * many


def test_a_sensitivity_of_all_of_few_may_be_less() -> None:
    """All resamples of right answers are alike; Wilson's interval of ten is not that narrow."""
    labels = torch.arange(20) % 2
    probabilities = torch.stack([1 - labels, labels], dim=1).double()
    found = score_probabilities(probabilities, labels)["sensitivity_at_specificity"]
    assert found is not None
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.722, abs=1e-3)
