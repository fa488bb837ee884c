"""Which worst-case numbers may be held against each other: those of one generator, one pool, one search, the same
images.

A worst case is the worst that *one* search found, in the pictures of *one* generator. Two numbers of different searches
differ because the searches do, whatever the classifiers are worth; so a number carries its circumstances with it, and
what is computed from several asks for them first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from advmix.audit.results import WorstCaseKey
from advmix.utils.errors import UserError


@dataclass(frozen=True)
class Measured:
    """A number with what it was measured on.

    Attributes:
        value: an accuracy in [0, 1].
        classifier: fingerprint of the classifier.
        key: the circumstances.
        name: how the number is called when it is refused.
    """

    value: float
    classifier: str
    key: WorstCaseKey
    name: str = "a number"

    @classmethod
    def of(cls, record: dict[str, Any], value: str = "accuracy_worst_case") -> Measured:
        """From an entry of `results.json` that has `classifier`, `key` and the number under `value`."""
        name = " ".join(str(record[part]) for part in ("method", "trained_with", "generator") if part in record)
        return cls(record[value], record["classifier"], WorstCaseKey(**record["key"]), f"{name} seed {record['seed']}")


def check_same(numbers: Sequence[Measured], apart_from: Iterable[str] = ()) -> None:
    """Refuse numbers that were not measured in the same circumstances.

    Args:
        numbers: any number of them.
        apart_from: names of circumstances that may differ.

    Raises:
        UserError: naming two numbers, and in what they differ.
    """
    for number in numbers[1:]:
        for field in fields(WorstCaseKey):
            first, second = getattr(numbers[0].key, field.name), getattr(number.key, field.name)
            if field.name not in apart_from and first != second:
                raise UserError(
                    f"{numbers[0].name} and {number.name}: worst cases under different {field.name} ({first}; "
                    f"{second}); they compare only under one generator, pool, search and set of images"
                )


def difference(first: Measured, second: Measured) -> float:
    """`first - second` of two classifiers in the same circumstances.

    Raises:
        UserError: other circumstances.
    """
    check_same([first, second])
    return first.value - second.value


def strength(weak: Measured, strong: Measured) -> float:
    """What a stronger search takes off the accuracy of *one* classifier, on the same images under the same generator.

    Raises:
        UserError: two classifiers, generators or sets of images.
    """
    if weak.classifier != strong.classifier:
        raise UserError(
            f"{weak.name} and {strong.name}: two classifiers under two searches; hold searches against each other on "
            "one classifier, classifiers under one search"
        )
    check_same([weak, strong], apart_from=("pool", "search"))
    return weak.value - strong.value
