"""`python -m experiments colored-mnist`: accuracy of every method while the training set is debiased step by step.

Section 4.1 of the paper, with controls that could refute it, the reversed task, a published protocol, and two harder
looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from advmix.commands.demo import data_figure, mixing_figure
from advmix.data.colored import ColoredDigits
from advmix.data.digits import COLOR_NAMES, Painting, make_painting
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import load_autoencoder
from advmix.report.figures import accuracy_chart
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, Run, color_spread, comparable, header, sweep_table
from advmix.training.methods import METHODS
from advmix.utils.config import to_dict
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import generator
from experiments.cells import Cell, StudySettings, check_seeds
from experiments.controls import check_methods
from experiments.figures import beside, caveat, curves, mean_colors, published
from experiments.jobs import Finished, Job, read_finished, work

COMMAND = "study colored-mnist"

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
            nominal-long randmix-long randmix-best.
        seeds: every one fixes a training set and all that is trained on it.
        train_images: default all 1,297 of `digits`, 12,000 of the others, 60,000 under protocol `lnl`.
        finished: results.json of this study, or folders that hold one, made elsewhere with the same settings: their
            runs are not made again.
        out: folder for tables and figures.
    """

    target: str = "digit"
    protocol: str = "std"
    color_std: tuple[float, ...] = ()
    color_variance: tuple[float, ...] = ()
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    finished: tuple[Path, ...] = ()
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
    finished = read_finished(config.finished, COMMAND, config)
    claim_run(config.out, COMMAND, config, resume=True, inputs=inputs)
    runs = [
        _Run(cell, method, _find(finished, cell, method), _generators(finished, cell))
        for cell in cells
        for method in config.methods
    ]
    work(_jobs([run for run in runs if run.elsewhere is None]))
    results = gather(config, runs)
    write_json(config.out / RESULTS, results)
    draw(config.out, cells, results["runs"])
    for key in ("accuracy_shuffled", "accuracy_worst_case", "accuracy_recolor_worst"):
        console.print(sweep_table(results["runs"], key))
    console.print("Worst cases compare within a column: every colour spread and seed has a generator of its own.")
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


@dataclass(frozen=True)
class _Run:
    """One row of the tables: a classifier of a cell, the file that has its numbers already, if any, and the
    fingerprints of the generators with which the cell's others were made elsewhere.
    """

    cell: Cell
    method: str
    elsewhere: Finished | None
    others: frozenset[str]

    def do(self) -> None:
        """Train and evaluate.

        Raises:
            UserError: under another generator than the cell's finished runs, before anything is trained.
        """
        mine = load_autoencoder(self.cell.fitted)[1]["fingerprint"]
        if self.others - {mine}:
            raise UserError(
                f"--finished: the runs of {self.cell.name} were made with generator {min(self.others - {mine})}, but "
                f"{self.cell.fitted} holds {mine}; worst cases compare only under one generator: give the cells that "
                "they were made in with --cells, or leave --finished out"
            )
        self.cell.train(self.method)
        self.cell.evaluate(self.method)

    def read(self) -> tuple[Run, dict[str, Any], dict[str, Any]]:
        """Numbers, generator, and where they were made."""
        if self.elsewhere is not None:
            run = self.elsewhere.find(spread(self.cell.data), self.cell.seed, self.method)
            assert run is not None
            return run, self.elsewhere.generator(run), self.elsewhere.environment(run)
        results = self.cell.evaluate(self.method)
        return results["runs"][0], results["generator"], results["environment"]


def spread(data: DataConfig) -> float:
    """Standard deviation or variance, whichever was given."""
    return data.color_std if data.color_variance is None else data.color_variance


def _find(finished: list[Finished], cell: Cell, method: str) -> Finished | None:
    return next((file for file in finished if file.find(spread(cell.data), cell.seed, method)), None)


def _generators(finished: list[Finished], cell: Cell) -> frozenset[str]:
    runs = [run for file in finished for run in file.of(spread(cell.data), cell.seed)]
    return frozenset(run["generator"] for run in runs)


def _jobs(runs: list[_Run]) -> list[Job]:
    jobs: dict[str, Job] = {}
    for run in runs:
        cell, method = run.cell, run.method
        fit = cell.fit_job()
        jobs.setdefault(fit.title, fit)
        title, is_done = f"{cell.name}: {method}", partial(cell.is_evaluated, method)
        jobs[title] = Job(title, cell.place(f".{method}.lock"), cell.is_fitted, is_done, run.do)
    return list(jobs.values())


