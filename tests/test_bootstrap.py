from __future__ import annotations

import pytest
import torch

from advmix.intervals import GroupBootstrap
from advmix.utils.torch_tools import generator as seeded

PERSONS = torch.tensor([7, 7, 3, 9, 9, 9, 3, 1])
VALUES = torch.tensor([1.0, 0, 0, 1, 1, 0, 1, 0], dtype=torch.float64)


def test_means_equal_putting_the_persons_together_one_by_one() -> None:
    boot = GroupBootstrap.draw(PERSONS, 50, seeded(0))
    persons = PERSONS.unique().tolist()
    chosen = torch.randint(4, (50, 4), generator=seeded(0))
    expected = []
    for row in chosen.tolist():
        images = [value for place in row for value, who in zip(VALUES, PERSONS, strict=True) if who == persons[place]]
        expected.append(torch.stack(images).mean())
    torch.testing.assert_close(boot.means(VALUES), torch.stack(expected))


def test_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = torch.rand(2000, generator=seeded(1), dtype=torch.float64)
    found = GroupBootstrap.draw(torch.arange(2000), 2000, seeded(0)).interval(values)
    error = values.std() / 2000**0.5
    assert found.value == pytest.approx(float(values.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 * float(error), rel=0.1)


def test_pictures_of_one_person_count_as_one() -> None:
    """Ten copies of every image tell nothing new: the interval stays as wide."""
    values = torch.rand(100, generator=seeded(1), dtype=torch.float64)
    once = GroupBootstrap.draw(torch.arange(100), 2000, seeded(0)).interval(values)
    copies = GroupBootstrap.draw(torch.arange(100).repeat(10), 2000, seeded(0)).interval(values.repeat(10))
    assert (copies.low, copies.high) == pytest.approx((once.low, once.high))


def test_paired_difference_is_narrower_than_the_two_alone() -> None:
    hard = torch.rand(500, generator=seeded(1)) < 0.2
    wrong, better = hard.double(), (hard & (torch.rand(500, generator=seeded(2)) < 0.8)).double()
    boot = GroupBootstrap.draw(torch.arange(500), 2000, seeded(0))
    change = boot.interval(better, wrong, statistic=lambda a, b: a / b - 1)
    assert change.value == pytest.approx(float(better.sum() / wrong.sum()) - 1)
    assert change.low < change.value < change.high < 0
    assert boot.interval(wrong, wrong, statistic=lambda a, b: a / b - 1).high == 0


def test_a_wider_level_is_a_wider_interval() -> None:
    boot = GroupBootstrap.draw(PERSONS, 500, seeded(0))
    narrow, wide = boot.interval(VALUES, level=0.5), boot.interval(VALUES, level=0.95)
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high
    assert wide.low < narrow.low
