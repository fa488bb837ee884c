"""Pipelines by name, and what is trained for each of them under each seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from advmix.audit.results import WorstCaseKey, as_record
from advmix.classifiers.networks import load_classifier
from advmix.commands.fit import measure_samples
from advmix.data.images import slices
from advmix.encoders.autoencoder import fingerprint
from advmix.encoders.optimize import OptimizeOptions
from advmix.generators.stylegan import StyleGan
from advmix.report.drawing import method_label
from advmix.report.tables import DIGIT_COLUMNS, comparable, mean_and_spread
from advmix.training.features import PenultimateFeatures, frechet_distance
from advmix.utils.errors import UserError
from experiments.cells import REFERENCE, Cell
from experiments.comparison import Measured, check_same, difference
from experiments.controls import NEEDS_LATENTS
from experiments.encoding.measure import Bench, make_bench, make_part
from experiments.jobs import Job
from experiments.search.measure import Bench as SearchBench
from experiments.search.measure import in_words
from experiments.search.results import percent


@dataclass(frozen=True)
class Pipeline:
    """A way from images to a generator and the latents of the training set.

    Attributes:
        label: as tables and charts call it.
        regime: of `advmix fit`.
        encoder: of `advmix encode`.
        features: whether Algorithm 2 compares the features of the discriminator, too.
    """

    label: str
    regime: str
    encoder: str
    features: bool = False


PIPELINES = {
    "autoencoder": Pipeline("Autoencoder", "autoencode", "network"),
    "gan": Pipeline("StyleGAN, encoder network", "gan", "network"),
    "gan-refine": Pipeline("StyleGAN, Algorithm 2", "gan", "refine"),
    "gan-features": Pipeline("StyleGAN, Algorithm 2 with features", "gan", "refine", features=True),
}


def check_pipelines(names: tuple[str, ...]) -> None:
    """Refuse a list that is empty, or names an unknown pipeline, or one twice.

    Raises:
        UserError: saying which.
    """
    unknown = [name for name in names if name not in PIPELINES]
    if unknown:
        raise UserError(f"--pipelines {unknown[0]}: unknown; choose from {' '.join(PIPELINES)}")
    if not names or len(set(names)) < len(names):
        raise UserError(f"--pipelines {' '.join(names)}: name at least one, and none twice")


@dataclass(frozen=True, eq=False)
class Line:
    """One pipeline under one seed.

    Attributes:
        pipeline: its name.
        cell: its generator, its latents, and the classifiers that mix with them.
        base: the autoencoder's cell of the same seed, which keeps the classifiers that no pipeline has a part in.
        judge: the autoencoder's cell of the next seed, whose `ceiling` says what an image shows.
    """

    pipeline: str
    cell: Cell
    base: Cell
    judge: Cell

    def home(self, method: str) -> Cell:
        """Where a classifier is trained."""
        return self.cell if method in NEEDS_LATENTS else self.base


def training(lines: Sequence[Line], methods: Sequence[str]) -> list[Job]:
    """Generators and latents, then classifiers, then their evaluations: each once, whoever shares it."""
    cells = chain.from_iterable((line.base, line.judge, line.cell) for line in lines)
    homes = [(line.home(method), method) for line in lines for method in methods]
    judges = [(line.judge, REFERENCE) for line in lines]
    jobs = [cell.fit_job() for cell in cells]
    jobs += [cell.train_job(method) for cell, method in (*judges, *homes)]
    jobs += [_evaluation(line, method) for line in lines for method in methods]
    return list({job.title: job for job in jobs}.values())


def _evaluation(line: Line, method: str) -> Job:
    cell, home = line.cell, line.home(method)
    return Job(
        f"{cell.name}: {method}, evaluation",
        cell.place(f".{method}.lock"),
        lambda: cell.is_fitted() and home.is_trained(method),
        partial(cell.is_evaluated, method),
        partial(cell.evaluate, method, home),
    )


Record = dict[str, Any]

AT_ONCE = 256

OF_ENCODING = (
    "generator",
    "reference",
    "reference_seed",
    "error",
    "milliseconds",
    "accuracy_image",
    "accuracy_reconstruction",
    "mixability",
    "accuracy_mix",
    "label_of_donor",
    "color_error_mix",
    "color_follows",
)

"""What is kept of the encoding study's numbers."""


