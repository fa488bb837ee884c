"""What the two studies of averaging have in common: one seed measured, all seeds gathered, the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from torch import nn

from advmix.data import ImageSet
from advmix.encoders import Encoder
from advmix.errors import UserError
from advmix.files import read_json, write_json
from advmix.generators import Generator
from advmix.latents import Latents, Split
from advmix.marginalized import draw_perp
from advmix.modes import evaluating
from advmix.options import require
from advmix.progress import console, track
from advmix.report import method_label, save_figures
from advmix.report.marginal import marginal_figure
from advmix.results import RESULTS, header, in_percent
from advmix.studies.marginalize.measure import MARGINALIZED, PLAIN, RECONSTRUCTION, costs, right_answers

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
        require(self, "images", least=1)
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
        with evaluating(dec, encoder, *networks.values()), track("measure", sum(map(len, self.tests.values()))) as go:
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
