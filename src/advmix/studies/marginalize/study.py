"""`advmix study marginalize`: is a mean over random z⊥ as good as retraining, and what does it cost?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from advmix.data import ImageSet
from advmix.engine import make_fabric
from advmix.runs import claim_run
from advmix.seeds import generator
from advmix.studies.cell import Cell
from advmix.studies.marginalize.asking import Asked, AskOptions, conclude
from advmix.studies.settings import OneSpreadSettings, check_seeds
from advmix.studies.share import Job, work
from advmix.training.methods import check_methods

COMMAND = "study marginalize"
TESTS = ("biased", "shuffled", "uniform")


@dataclass(frozen=True)
class MarginalizeConfig(OneSpreadSettings):
    """Averaging over N random z⊥ beside retraining: accuracy and cost.

    Goes on where it was stopped. May be started in any number of processes that share the folders.

    Args:
        methods: whose classifiers are asked.
        ask: how they are asked.
        seeds: every one fixes a training set, all that is trained on it, and the z⊥.
        out: folder for table, figure and results.json.
    """

    methods: tuple[str, ...] = ("nominal", "randmix", "advmix", "ceiling")
    ask: AskOptions = field(default_factory=AskOptions)
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("runs/study/marginalize")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_methods(self.methods)
        check_seeds(self.seeds)


def run_marginalize(config: MarginalizeConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    cells = [config.cell(seed, config.data_config()) for seed in config.seeds]
    inputs = {cell.name: cell.check().train.fingerprint for cell in cells}
    claim_run(config.out, COMMAND, config, resume=True, inputs=inputs)
    work([job for cell in cells for job in _jobs(config, cell)])
    return conclude(COMMAND, config, [_path(config, cell) for cell in cells])


def _jobs(config: MarginalizeConfig, cell: Cell) -> list[Job]:
    trains = [cell.train_job(method) for method in config.methods]

    def ready() -> bool:
        return cell.is_fitted() and all(cell.is_trained(method) for method in config.methods)

    lock, path = config.out / "seeds" / f".{cell.seed}.lock", _path(config, cell)
    measure = Job(f"{cell.name}: measure", lock, ready, path.is_file, partial(_measure, config, cell))
    return [cell.fit_job(), *trains, measure]


def _path(config: MarginalizeConfig, cell: Cell) -> Path:
    return config.out / "seeds" / f"{cell.seed}.json"


def _measure(config: MarginalizeConfig, cell: Cell) -> None:
    """All numbers of a cell."""
    device = make_fabric(config.device).device
    mixable = cell.mixable(device)
    asked = Asked(
        networks={method: cell.classifier(method, device) for method in config.methods},
        dec=mixable.generator,
        encoder=mixable.encoder,
        pool=mixable.pool,
        split=config.search.split(mixable.generator.layers),
        fingerprint=mixable.metadata["fingerprint"],
        tests=_tests(config, cell),
        residual=config.baseline.residual,
    )
    asked.measure(config.ask.samples, cell.seed, _path(config, cell))


def _tests(config: MarginalizeConfig, cell: Cell) -> dict[str, ImageSet]:
    """The same digits in three paints."""
    data, order = cell.check(), generator(cell.seed, "marginalize", "images")
    rows = torch.randperm(len(data.gray_test), generator=order)[: config.ask.images]
    return {name: getattr(data, name)[rows] for name in TESTS}
