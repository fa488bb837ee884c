"""`python -m experiments encoding`: how good is each encoder, how long does it take, and can what it finds be mixed?

Algorithm 2 of the paper, from the mean latent and from the network's guess, with and without its mixing loss, beside
the network alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from advmix.commands.evaluate import generator_summary
from advmix.encoders.optimize import OptimizeOptions
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import check_values
from advmix.utils.device import open_device
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from experiments.cells import REFERENCE, Cell, OneSpreadSettings, check_seeds
from experiments.controls import check_method
from experiments.encoding.figures import convergence, encoded_variations, encoder_names, error_curves, mixability_bars
from experiments.encoding.measure import (
    ENCODERS,
    STEPS,
    VARIATIONS,
    Bench,
    Part,
    check_sizes,
    is_kept,
    make_bench,
    make_part,
)
from experiments.jobs import Job, work


@dataclass(frozen=True)
class EncodingConfig(OneSpreadSettings):
    """Encoders compared: error against time, pictures of the convergence, and whether labels survive mixing.

    Test images in shuffled colours are encoded by the network, and by Algorithm 2 from the mean latent and from the
    network's guess, with and without the mixing loss; then mixed with training images that the same encoder encoded.
    The classifier that says what a mix shows is the `ceiling` of the next seed. Goes on where it was stopped. May be
    started in any number of processes, on any machines that share the folders.

    Args:
        seeds: every one fixes a cell, the images and the donors.
        images: test images to encode, drawn at random.
        donors: mixes of each, every one with another donor.
        pool_images: training images to encode, from which the donors are drawn.
        features: method whose classifier lends its features to Algorithm 2, `nominal` for one; pixels alone by default.
        optimize: settings of Algorithm 2.
        out: folder for tables and figures.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 100
    donors: int = 10
    pool_images: int = 50
    features: str | None = None
    optimize: OptimizeOptions = field(default_factory=lambda: OptimizeOptions(optimize_steps=STEPS))
    out: Path = Path("runs/study/encoding")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.images, self.donors, self.pool_images)
        check_values(self.optimize, "mixing_weight", above=0)
        check_values(self.optimize, "optimize_steps", least=1)
        if self.features is not None:
            check_method(self.features)
        check_seeds(self.seeds)


def run_encoding(config: EncodingConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    cells = [config.cell(seed, config.data_config()) for seed in config.seeds]
    inputs = {cell.name: cell.check().train.fingerprint for cell in cells}
    claim_run(config.out, "study encoding", config, resume=True, inputs=inputs)
    work([job for cell in cells for job in _networks(cell, config.features)])
    judges = cells[1:] + cells[:1]
    benches = [_bench(config, cell, judge) for cell, judge in zip(cells, judges, strict=True)]
    work([_job(config, bench, name) for bench in benches for name in ENCODERS])
    parts = [{name: _part(config, bench, name) for name in ENCODERS} for bench in benches]
    results = _gather(config, benches, parts)
    begun = time.monotonic()
    save_figures(draw(benches[0], parts[0], results["encodings"]), config.out / "figures")
    results["phases"]["report"] = round(time.monotonic() - begun, 2)
    write_json(config.out / RESULTS, results)
    console.print(encoding_table(results["encodings"]))
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


def _networks(cell: Cell, features: str | None) -> list[Job]:
    """A cell's generator, the classifier that judges another cell, and the one that lends its features."""
    methods = dict.fromkeys([REFERENCE, *([features] if features else [])])
    return [cell.fit_job(), *map(cell.train_job, methods)]


def _bench(config: EncodingConfig, cell: Cell, judge: Cell) -> Bench:
    sizes = (config.images, config.donors, config.pool_images)
    return make_bench(cell, judge, config.features, sizes, open_device(config.device))


def _job(config: EncodingConfig, bench: Bench, name: str) -> Job:
    path = _path(config, bench, name)
    is_done = partial(is_kept, path, bench)
    title = f"seed {bench.cell.seed}: {name}, judged by the {REFERENCE} of seed {bench.reference_seed}"
    return Job(title, path.with_suffix(".lock"), lambda: True, is_done, partial(_part, config, bench, name))


def _part(config: EncodingConfig, bench: Bench, name: str) -> Part:
    return make_part(_path(config, bench, name), bench, name, config.optimize)


def _path(config: EncodingConfig, bench: Bench, name: str) -> Path:
    return config.out / f"seed{bench.cell.seed}" / f"{name}.safetensors"


def _gather(config: EncodingConfig, benches: list[Bench], parts: list[dict[str, Part]]) -> dict[str, Any]:
    runs = [part.run for found in parts for part in found.values()]
    return {
        **header("study encoding", config),
        "generators": [generator_summary(bench.mixable.metadata) for bench in benches],
        "phases": {f"seed {run['seed']} {run['encoder']}": run["seconds"] for run in runs},
        "encodings": runs,
    }


ROWS = 3

STARTS = ("mean", "refine")

COLUMNS = {
    "error": ("error", 1.0, "{:.4f}"),
    "milliseconds": ("ms per\nimage,\nleast", 1.0, "{:.1f}"),
    "accuracy_reconstruction": ("recon-\nstruct.\n%", 100.0, "{:.1f}"),
    "mixability": ("mixa-\nbility\n%", 100.0, "{:.1f}"),
    "accuracy_mix": ("mixes\nright\n%", 100.0, "{:.1f}"),
    "color_error_mix": ("colour\nerror", 1.0, "{:.3f}"),
}

"""Key to head, factor, form of a number."""


def draw(bench: Bench, parts: Mapping[str, Part], runs: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """All figures by name.

    Args:
        bench: of the first seed.
        parts: of the first seed, by encoder.
        runs: of all seeds.
    """
    images, lenders = bench.tests.batch(slice(None))[0], bench.lenders.batch(slice(None))[0]
    steps = parts["mean"].run["trace"]["steps"]
    shown = [place for place, step in enumerate(steps) if str(step)[0] in "0125" or step == steps[-1]]
    frames = {name: parts[name].frames[shown, :ROWS] for name in STARTS}
    count = parts["mean"].mixes.shape[1]
    donors = lenders[bench.donors[:VARIATIONS, :count]]
    as_is = {name: part.frames[-1] for name, part in parts.items()}
    mixes = {name: part.mixes for name, part in parts.items()}
    return {
        "error": error_curves(runs),
        "mixability": mixability_bars(runs),
        "convergence": convergence(images[:ROWS], frames, [steps[place] for place in shown]),
        "variations": encoded_variations(images[:count], donors, as_is, mixes),
    }


def encoding_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each encoder, mean over the seeds."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("mean over the seeds", no_wrap=True)
    for head, _, _ in COLUMNS.values():
        view.add_column(head, justify="right")
    for name in encoder_names(runs):
        mine = [run for run in runs if run["encoder"] == name]
        cells = [_cell(key, [run[key] for run in mine]) for key in COLUMNS]
        view.add_row(name, *cells)
    return view


def _cell(key: str, values: Sequence[float | None]) -> str:
    """Of times the least, because whatever else runs on a machine can only add to them."""
    _, factor, form = COLUMNS[key]
    known = [factor * value for value in values if value is not None]
    return form.format(min(known) if key == "milliseconds" else mean(known)) if known else "–"
