"""`advmix study celeba`: errors of all methods on faces, paired, with intervals over persons."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from advmix.audit.bootstrap import GroupBootstrap
from advmix.config import to_dict
from advmix.engine import environment
from advmix.files import write_json
from advmix.progress import console
from advmix.report import save_figures
from advmix.results import RESULTS, SCHEMA_VERSION
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.studies.celeba.bench import ALL, FEW, Bench
from advmix.studies.celeba.faces import divide, load
from advmix.studies.celeba.report import error_figure, error_table
from advmix.studies.celeba.settings import CelebaConfig
from advmix.studies.share import Job, work

COMMAND = "study celeba"


def run_celeba(config: CelebaConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    photos = load(config.data, config.target, config.persons)
    faces = {seed: divide(photos, config.labelled, config.judge, config.tint, seed) for seed in config.seeds}
    benches = [Bench(config, seed, part) for seed, part in faces.items()]
    inputs = {f"seed {bench.seed}": bench.faces.judged.fingerprint for bench in benches}
    open_run(config.out, COMMAND, config, resume=True, inputs=inputs)
    work([job for bench in benches for job in _jobs(bench)])
    results = gather(config, benches)
    write_json(config.out / RESULTS, results)
    save_figures({"errors": error_figure(results["methods"])}, config.out / "figures")
    console.print(error_table(results["methods"]))
    console.print(f"Numbers: {config.out / RESULTS}, picture: {config.out / 'figures' / 'errors.png'}")
    return results


def _jobs(bench: Bench) -> list[Job]:
    name, methods = f"seed {bench.seed}", bench.config.methods
    needed = [ALL, *([FEW] if any(bench.generator_of(method) == FEW for method in methods) else [])]
    fits = [
        Job(f"{name}: {kind}", bench.folder / f".{kind}.lock", lambda: True, has, partial(bench.fit, kind))
        for kind, has in ((kind, partial(bench.has_generator, kind)) for kind in needed)
    ]

    def ready() -> bool:
        return all(bench.has_generator(kind) for kind in needed)

    trains = [
        Job(
            f"{name}: {method}",
            bench.folder / f".{method}.lock",
            ready,
            partial(bench.is_done, method),
            partial(bench.do, method),
        )
        for method in methods
    ]
    return [*fits, *trains]


def gather(config: CelebaConfig, benches: list[Bench]) -> dict[str, Any]:
    """A row for each method: errors of every seed, and intervals over persons of their means."""
    found = {method: [bench.found(method) for bench in benches] for method in config.methods}
    persons = benches[0].faces.persons
    boot = GroupBootstrap.draw(persons, config.resamples, generator(0, "celeba", "bootstrap"))
    wrong = {method: mean_wrong([tensors for tensors, _ in rows]) for method, rows in found.items()}
    return {
        "schema": SCHEMA_VERSION,
        "study": "celeba",
        "config": {"command": COMMAND, **to_dict(config)},
        "environment": environment(),
        "search": to_dict(config.evaluation()),
        "judged": {"images": len(persons), "persons": int(persons.unique().numel())},
        "generators": [{"seed": bench.seed, **bench.summary()} for bench in benches],
        "methods": [_row(method, rows, wrong, boot) for method, rows in found.items()],
    }


def mean_wrong(found: list[dict[str, Tensor]]) -> Tensor:
    """Share of the seeds in which each judged image is wrong, `(N,)`."""
    return torch.stack([(~tensors["right"]).double() for tensors in found]).mean(0)


def change(wrong: Tensor, nominal: Tensor, boot: GroupBootstrap) -> dict[str, float] | None:
    """Of the error against nominal training's, relative and paired; None where that hardly errs, so that a resample
    may have no error at all.
    """
    if not boot.means(nominal).all():
        return None
    return boot.interval(wrong, nominal, statistic=lambda error, base: error / base - 1).to_dict()


def _row(
    method: str, rows: list[tuple[dict[str, Tensor], dict[str, Any]]], wrong: dict[str, Tensor], boot: GroupBootstrap
) -> dict[str, Any]:
    tensors = [found for found, _ in rows]
    return {
        "method": method,
        "error_by_seed": [1 - _share(found["right"]) for found in tensors],
        "error": boot.interval(wrong[method]).to_dict(),
        "change": change(wrong[method], wrong["nominal"], boot),
        "accuracy_mixed_by_seed": [_share(found["right_mixed"]) for found in tensors],
        "accuracy_worst_case_by_seed": [_share(found["right_worst"]) for found in tensors],
        "worst_case_images": len(tensors[0]["searched"]),
        "train_seconds": [metadata["train_seconds"] for _, metadata in rows],
    }


def _share(right: Tensor) -> float:
    return float(right.double().mean())
