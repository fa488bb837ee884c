"""Tables and figures of `advmix study search`, from its results and the pictures beside its points."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from advmix.data.looks import MIN_BRIGHTNESS
from advmix.files import read_tensors
from advmix.progress import console
from advmix.report import save_figures
from advmix.report.search import (
    Matrix,
    Panel,
    Strip,
    Sweep,
    bar_panels,
    saturation_chart,
    strips,
    transfer_matrix,
)
from advmix.report.search_pictures import Steps, Worst, steps_figure, worst_figure
from advmix.report.style import MUTED, method_color, method_label
from advmix.report.summary import Score, score
from advmix.studies.search.generators import REGIMES
from advmix.studies.search.jobs import FOUND, TRACE, Point
from advmix.studies.search.results import (
    Record,
    column,
    columns_of,
    curves_of,
    matrix_table,
    row_label,
    rows_of,
    saturation_table,
)
from advmix.training.methods import NEEDS_LATENTS

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
        ("accuracy_unbiased", "Test images", "shuffled looks"),
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
