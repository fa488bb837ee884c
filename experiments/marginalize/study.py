"""What the two studies of averaging have in common: one seed measured, all seeds gathered, the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import nn

from advmix.data.images import ImageSet
from advmix.encoders.network import Encoder
from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.marginalized import draw_perp
from advmix.report.drawing import method_label
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header, in_percent
from advmix.utils.config import check_values
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import read_json, write_json
from advmix.utils.progress import console, track
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import eval_mode, generator
from experiments.cells import Cell, OneSpreadSettings, check_seeds
from experiments.controls import check_methods
from experiments.jobs import Job, work
from experiments.marginalize.measure import MARGINALIZED, PLAIN, RECONSTRUCTION, costs, marginal_figure, right_answers

TIMED = 64

"""Images in the batch whose time is taken."""


@dataclass(frozen=True)
class AskOptions:
    """How classifiers are asked.

    Args:
        samples: numbers N of z⊥, increasing.
        images: of each test, at most, drawn at random.
    """

    samples: tuple[int, ...] = (1, 4, 16, 64)
    images: int = 2000

    def __post_init__(self) -> None:
        check_values(self, "images", least=1)
        if not self.samples or list(self.samples) != sorted(set(self.samples)) or self.samples[0] < 1:
            raise UserError(f"--samples {' '.join(map(str, self.samples))}: name increasing numbers from 1")


@dataclass(frozen=True, eq=False)
class Asked:
    """Everything that is needed under one seed.

    Args:
        networks: classifiers by method, on the generator's device.
        dec: decodes.
        encoder: of the images.
        pool: whose z⊥ are drawn.
        split: which latents are z⊥.
        fingerprint: of the generator.
        tests: images by the name of the test.
        residual: whether averaged images keep what the generator cannot draw.
    """

    networks: Mapping[str, nn.Module]
    dec: Generator
    encoder: Encoder
    pool: Latents
    split: Split
    fingerprint: str
    tests: Mapping[str, ImageSet]
    residual: bool

    def measure(self, samples: Sequence[int], seed: int, path: Path) -> None:
        """All numbers of a seed, kept in a file."""
        perp = draw_perp(self.pool, self.split, max(samples), seed)
        rows: list[dict[str, Any]] = []
        networks, dec, encoder = self.networks, self.dec, self.encoder
        with eval_mode(dec, encoder, *networks.values()), track("measure", sum(map(len, self.tests.values()))) as go:
            for name, images in self.tests.items():
                found = right_answers(networks, dec, encoder, images, perp, self.split, samples, go, self.residual)
                rows += [{"seed": seed, "test": name, **row} for row in found]
            shown = next(iter(self.tests.values())).batch(slice(0, TIMED))[0].to(perp.device)
            network = next(iter(networks.values()))
            cost = costs(network, dec, encoder, self.pool, self.split, shown, samples, self.residual)
        write_json(path, {"runs": rows, "cost": {"seed": seed, **cost}, "generator": self.fingerprint})


def conclude(command: str, config: Any, paths: Sequence[Path]) -> dict[str, Any]:
    """From what was kept of every seed to `results.json`, table and figure; returns what `results.json` holds."""
    found = [read_json(path) for path in paths]
    results: dict[str, Any] = {
        **header(command, config),
        "generators": [seed["generator"] for seed in found],
        "runs": [run for seed in found for run in seed["runs"]],
        "costs": [seed["cost"] for seed in found],
    }
    write_json(config.out / RESULTS, results)
    save_figures({"marginalize": marginal_figure(results["runs"])}, config.out / "figures")
    console.print(marginal_table(results))
    console.print(f"Numbers: {config.out / RESULTS}, picture: {config.out / 'figures' / 'marginalize.png'}")
    return results


def marginal_table(results: dict[str, Any]) -> Table:
    """Accuracy in percent, mean and standard deviation over the seeds, and the cost as a multiple of plain."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    for name in ("accuracy, %", "answer", *tests_of(results), "cost"):
        view.add_column(name, justify="left" if name in ("accuracy, %", "answer") else "right")
    for method, prediction, samples, cells in marginal_rows(results):
        first = method_label(method) if prediction == PLAIN else ""
        view.add_row(first, _words(prediction, samples), *cells)
    return view


def tests_of(results: Mapping[str, Any]) -> list[str]:
    """Their names, in order."""
    return list(dict.fromkeys(run["test"] for run in results["runs"]))


def marginal_rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str, int, list[str]]]:
    """For each method and way of asking: method, prediction, number of z⊥, and as text the accuracy on each test and
    the cost.
    """
    runs, tests = results["runs"], tests_of(results)
    ways = list(dict.fromkeys((run["prediction"], run["samples"]) for run in runs))
    for method in dict.fromkeys(run["method"] for run in runs):
        for way in ways:
            mine = [run for run in runs if (run["method"], run["prediction"], run["samples"]) == (method, *way)]
            values = ([run["accuracy"] for run in mine if run["test"] == test] for test in tests)
            yield method, *way, [*map(in_percent, values), _cost(results["costs"], *way)]


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
    device = open_device(config.device)
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
