"""`advmix study colored-mnist`: accuracy of every method while the training set is debiased step by step.

Section 4.1 of the paper, with controls that could refute it, the reversed task, a published protocol, and two harder
looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from advmix.config import to_dict
from advmix.data import DataConfig
from advmix.engine import environment
from advmix.errors import UserError
from advmix.files import write_json
from advmix.progress import console
from advmix.results import RESULTS, SCHEMA_VERSION, comparable, sweep_table
from advmix.runs import open_run
from advmix.studies.cell import Cell
from advmix.studies.colored_report import draw
from advmix.studies.settings import StudySettings, check_seeds
from advmix.studies.share import Job, work
from advmix.training.methods import METHODS, check_methods

PROTOCOLS = ("std", "lnl")
COLOR_STDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
LNL_VARIANCES = (0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05)
LNL_TRAIN_IMAGES = 60_000


@dataclass(frozen=True)
class ColoredMnistConfig(StudySettings):
    """Every method at every colour spread under every seed: tables, figures, results.json.

    Goes on where it was stopped. May be started in any number of processes, on any machines that share the folders:
    each takes the next run that nobody else is doing.

    Args:
        target: `digit`, or `color`, the reversed task: give it the layers that are its z⊥ with --perp.
        protocol: `std` (spreads are standard deviations) or `lnl` (variances, 60,000 training images: the protocol of
            "Learning Not to Learn").
        color_std: standard deviations of the colours in training; default 0.02 to 0.5.
        color_variance: variances of the colours in training, under protocol `lnl`; default 0.02 to 0.05.
        methods: nominal mixup linf randmix advmix, controls ceiling recolor jitter permute grayscale instnorm
            randmix-long randmix-best.
        seeds: every one fixes a training set and all that is trained on it.
        train_images: default all 1,297 of `digits`, 12,000 of the others, 60,000 under protocol `lnl`.
        out: folder for tables and figures.
    """

    target: str = "digit"
    protocol: str = "std"
    color_std: tuple[float, ...] = ()
    color_variance: tuple[float, ...] = ()
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("runs/study/colored-mnist")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_methods(self.methods)
        if self.protocol not in PROTOCOLS:
            raise UserError(f"--protocol {self.protocol}: unknown; choose from {' '.join(PROTOCOLS)}")
        wrong = {"std": "color_variance", "lnl": "color_std"}[self.protocol]
        if getattr(self, wrong):
            raise UserError(f"--{wrong.replace('_', '-')}: not under --protocol {self.protocol}; leave it out")
        check_seeds(self.seeds)
        self.data_configs()

    def data_configs(self) -> list[DataConfig]:
        """One data set for each spread."""
        if self.protocol == "std":
            return [self.data_config(color_std=std, target=self.target) for std in self.color_std or COLOR_STDS]
        size = self.train_images or LNL_TRAIN_IMAGES
        return [
            self.data_config(color_variance=value, target=self.target, train_images=size)
            for value in self.color_variance or LNL_VARIANCES
        ]


def run_colored_mnist(config: ColoredMnistConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    cells = [config.cell(seed, data) for data in config.data_configs() for seed in config.seeds]
    inputs = {cell.name: cell.check().train.fingerprint for cell in cells}
    open_run(config.out, "study colored-mnist", config, resume=True, inputs=inputs)
    work([job for cell in cells for job in _jobs(cell, config.methods)])
    results = gather(config, cells)
    write_json(config.out / RESULTS, results)
    draw(config.out, cells[0], results["runs"])
    for key in ("accuracy_unbiased", "accuracy_worst_case", "accuracy_recolor_worst"):
        console.print(sweep_table(results["runs"], key))
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


def _jobs(cell: Cell, methods: tuple[str, ...]) -> list[Job]:
    fit = Job(f"{cell.name}: generator", cell.folder / ".fit.lock", lambda: True, cell.is_fitted, cell.fit)
    rest = [
        Job(
            f"{cell.name}: {method}",
            cell.place(f".{method}.lock"),
            cell.is_fitted,
            partial(cell.is_evaluated, method),
            partial(_train_and_evaluate, cell, method),
        )
        for method in methods
    ]
    return [fit, *rest]


def _train_and_evaluate(cell: Cell, method: str) -> None:
    cell.train(method)
    cell.evaluate(method)


def gather(config: ColoredMnistConfig, cells: list[Cell]) -> dict[str, Any]:
    """All runs of all cells, checked to be comparable."""
    found = []
    for cell in cells:
        cell.fit()
        for method in config.methods:
            cell.train(method)
            found.append(cell.evaluate(method))
    runs = [run for results in found for run in results["runs"]]
    comparable(runs)
    generators = {results["generator"]["fingerprint"]: results["generator"] for results in found}
    seconds = {f"encode {cell.name}": cell.encode_seconds() for cell in cells}
    return {
        "schema": SCHEMA_VERSION,
        "study": "colored-mnist",
        "config": {"command": "study colored-mnist", **to_dict(config)},
        "environment": environment(),
        "generator": None,
        "generators": list(generators.values()),
        "search": found[0]["search"],
        "phases": seconds | {"evaluate": round(sum(results["phases"]["evaluate"] for results in found), 2)},
        "runs": runs,
    }
