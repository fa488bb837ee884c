"""From the measurements of `python -m experiments search` to what may be concluded from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from advmix.data.digits import MIN_BRIGHTNESS
from advmix.report.drawing import MUTED, method_color, method_label
from advmix.report.page import save_figures
from advmix.report.tables import Score, mean_and_spread, score
from advmix.utils.files import read_tensors
from advmix.utils.progress import console
from experiments.comparison import Measured, check_same, difference, strength
from experiments.controls import NEEDS_LATENTS
from experiments.search.figures import (
    Matrix,
    Panel,
    Steps,
    Strip,
    Sweep,
    Worst,
    bar_panels,
    saturation_chart,
    steps_figure,
    strips,
    transfer_matrix,
    worst_figure,
)
from experiments.search.generators import OWN, REGIMES
from experiments.search.grid import FOUND, TRACE, Point

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


AXES = {"steps": "gradient steps", "restarts": "restarts", "radius": "half-width of the box, pool's std"}


def show(results: Mapping[str, Any]) -> None:
    """Print the tables."""
    for axis in AXES:
        console.print(saturation_table(results["saturation"], axis))
    console.print(matrix_table(results["transfer"]))


def draw(folder: Path, results: Mapping[str, Any], points: Sequence[Point], classes: tuple[str, ...]) -> None:
    """Write the figures into `folder`."""
    reference = method_label(results["config"]["reference"])
    figures = {
        "saturation": _saturation(results),
        "recolouring": _recoloring(results),
        "leaves": _leaves(results, reference),
        "found": _found([point for point in points if point.kind == "found"], results, classes, reference),
        "transfer": transfer_matrix(_matrix(results["transfer"])),
    }
    for point in points:
        if point.kind == "trace":
            steps = _steps(point, classes)
            figures[f"steps-{steps.method}"] = steps_figure(steps)
    save_figures(figures, folder)


def _score(values: Sequence[float]) -> Score:
    found = score(values)
    assert found is not None
    return found


def _methods(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["method"] for record in records))


def _saturation(results: Mapping[str, Any]) -> Figure:
    sweeps = [
        [_sweep(results["saturation"], axis, results["search"], value) for axis in AXES]
        for value in ("accuracy_worst_case", "loss")
    ]
    return saturation_chart(*sweeps)


def _sweep(saturation: Sequence[Record], axis: str, search: Mapping[str, Any], value: str) -> Sweep:
    curves = {}
    for method in _methods(saturation):
        seeds = curves_of(saturation, method, axis)
        curves[method] = [_score([record[value] for record in records]) for records in zip(*seeds, strict=True)]
    values = [record[axis] for record in seeds[0]]
    names = ["none" if number is None else f"{number:g}" for number in values]
    return Sweep(AXES[axis], names, values.index(search[axis]) if search[axis] in values else None, curves)


def _recoloring(results: Mapping[str, Any]) -> Figure:
    """From the exact worst case to the searched one, a panel each."""
    records, search = results["recolouring"], results["search"]
    panels = [
        ("accuracy_shuffled", "Test images", "shuffled looks"),
        ("accuracy_recolor_worst", "Real digit", "in every colour\nof the grid: exact"),
        ("accuracy_reconstruction", "Reconstruction", "of the test image"),
        ("accuracy_recolor_decoded", "Decoded", "every recolouring,\nencoded and decoded"),
        ("accuracy_recolor_mixed", "Mixed", "own z∥ with the z⊥\nof every recolouring"),
    ]
    found = [Panel(title, hint, _by_method(records, key)) for key, title, hint in panels]
    restarts, searched = search["restarts"], results["found"]
    found += [
        Panel("Random", f"{restarts} random mixes,\nno gradient", _by_method(searched, "accuracy_random_mixes")),
        Panel(
            "Searched", f"{restarts} restarts,\n{search['steps']} steps", _by_method(searched, "accuracy_worst_case")
        ),
    ]
    return bar_panels(found, _note(results))


def _note(results: Mapping[str, Any]) -> str:
    count = len(results["config"]["seeds"])
    several = f", mean over {count} seeds; black line: lowest to highest seed" if count > 1 else ""
    return f"Right on all of them, percent of the images{several}"


def _by_method(records: Sequence[Record], key: str) -> dict[str, Score]:
    return {
        method: _score([record[key] for record in records if record["method"] == method])
        for method in _methods(records)
    }


def _leaves(results: Mapping[str, Any], reference: str) -> Figure:
    """Populations, then worst mixes: means over the seeds."""
    sets = [
        _strip(name[0].upper() + name[1:], MUTED, [r for r in results["populations"] if r["population"] == name])
        for name in dict.fromkeys(record["population"] for record in results["populations"])
    ]
    sets += [
        _strip(f"Worst, {method_label(name)}", method_color(name), [r for r in results["found"] if r["method"] == name])
        for name in _methods(results["found"])
    ]
    return strips(sets, MIN_BRIGHTNESS, reference)


def _strip(name: str, color: str, records: Sequence[Record]) -> Strip:
    def mean(key: str) -> list[float]:
        return [statistics.mean(values) for values in zip(*(record[key] for record in records), strict=True)]

    read = statistics.mean(record["accuracy_reference"] for record in records)
    return Strip(name, color, mean("contrast"), mean("unexplained"), read)


def _found(points: Sequence[Point], results: Mapping[str, Any], classes: tuple[str, ...], reference: str) -> Figure:
    """The first seed's first images."""
    methods = results["config"]["methods"]
    tensors = [read_tensors(point.pictures, FOUND)[0] for point in points[: len(methods)]]
    rows = [
        Worst(method, found["variations"], found["predictions"], found["reference"])
        for method, found in zip(methods, tensors, strict=True)
    ]
    return worst_figure(tensors[0]["originals"], tensors[0]["labels"].tolist(), classes, rows, reference)


def _steps(point: Point, classes: tuple[str, ...]) -> Steps:
    tensors, metadata = read_tensors(point.pictures, TRACE)
    return Steps(method=metadata["method"], classes=classes, **tensors)


def _matrix(transfer: Sequence[Record]) -> Matrix:
    rows, columns = rows_of(transfer), columns_of(transfer)
    worst = [column(transfer, regime) for regime in columns]
    plain = [column(transfer, regime, "accuracy_reconstruction") for regime in columns]
    own = {
        (row, place)
        for row, (method, trained_with) in enumerate(rows)
        for place, regime in enumerate(columns)
        if trained_with == regime and method in NEEDS_LATENTS
    }
    return Matrix(
        rows=[row_label(row) for row in rows],
        columns=[REGIMES[regime].label for regime in columns],
        worst=[[found[row] for found in worst] for row in rows],
        reconstruction=[[found[row] for found in plain] for row in rows],
        own=frozenset(own),
    )
