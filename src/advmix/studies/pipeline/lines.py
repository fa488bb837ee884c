"""Pipelines by name, and what is trained for each of them under each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from advmix.errors import UserError
from advmix.studies.cell import Cell
from advmix.studies.settings import REFERENCE
from advmix.studies.share import Job
from advmix.training.methods import NEEDS_LATENTS


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
