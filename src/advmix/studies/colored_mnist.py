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
from advmix.studies.cell import Cell, CellSettings
from advmix.studies.colored_report import draw
from advmix.studies.share import Job, work
from advmix.training.methods import METHODS, SearchOptions, check_methods

PROTOCOLS = ("std", "lnl")
COLOR_STDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
LNL_VARIANCES = (0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05)
LNL_TRAIN_IMAGES = 60_000


@dataclass(frozen=True)
class ColoredMnistConfig(CellSettings):
    """Every method at every colour spread under every seed: tables, figures, results.json.

    Goes on where it was stopped. May be started in any number of processes, on any machines that share the folders:
    each takes the next run that nobody else is doing.

    Args:
        data: `mnist`, `digits` (no download), `fashion-mnist` or `kmnist`.
        data_dir: folder in torchvision's layout.
        look: `colored`, `double-colored` or `wildlife`.
        target: `digit`, or `color`, the reversed task: give it the layers that are its z⊥ with --perp.
        protocol: `std` (spreads are standard deviations) or `lnl` (variances, 60,000 training images: the protocol of
            "Learning Not to Learn").
        color_std: standard deviations of the colours in training; default 0.02 to 0.5.
        color_variance: variances of the colours in training, under protocol `lnl`; default 0.02 to 0.05.
        methods: nominal mixup linf randmix advmix, controls ceiling recolor jitter permute grayscale instnorm
            randmix-long randmix-best.
        seeds: every one fixes a training set and all that is trained on it.
        train_images: default all 1,297 of `digits`, 12,000 of the others, 60,000 under protocol `lnl`.
        test_images: default all.
        cells: folder of all that is trained; shared by the studies.
        out: folder for tables and figures.
    """

    data: str = "mnist"
    data_dir: Path = Path("data")
    look: str = "colored"
    target: str = "digit"
    protocol: str = "std"
    color_std: tuple[float, ...] = ()
    color_variance: tuple[float, ...] = ()
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    train_images: int | None = None
    test_images: int | None = None
    cells: Path = Path("runs/cells")
    out: Path = Path("runs/study/colored-mnist")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_methods(self.methods)
        if self.protocol not in PROTOCOLS:
            raise UserError(f"--protocol {self.protocol}: unknown; choose from {' '.join(PROTOCOLS)}")
        wrong = {"std": "color_variance", "lnl": "color_std"}[self.protocol]
        if getattr(self, wrong):
            raise UserError(f"--{wrong.replace('_', '-')}: not under --protocol {self.protocol}; leave it out")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds {' '.join(map(str, self.seeds))}: name at least one, and none twice")
        self.data_configs()

    def data_configs(self) -> list[DataConfig]:
        """One data set for each spread."""
        common: dict[str, Any] = {
            "data": self.data,
            "data_dir": self.data_dir,
            "look": self.look,
            "target": self.target,
            "train_images": self.train_images,
            "test_images": self.test_images,
        }
        if self.protocol == "std":
            return [DataConfig(color_std=std, **common) for std in self.color_std or COLOR_STDS]
        common["train_images"] = self.train_images or LNL_TRAIN_IMAGES
        return [DataConfig(color_variance=value, **common) for value in self.color_variance or LNL_VARIANCES]


def make_cell(root: Path, data: DataConfig, seed: int, settings: CellSettings) -> Cell:
    """The cell of a data set under a seed, in a folder that says which it is. Every study takes its cells from here.

    Another split shares the cell's generator and has a folder of its own for the rest.
    """
    spread = f"std{data.color_std:g}" if data.color_variance is None else f"var{data.color_variance:g}"
    look = "" if data.look == "colored" else f"-{data.look}"
    target = "" if data.target == "digit" else f"-{data.target}"
    size = "" if data.train_images is None else f"-{data.train_images}"
    cell = Cell(root / f"{data.data}{size}{look}-{spread}{target}-seed{seed}", data, seed, settings)
    search = settings.search
    if (search.perp, search.perp_grid) == (SearchOptions().perp, SearchOptions().perp_grid):
        return cell
    tag = ".".join(map(str, search.perp)) + ("grid" if search.perp_grid else "")
    return Cell(cell.folder, data, seed, settings, split_folder=f"perp{tag}")


def run_colored_mnist(config: ColoredMnistConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    cells = [make_cell(config.cells, data, seed, config) for data in config.data_configs() for seed in config.seeds]
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
