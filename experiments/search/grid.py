"""The parts of `python -m experiments search` as jobs: what is trained and what is measured, each once, in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from advmix.mixing import SearchOptions
from advmix.utils.files import read_json, write_json, write_tensors
from experiments.jobs import Job
from experiments.search.generators import (
    OWN,
    classifier_folder,
    classifier_name,
    fit,
    fit_lock,
    is_fitted,
    is_trained,
    train,
)
from experiments.search.measure import Bench, Record, recoloring, saturation, transfer
from experiments.search.trace import trace
from experiments.search.transfer import found, populations

TRACE, FOUND = "search-trace", "search-found"
SHOWN = 10
TRACED = ("nominal", "advmix")
RETRAINED = "advmix"
"""The method that is trained with every generator."""


@dataclass(frozen=True)
class Plan:
    """What is measured on every bench.

    Attributes:
        methods: classifiers trained with the own generator.
        reference: method of the classifier that judges the worst mixes.
        regimes: generators that are searched with.
        search: the search around which numbers are varied.
        restarts: numbers of restarts.
        steps: numbers of steps.
        radii: half-widths of the box; None for no box.
        folder: of the points.
    """

    methods: tuple[str, ...]
    reference: str
    regimes: tuple[str, ...]
    search: SearchOptions
    restarts: tuple[int, ...]
    steps: tuple[int, ...]
    radii: tuple[float | None, ...]
    folder: Path

    @property
    def traced(self) -> tuple[str, ...]:
        """The classifiers whose search is shown step by step."""
        return tuple(name for name in TRACED if name in self.methods) or self.methods[:1]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Method and generator that it was trained with: the rows of the transfer matrix."""
        others = [(RETRAINED, name) for name in self.regimes[1:] if RETRAINED in self.methods]
        return [(method, OWN) for method in self.methods] + others


@dataclass(frozen=True, eq=False)
class Point:
    """One measurement, kept in a file.

    Attributes:
        kind: key of `results.json` that its records go under.
        path: the file; pictures lie beside it.
        make: does it; given the path for its pictures.
    """

    kind: str
    path: Path
    make: Callable[[Path], list[Record]]

    @property
    def pictures(self) -> Path:
        """The file of its pictures, where it has any."""
        return self.path.with_suffix(".safetensors")

    def job(self) -> Job:
        """To be done once."""
        lock = self.path.with_name(f".{self.path.stem}.lock")
        return Job(self.path.stem, lock, lambda: True, self.path.is_file, self._keep)

    def _keep(self) -> None:
        begun = time.monotonic()
        records = self.make(self.pictures)
        write_json(self.path, {"records": records, "seconds": round(time.monotonic() - begun, 2)})


def training(bench: Bench, plan: Plan) -> Iterator[Job]:
    """Generators and classifiers of one cell."""
    cell = bench.cell
    for regime in plan.regimes:
        done = partial(is_fitted, cell, regime)
        yield Job(
            f"{cell.name}: generator ({regime})", fit_lock(cell, regime), lambda: True, done, partial(fit, cell, regime)
        )
    for method, regime in dict.fromkeys([*plan.rows, (plan.reference, OWN)]):
        name, folder = classifier_name(method, regime), classifier_folder(cell, method, regime)
        ready, done = partial(is_fitted, cell, regime), partial(is_trained, cell, method, regime)
        yield Job(
            f"{cell.name}: {name}",
            folder.with_name(f".{folder.name}.lock"),
            ready,
            done,
            partial(train, cell, method, regime),
        )


def measuring(bench: Bench, judges: Bench, plan: Plan, traced: bool) -> Iterator[Point]:
    """The measurements of one cell; the reference classifier is that of `judges`."""

    def point(kind: str, *words: str, make: Callable[[Path], list[Record]]) -> Point:
        return Point(kind, plan.folder / ("-".join([kind, *words, f"seed{bench.cell.seed}"]) + ".json"), make)

    for method in plan.traced if traced else ():
        yield point("trace", method, make=partial(_trace, bench, method, plan))
    for method in plan.methods:
        yield point("saturation", method, make=partial(_saturation, bench, method, plan))
        yield point("recolouring", method, make=partial(_recoloring, bench, method))
        yield point("found", method, make=partial(_found, bench, judges, method, plan))
    yield point("populations", make=partial(_populations, bench, judges, plan))
    for regime in plan.regimes:
        for method, trained_with in plan.rows:
            yield point(
                "transfer",
                classifier_name(method, trained_with),
                regime,
                make=partial(_transfer, bench, method, trained_with, regime, plan),
            )


def points(benches: list[Bench], plan: Plan) -> list[Point]:
    """All measurements: every bench is judged by the reference classifier of the next one, the last by the first's."""
    return [
        point
        for place, bench in enumerate(benches)
        for point in measuring(bench, benches[(place + 1) % len(benches)], plan, traced=place == 0)
    ]


def collect(found: list[Point]) -> dict[str, Any]:
    """The records of all points by kind, and under `phases` the seconds that each kind took."""
    records: dict[str, list[Record]] = {}
    seconds: dict[str, float] = {}
    for point in found:
        kept = read_json(point.path)
        records.setdefault(point.kind, []).extend(kept["records"])
        seconds[point.kind] = round(seconds.get(point.kind, 0.0) + kept["seconds"], 2)
    return {"phases": seconds, **records}


def _trace(bench: Bench, method: str, plan: Plan, pictures: Path) -> list[Record]:
    tensors = trace(bench, method, plan.search)
    write_tensors(pictures, TRACE, tensors, {"method": method})
    numbers = {key: tensors[key].tolist() for key in ("losses", "predictions", "explained")}
    return [{"method": method, "seed": bench.cell.seed, "label": int(tensors["label"]), **numbers}]


def _saturation(bench: Bench, method: str, plan: Plan, _: Path) -> list[Record]:
    return saturation(bench, method, plan.search, plan.restarts, plan.steps, plan.radii)


def _recoloring(bench: Bench, method: str, _: Path) -> list[Record]:
    return [recoloring(bench, method)]


def _found(bench: Bench, judges: Bench, method: str, plan: Plan, pictures: Path) -> list[Record]:
    record, tensors = found(bench, method, plan.search, judges.classifier(plan.reference)[0], SHOWN)
    write_tensors(pictures, FOUND, tensors, {})
    return [record]


def _populations(bench: Bench, judges: Bench, plan: Plan, _: Path) -> list[Record]:
    return populations(bench, judges.classifier(plan.reference)[0])


def _transfer(bench: Bench, method: str, trained_with: str, regime: str, plan: Plan, _: Path) -> list[Record]:
    return [transfer(bench, method, trained_with, regime, plan.search)]