def classifiers(line: Line, methods: Sequence[str], device: torch.device) -> list[Record]:
    """The runs of `advmix evaluate`, each with the circumstances of its worst case."""
    cell = line.cell
    settings, mixable = cell.settings, cell.mixable(device)
    images = SearchBench(cell, settings.worst_images, device).images_name
    words, pool = in_words(settings.evaluation(), cell.seed), mixable.pool.fingerprint
    found = []
    for method in methods:
        home = line.home(method)
        (run,) = cell.evaluate(method, home)["runs"]
        key = WorstCaseKey(run["generator"], pool, words, images)
        name = fingerprint(load_classifier(home.place(method))[0])
        found.append({"pipeline": line.pipeline, **run, "classifier": name, "key": as_record(key)})
    return found


def quality(
    line: Line, sizes: tuple[int, int, int], optimize: OptimizeOptions, device: torch.device, pictures: Path
) -> list[Record]:
    """How good generator and latents are, as the reference classifier sees them.

    Args:
        line: a pipeline under a seed.
        sizes: test images to mix, donors of each, training images that the donors are drawn from.
        optimize: settings of Algorithm 2.
        device: for all networks.
        pictures: file for what the encoding study keeps of an encoder.
    """
    cell, judge = line.cell, line.judge
    pipeline, bench = PIPELINES[line.pipeline], make_bench(cell, judge, None, sizes, device)
    if pipeline.features:
        bench = replace(bench, features=cell.fitted)
    part = make_part(pictures, bench, pipeline.encoder, optimize)
    record = {
        "pipeline": line.pipeline,
        "seed": cell.seed,
        **{key: part.run[key] for key in OF_ENCODING},
        **{key: bench.mixable.metadata[key] for key in ("fit_seconds", "reconstruction_mse")},
        "encode_seconds": cell.encode_seconds(),
        "frechet_reconstruction": frechet_of_pool(bench),
        "frechet_samples": None,
        "class_shares": None,
    }
    decoder = bench.mixable.model.generator
    if isinstance(decoder, StyleGan):
        found = measure_samples(decoder, bench.data.train, bench.reference, cell.seed)
        record |= {"frechet_samples": found["frechet_distance"]}
        record |= {key: found[key] for key in ("class_shares", "class_shares_real", "class_shares_samples")}
    return [record]


def frechet_of_pool(bench: Bench) -> float:
    """Fréchet distance between the training images and what the generator makes of their latents."""
    images, pool, decoder = bench.data.train, bench.mixable.pool, bench.mixable.model.generator
    parts = list(slices(len(images), AT_ONCE))
    real = (images.batch(part)[0].to(bench.device) for part in parts)
    return frechet_distance(real, (decoder(pool[part]) for part in parts), PenultimateFeatures(bench.reference))


PAIRS = (("advmix", "nominal"), ("advmix", "randmix"), ("randmix", "nominal"))

QUALITY = {
    "error": ("reconstruction error", 1.0, "{:.4f}"),
    "accuracy_reconstruction": ("reconstructions read, %", 100.0, "{:.1f}"),
    "mixability": ("labels survive, %", 100.0, "{:.1f}"),
    "color_follows": ("colour follows, %", 100.0, "{:.1f}"),
    "frechet_reconstruction": ("Fréchet, reconstructions", 1.0, "{:.2f}"),
    "frechet_samples": ("Fréchet, samples", 1.0, "{:.2f}"),
    "rarest": ("rarest class, %", 100.0, "{:.1f}"),
    "commonest": ("commonest class, %", 100.0, "{:.1f}"),
    "fit_seconds": ("fit, seconds", 1.0, "{:.0f}"),
    "encode_seconds": ("encode, seconds", 1.0, "{:.0f}"),
}