def gather(config: ColoredMnistConfig, runs: list[_Run]) -> dict[str, Any]:
    """All runs, checked to be comparable; each says in which of the `environments` it was made, the file's own is that
    of who put them together.
    """
    found = [run.read() for run in runs]
    comparable([run for run, _, _ in found])
    cells = {run.cell.name: run.cell for run in runs if run.elsewhere is None}
    environments: list[dict[str, Any]] = []
    for *_, made in found:
        environments += [made] if made not in environments else []
    return {
        **header(COMMAND, config),
        "generator": None,
        "generators": list({generator["fingerprint"]: generator for _, generator, _ in found}.values()),
        "environments": environments,
        "search": to_dict(config.evaluation()),
        "phases": {f"encode {name}": cell.encode_seconds() for name, cell in cells.items()},
        "runs": [{**run, "environment": environments.index(made)} for run, _, made in found],
    }


CURVES = {
    "shuffled": "accuracy_shuffled",
    "uniform": "accuracy_uniform",
    "worst-case": "accuracy_worst_case",
    "worst-recolor": "accuracy_recolor_worst",
}

SWATCHES, DIGITS = 12, 4


def draw(out: Path, cells: Sequence[Cell], runs: Sequence[Run]) -> None:
    """Write `figures/*.png`: the looks at every colour spread, data and mixes of the first cell, the accuracies.

    Mixes are the first cell's that has a generator here; there are none where all runs were made elsewhere.

    Raises:
        UserError: worst cases that cannot be compared, or a folder that cannot be written.
    """
    data = cells[0].check()
    figures = {
        "colors": colors_figure(data, sorted({color_spread(run) for run in runs})),
        "data": data_figure(data),
        **next((mixes_figure(cell) for cell in cells if cell.is_fitted()), {}),
        **accuracy_figures(runs),
    }
    save_figures(figures, out / "figures")


def mixes_figure(cell: Cell) -> dict[str, Figure]:
    """What a cell's generator makes of its data."""
    mixable = cell.mixable(torch.device("cpu"))
    split = cell.settings.search.split(mixable.model.generator.layers)
    return {"mixing": mixing_figure(mixable, cell.check(), split)}


def accuracy_figures(runs: Sequence[Run]) -> dict[str, Figure]:
    """A curve for each test that has numbers; bars where there is only one colour spread."""
    if len({color_spread(run) for run in runs}) == 1:
        return {"accuracy": accuracy_chart(runs, beside(runs), caveat(runs))}
    return {
        name: curves(runs, key, published(runs))
        for name, key in CURVES.items()
        if any(run[key] is not None for run in runs)
    }


def colors_figure(data: ColoredDigits, spreads: Sequence[float]) -> Figure:
    """The classes' looks: plain swatches where a look is one colour, otherwise each class's first training digits."""
    word = "std" if data.config.color_variance is None else "variance"
    rng = generator(data.seed, "report", "colors")
    rows = {}
    for spread in spreads:
        std = spread if word == "std" else sqrt(spread)
        rows[f"{word} {spread:g}"] = painted(make_painting(data.config.look, std, data.means), canvases(data), rng)
    means = painted(make_painting(data.config.look, 0.0, data.means), canvases(data)[:, :1], rng)[:, 0]
    names = COLOR_NAMES if data.config.look == "colored" else ()
    return mean_colors(data.gray_train.classes, names, means, rows)


def canvases(data: ColoredDigits) -> Tensor:
    """What is painted, `(10, N, 1, H, W)` in [0, 1]: full squares in the look `colored`, else digits of each class."""
    if data.config.look == "colored":
        return torch.ones(data.look.classes, SWATCHES, 1, 8, 8)
    gray = data.gray_train
    rows = [torch.nonzero(gray.labels == index)[:DIGITS, 0] for index in range(data.look.classes)]
    count = min(len(row) for row in rows)
    return gray.pixels[torch.stack([row[:count] for row in rows])].float() / 255


def painted(look: Painting, gray: Tensor, rng: torch.Generator) -> Tensor:
    """Canvases `(C, N, 1, H, W)` in the looks of their classes: `(C, N, 3, H, W)`."""
    classes = torch.arange(len(gray)).repeat_interleave(gray.shape[1])[:, None].expand(-1, look.parts)
    images: Tensor = look.paint(gray.flatten(0, 1), look.of_classes(classes, rng)).unflatten(0, gray.shape[:2])
    return images
