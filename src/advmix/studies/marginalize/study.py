"""`advmix study marginalize`: is a mean over random z⊥ as good as retraining, and what does it cost?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from advmix.config import to_dict
from advmix.data import ColoredDigits, ImageSet
from advmix.engine import environment, make_fabric
from advmix.errors import UserError
from advmix.files import read_json, write_json
from advmix.marginalized import draw_perp
from advmix.modes import evaluating
from advmix.options import require
from advmix.progress import console, track
from advmix.report import method_label, save_figures
from advmix.report.marginal import marginal_figure
from advmix.results import RESULTS, SCHEMA_VERSION, in_percent
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.studies.cell import Cell
from advmix.studies.marginalize.measure import MARGINALIZED, PLAIN, RECONSTRUCTION, costs, right_answers
from advmix.studies.settings import OneSpreadSettings, check_seeds
from advmix.studies.share import Job, work
from advmix.training.methods import check_methods

COMMAND = "study marginalize"
TESTS = ("biased", "shuffled", "uniform")
TIMED = 64
"""Images in the batch whose time is taken."""


@dataclass(frozen=True)
class MarginalizeConfig(OneSpreadSettings):
    """Averaging over N random z⊥ beside retraining: accuracy and cost.

    Goes on where it was stopped. May be started in any number of processes that share the folders.

    Args:
        methods: whose classifiers are asked.
        samples: numbers N of z⊥, increasing.
        images: of each test, at most, drawn at random.
        seeds: every one fixes a training set, all that is trained on it, and the z⊥.
        out: folder for table, figure and results.json.
    """

    methods: tuple[str, ...] = ("nominal", "randmix", "advmix", "ceiling")
    samples: tuple[int, ...] = (1, 4, 16, 64)
    images: int = 2000
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("runs/study/marginalize")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_methods(self.methods)
        check_seeds(self.seeds)
        require(self, "images", least=1)
        if not self.samples or list(self.samples) != sorted(set(self.samples)) or self.samples[0] < 1:
            raise UserError(f"--samples {' '.join(map(str, self.samples))}: name increasing numbers from 1")


def run_marginalize(config: MarginalizeConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    cells = [config.cell(seed, config.data_config()) for seed in config.seeds]
    inputs = {cell.name: cell.check().train.fingerprint for cell in cells}
    open_run(config.out, COMMAND, config, resume=True, inputs=inputs)
    work([job for cell in cells for job in _jobs(config, cell)])
    results = _gather(config, cells)
    write_json(config.out / RESULTS, results)
    save_figures({"marginalize": marginal_figure(results["runs"], TESTS)}, config.out / "figures")
    console.print(marginal_table(results))
    console.print(f"Numbers: {config.out / RESULTS}, picture: {config.out / 'figures' / 'marginalize.png'}")
    return results


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
    mixable, data = cell.mixable(device), cell.check()
    dec, encoder = mixable.generator, mixable.encoder
    split = config.search.split(dec.layers)
    networks = {method: cell.classifier(method, device) for method in config.methods}
    perp = draw_perp(mixable.pool, split, max(config.samples), cell.seed)
    rows: list[dict[str, Any]] = []
    tests = _tests(config, cell, data)
    with evaluating(dec, encoder, *networks.values()), track("measure", sum(map(len, tests.values()))) as advance:
        for name, images in tests.items():
            found = right_answers(networks, dec, encoder, images, perp, split, config.samples, advance)
            rows += [{"seed": cell.seed, "test": name, **row} for row in found]
        shown = tests[TESTS[0]].batch(slice(0, TIMED))[0].to(device)
        cost = costs(networks[config.methods[0]], dec, encoder, mixable.pool, split, shown, config.samples)
    generator_print = mixable.metadata["fingerprint"]
    write_json(_path(config, cell), {"runs": rows, "cost": {"seed": cell.seed, **cost}, "generator": generator_print})


def _tests(config: MarginalizeConfig, cell: Cell, data: ColoredDigits) -> dict[str, ImageSet]:
    """The same digits in three paints."""
    order = generator(cell.seed, "marginalize", "images")
    rows = torch.randperm(len(data.gray_test), generator=order)[: config.images]
    return {name: getattr(data, name)[rows] for name in TESTS}


def _gather(config: MarginalizeConfig, cells: Sequence[Cell]) -> dict[str, Any]:
    found = [read_json(_path(config, cell)) for cell in cells]
    return {
        "schema": SCHEMA_VERSION,
        "study": "marginalize",
        "config": {"command": COMMAND, **to_dict(config)},
        "environment": environment(),
        "generators": [seed["generator"] for seed in found],
        "runs": [run for seed in found for run in seed["runs"]],
        "costs": [seed["cost"] for seed in found],
    }


def marginal_table(results: dict[str, Any]) -> Table:
    """Accuracy in percent, mean and standard deviation over the seeds, and the cost as a multiple of plain."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    for name in ("accuracy, %", "answer", *TESTS, "cost"):
        view.add_column(name, justify="left" if name in ("accuracy, %", "answer") else "right")
    runs = results["runs"]
    ways = list(dict.fromkeys((run["prediction"], run["samples"]) for run in runs))
    for method in dict.fromkeys(run["method"] for run in runs):
        for prediction, samples in ways:
            mine = [run for run in runs if (run["prediction"], run["samples"]) == (prediction, samples)]
            cells = [
                in_percent([run["accuracy"] for run in mine if run["method"] == method and run["test"] == test])
                for test in TESTS
            ]
            first = method_label(method) if prediction == PLAIN else ""
            view.add_row(first, _words(prediction, samples), *cells, _cost(results["costs"], prediction, samples))
    return view


def _words(prediction: str, samples: int) -> str:
    return f"mean over {samples} z⊥" if prediction == MARGINALIZED else prediction


def _cost(found: Sequence[dict[str, Any]], prediction: str, samples: int) -> str:
    """The mean over the seeds."""
    if prediction == PLAIN:
        return "1"
    if prediction == RECONSTRUCTION:
        return ""
    times = [row["times_plain"] for cost in found for row in cost["marginalized"] if row["samples"] == samples]
    return f"{sum(times) / len(times):.0f}"