"""Key of a pipeline's number to its name, factor and form."""

FIRST_COLUMN = 18


def by_pipeline(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Name and records, in the order in which the pipelines come."""
    for name in dict.fromkeys(record["pipeline"] for record in records):
        yield name, [record for record in records if record["pipeline"] == name]


def check_runs(runs: Sequence[Record]) -> None:
    """Refuse runs of one pipeline and seed whose worst cases do not compare.

    Raises:
        UserError: naming two.
    """
    for _, mine in by_pipeline(runs):
        comparable(mine)
        for seed in dict.fromkeys(run["seed"] for run in mine):
            check_same([Measured.of(run) for run in mine if run["seed"] == seed])


def comparisons(runs: Sequence[Record]) -> list[Record]:
    """Differences of worst cases, seed by seed, within each pipeline: across them there are none to take.

    Raises:
        UserError: worst cases that do not compare.
    """
    found = []
    for pipeline, mine in by_pipeline(runs):
        for pair in PAIRS:
            first, second = ([Measured.of(run) for run in mine if run["method"] == method] for method in pair)
            if first and second:
                values = [difference(*numbers) for numbers in zip(first, second, strict=True)]
                mean, spread = mean_and_spread(values)
                summary = {"mean": round(mean, 6), "spread": round(spread, 6)}
                found.append({"pipeline": pipeline, "first": pair[0], "second": pair[1], **summary, "values": values})
    return found


def classifier_table(runs: Sequence[Record]) -> Table:
    """Accuracies in percent, mean and standard deviation over the seeds: a section per pipeline, a row per method.

    Raises:
        UserError: worst cases of one section that do not compare.
    """
    check_runs(runs)
    note = "worst cases compare within a pipeline only"
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False, caption=note)
    view.add_column("accuracy, %", width=FIRST_COLUMN)
    columns = [column for column in DIGIT_COLUMNS if any(run.get(column.key) is not None for run in runs)]
    for column in columns:
        view.add_column(column.short, justify="right")
    for pipeline, mine in by_pipeline(runs):
        view.add_row(f"[bold]{PIPELINES[pipeline].label}[/]")
        for method in dict.fromkeys(run["method"] for run in mine):
            rows = [run for run in mine if run["method"] == method]
            view.add_row(method_label(method), *(percent([run[column.key] for run in rows]) for column in columns))
        view.add_section()
    return view


def quality_table(records: Sequence[Record]) -> Table:
    """Generator and latents, mean over the seeds: a row per number, a column per pipeline."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("mean over the seeds")
    for pipeline, _ in by_pipeline(records):
        view.add_column("\n".join(PIPELINES[pipeline].label.split(", ")), justify="right")
    for row in quality_rows(records):
        view.add_row(*row)
    return view


def quality_rows(records: Sequence[Record]) -> Iterator[list[str]]:
    """Its rows: the name, and a number for each pipeline."""
    pipelines = [mine for _, mine in by_pipeline(records)]
    for key, (name, factor, form) in QUALITY.items():
        yield [name, *(_mean([factor * value for value in known(mine, key)], form) for mine in pipelines)]


def known(records: Sequence[Record], key: str) -> list[float]:
    """A number of each record that has it; the shares of its rarest and its commonest class as such."""
    extreme = {"rarest": min, "commonest": max}.get(key)
    if extreme is not None:
        return [extreme(record["class_shares"].values()) for record in records if record["class_shares"] is not None]
    return [record[key] for record in records if record[key] is not None]


def _mean(values: Sequence[float], form: str) -> str:
    return form.format(mean_and_spread(values)[0]) if values else "–"
