"""`python -m experiments search`: is the maximisation strong enough, and does it go over from one generator to another?

One search step by step; worst case against steps, restarts and radius, held against the exact worst recolouring; and
the transfer matrix: trained with one generator, searched with another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advmix.report.tables import RESULTS, header
from advmix.training.gan import GanOptions, InvertOptions
from advmix.utils.config import to_dict
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from experiments.cells import Cell, OneSpreadSettings, Origin, check_seeds
from experiments.controls import check_method, check_methods
from experiments.jobs import work
from experiments.search.generators import OWN, check_regimes, check_split, summary
from experiments.search.grid import Plan, Point, collect, points, training
from experiments.search.measure import Bench
from experiments.search.results import check_figures, comparisons, draw, show


@dataclass(frozen=True)
class SearchConfig(OneSpreadSettings):
    """How strong the search is, what it finds, and whether it goes over to another generator.

    Goes on where it was stopped. May be started in any number of processes, on any machines that share the folders:
    each takes the next part that nobody else is doing.

    Args:
        methods: classifiers that are searched: nominal mixup linf randmix advmix, controls ceiling recolor jitter
            permute grayscale instnorm nominal-long randmix-long randmix-best.
        reference: how the classifier was trained that judges the worst mixes; it is the next seed's.
        generators: searched with: `own`, `seed` (another seed of the same training), `grid` (z∥ a spatial grid), `gan`
            (a StyleGAN, that of `study pipeline`, by default none); AdvMix is trained with each of them too.
        gan: how StyleGAN is trained.
        invert: how its encoder network is trained.
        step_counts: numbers of gradient steps to try, with --worst-restarts.
        restart_counts: numbers of restarts to try, with --worst-steps.
        radii: half-widths of the box to try; `None` for no box.
        worst_images: test images that are searched, drawn at random.
        seeds: every one fixes a training set and all that is trained on it.
        out: folder for tables and figures.
    """

    methods: tuple[str, ...] = ("nominal", "randmix", "advmix", "ceiling", "recolor")
    reference: str = "ceiling"
    generators: tuple[str, ...] = (OWN, "seed", "grid")
    gan: GanOptions = field(default_factory=GanOptions)
    invert: InvertOptions = field(default_factory=InvertOptions)
    step_counts: tuple[int, ...] = (0, 1, 2, 5, 10, 20)
    restart_counts: tuple[int, ...] = (1, 2, 5, 10, 20)
    radii: tuple[float | None, ...] = (0.0, 0.25, 0.5, 1.0, 1.5, None)
    worst_images: int = 200
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("runs/study/search")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_methods(self.methods)
        check_method(self.reference)
        check_regimes(self.generators)
        _check_numbers("step-counts", self.step_counts, 0)
        _check_numbers("restart-counts", self.restart_counts, 1)
        _check_numbers("radii", self.radii, 0)
        check_seeds(self.seeds)

    def plan(self) -> Plan:
        """What is measured on every bench."""
        return Plan(
            methods=self.methods,
            reference=self.reference,
            regimes=self.generators,
            search=self.evaluation(),
            restarts=self.restart_counts,
            steps=self.step_counts,
            radii=self.radii,
            folder=self.out / "points",
        )


def _check_numbers(flag: str, values: Sequence[float | None], least: float) -> None:
    words = " ".join(map(str, values))
    if not values or len(set(values)) < len(values):
        raise UserError(f"--{flag} {words}: name at least one, and none twice")
    if any(value is not None and not least <= value < math.inf for value in values):
        raise UserError(f"--{flag} {words}: each must be at least {least}, and finite")


def run_search(config: SearchConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input, or numbers that must not be compared.
    """
    origin = Origin(gan=config.gan, invert=config.invert)
    cells = [config.cell(seed, config.data_config(), origin) for seed in config.seeds]
    inputs = {cell.name: _check(cell, config.generators) for cell in cells}
    claim_run(config.out, "study search", config, resume=True, inputs=inputs)
    device = open_device(config.device)
    benches = [Bench(cell, config.worst_images, device) for cell in cells]
    work([job for bench in benches for job in training(bench, config.plan())])
    measured = points(benches, config.plan())
    work([point.job() for point in measured])
    results = gather(config, benches, measured)
    write_json(config.out / RESULTS, results)
    draw(config.out / "figures", results, measured, benches[0].data.train.classes)
    show(results)
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


def _check(cell: Cell, regimes: tuple[str, ...]) -> str:
    images = cell.check().train
    check_split(cell, regimes, images)
    return images.fingerprint


def gather(config: SearchConfig, benches: list[Bench], measured: list[Point]) -> dict[str, Any]:
    """All points; differences are taken only where the circumstances are the same.

    Raises:
        UserError: numbers that a figure would put side by side, measured in different circumstances.
    """
    found = collect(measured)
    check_figures(found)
    return {
        **header("study search", config),
        "search": to_dict(config.evaluation()),
        "generators": [summary(bench.cell, regime) for bench in benches for regime in config.generators],
        **found,
        "comparisons": comparisons(found["transfer"], found["saturation"]),
    }
