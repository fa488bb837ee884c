"""From the measurements of `advmix study search` to what may be concluded from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich import box
from rich.table import Table

from advmix.audit.comparison import Measured, check_same, difference, strength
from advmix.report.style import method_label
from advmix.results import mean_and_spread
from advmix.studies.search.generators import OWN, REGIMES

Record = dict[str, Any]
Row = tuple[str, str]
TOGETHER = {
    "saturation": ("accuracy_worst_case", "axis", "restarts", "steps", "radius"),
    "recolouring": ("accuracy_recolor_mixed",),
    "found": ("accuracy_worst_case",),
    "transfer": ("accuracy_worst_case", "generator"),
}
"""Numbers of classifiers that stand side by side in a figure, where they are of one seed and have these in common."""


def check_figures(results: Mapping[str, Sequence[Record]]) -> None:
    """Refuse measurements of different circumstances that a figure or table would put side by side.

    Raises:
        UserError: naming two of them.
    """
    for kind, (value, *together) in TOGETHER.items():
        groups: dict[tuple[Any, ...], list[Measured]] = {}
        for record in results[kind]:
            place = tuple(record[name] for name in ("seed", *together))
            groups.setdefault(place, []).append(Measured.of(record, value))
        for numbers in groups.values():
            check_same(numbers)


def rows_of(transfer: Sequence[Record]) -> list[Row]:
    """Method and generator that it was trained with, in the order in which they come."""
    return list(dict.fromkeys((record["method"], record["trained_with"]) for record in transfer))


def columns_of(transfer: Sequence[Record]) -> list[str]:
    """Generators that are searched with, in the order in which they come."""
    return list(dict.fromkeys(record["generator"] for record in transfer))


def row_label(row: Row) -> str:
    """`AdvMix`, or `AdvMix, other seed` when trained with another generator than the cell's own."""
    method, trained_with = row
    return method_label(method) + ("" if trained_with == OWN else f", {REGIMES[trained_with].label}")


def column(transfer: Sequence[Record], regime: str, value: str = "accuracy_worst_case") -> dict[Row, list[float]]:
    """One column of the transfer matrix: the numbers of every classifier over the seeds, in the order of the seeds.

    Raises:
        UserError: numbers of one seed that were measured in different circumstances.
    """
    found: dict[Row, list[float]] = {}
    mine = [record for record in transfer if record["generator"] == regime]
    for seed in dict.fromkeys(record["seed"] for record in mine):
        numbers = [record for record in mine if record["seed"] == seed]
        check_same([Measured.of(record) for record in numbers])
        for record in numbers:
            found.setdefault((record["method"], record["trained_with"]), []).append(record[value])
    return found


def comparisons(transfer: Sequence[Record], saturation: Sequence[Record]) -> dict[str, list[Record]]:
    """Differences, seed by seed, each of two numbers that may be held against each other.

    Returns:
        `classifiers`: under each generator, AdvMix against the controls, and against AdvMix trained with that very
        generator. `searches`: on each classifier, what the strongest search of each axis takes off the weakest's.
    """
    return {"classifiers": _classifiers(transfer), "searches": _searches(saturation)}


def _classifiers(transfer: Sequence[Record]) -> list[Record]:
    found = []
    rows = rows_of(transfer)
    for regime in columns_of(transfer):
        for other in (("nominal", OWN), ("randmix", OWN), ("advmix", regime)):
            if other in rows and ("advmix", OWN) in rows and other != ("advmix", OWN):
                values = _paired(transfer, regime, ("advmix", OWN), other)
                found.append({"generator": regime, "first": ["advmix", OWN], "second": list(other), **_summary(values)})
    return found


def _paired(transfer: Sequence[Record], regime: str, first: Row, second: Row) -> list[float]:
    def numbers(row: Row) -> dict[int, Measured]:
        return {
            record["seed"]: Measured.of(record)
            for record in transfer
            if record["generator"] == regime and (record["method"], record["trained_with"]) == row
        }

    others = numbers(second)
    return [difference(number, others[seed]) for seed, number in numbers(first).items()]


def _searches(saturation: Sequence[Record]) -> list[Record]:
    found = []
    for method in dict.fromkeys(record["method"] for record in saturation):
        for axis in dict.fromkeys(record["axis"] for record in saturation):
            curves = curves_of(saturation, method, axis)
            values = [strength(Measured.of(curve[0]), Measured.of(curve[-1])) for curve in curves]
            found.append({"method": method, "axis": axis, **_summary(values)})
    return found


def reach(axis: str, record: Record) -> float:
    """How far a record's search goes along an axis: infinitely without a box."""
    value = record[axis]
    return math.inf if value is None else float(value)


def curves_of(saturation: Sequence[Record], method: str, axis: str) -> list[list[Record]]:
    """A list of records for every seed, from the weakest search to the strongest; no box is the widest box."""
    mine = [record for record in saturation if record["method"] == method and record["axis"] == axis]
    seeds = dict.fromkeys(record["seed"] for record in mine)
    return [sorted((record for record in mine if record["seed"] == seed), key=partial(reach, axis)) for seed in seeds]


def _summary(values: Sequence[float]) -> Record:
    mean, spread = mean_and_spread(values)
    return {"mean": round(mean, 6), "spread": round(spread, 6), "values": [round(value, 6) for value in values]}


def matrix_table(transfer: Sequence[Record]) -> Table:
    """Worst-case accuracy in percent, mean and standard deviation over the seeds: a row per classifier, a column per
    generator that it is searched with.

    Raises:
        UserError: numbers of one column that were measured in different circumstances.
    """
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("worst case, %\ncompare down a column only")
    for regime in columns_of(transfer):
        view.add_column(f"searched with\n{REGIMES[regime].label}", justify="right")
    columns = [column(transfer, regime) for regime in columns_of(transfer)]
    for row in rows_of(transfer):
        view.add_row(row_label(row), *(percent(found[row]) for found in columns))
    return view


def saturation_table(saturation: Sequence[Record], axis: str) -> Table:
    """Worst-case accuracy in percent, mean and standard deviation over the seeds: a row per classifier, a column per
    search; along a row one classifier meets ever stronger searches.
    """
    methods = list(dict.fromkeys(record["method"] for record in saturation))
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column(f"worst case, %\n{axis}")
    for record in curves_of(saturation, methods[0], axis)[0]:
        view.add_column("none" if record[axis] is None else f"{record[axis]:g}", justify="right")
    for method in methods:
        curves = curves_of(saturation, method, axis)
        columns = zip(*curves, strict=True)
        view.add_row(
            method_label(method), *(percent([record["accuracy_worst_case"] for record in group]) for group in columns)
        )
    return view


def percent(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds of fractions, as `97.4±0.3`."""
    mean, spread = mean_and_spread([100 * value for value in values])
    return f"{mean:.1f}" + (f"±{spread:.1f}" if len(values) > 1 else "")
