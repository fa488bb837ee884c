"""Which worst-case numbers may be held against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from advmix.audit.results import WorstCaseKey
from advmix.utils.errors import UserError
from experiments.comparison import Measured, check_same, difference, strength

KEY = WorstCaseKey("generator", "pool", "search", "images")


def number(value: float = 0.5, classifier: str = "network", **other: Any) -> Measured:
    return Measured(value, classifier, replace(KEY, **other))


def test_classifiers_compare_in_the_same_circumstances() -> None:
    good, bad = number(0.9, "good"), number(0.4, "bad")
    assert difference(good, bad) == pytest.approx(0.5)


@pytest.mark.parametrize("what", ["generator", "pool", "search", "images"])
def test_numbers_of_other_circumstances_are_refused(what: str) -> None:
    other = Measured(0.5, "network", replace(KEY, **{what: "another"}))
    for refused in (lambda: difference(number(), other), lambda: check_same([number(), number(), other])):
        with pytest.raises(UserError, match=f"under different {what} .*; another"):
            refused()
    check_same([number(), other], apart_from=[what])


def test_searches_compare_on_one_classifier_only() -> None:
    assert strength(number(0.7), number(0.2, search="stronger", pool="another")) == pytest.approx(0.5)
    with pytest.raises(UserError, match="two classifiers under two searches"):
        strength(number(), number(classifier="another", search="stronger"))
    with pytest.raises(UserError, match="different generator"):
        strength(number(), number(generator="another"))
