"""`advmix audit`: how right a classifier is, on images as they are and under changes that should not matter."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.audit.bootstrap import GroupBootstrap
from advmix.audit.verdicts import Verdicts, verdicts
from advmix.classifiers import load_classifier
from advmix.config import to_dict
from advmix.data import Data, ImageSet
from advmix.data.sources import OwnImages
from advmix.encoders import fingerprint
from advmix.engine import environment, make_fabric
from advmix.errors import UserError
from advmix.files import read_json, write_json
from advmix.options import require
from advmix.progress import console
from advmix.report.audit import audit_sentences, audit_table
from advmix.results import RESULTS, SCHEMA_VERSION
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.stages.evaluate import generator_summary
from advmix.stages.sources import data_of, load_mixable
from advmix.training.methods import SearchOptions


@dataclass(frozen=True)
class AuditConfig:
    """How right is a classifier on the test images: as they are, as the generator draws them, mixed, in the worst case?

    Overall, by class and by group, with 95 % bootstrap intervals. Writes results.json and config.json.

    Args:
        classifier: folder that train wrote.
        generator: folder that fit wrote; its data set's test images are used.
        latents: folder that encode wrote, the pool of the search.
        search: the search for the worst case.
        residual: whether mixes keep what the generator cannot draw of an image.
        images: at most so many test images, drawn at random.
        resamples: of the bootstrap.
        seed: fixes images, donors and resamples.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    classifier: Path
    generator: Path
    latents: Path
    search: SearchOptions = field(default_factory=lambda: SearchOptions(restarts=5, steps=5))
    residual: bool = True
    images: int = 1000
    resamples: int = 2000
    seed: int = 0
    out: Path = Path("runs/audit")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        require(self, "images resamples", least=2)


def run_audit(config: AuditConfig) -> dict[str, Any]:
    """Audit, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    mixable = load_mixable(config.generator, config.latents, fabric.device)
    assert mixable is not None
    data = data_of(mixable.metadata, config.generator)
    network, metadata = load_classifier(config.classifier)
    test = _test_images(config, data, metadata)
    inputs = {"classifier": fingerprint(network), "generator": mixable.metadata["fingerprint"]}
    open_run(config.out, "audit", config, config.resume, {**inputs, "images": data.test.fingerprint})
    if (config.out / RESULTS).is_file():
        results: dict[str, Any] = read_json(config.out / RESULTS)
    else:
        begun = time.monotonic()
        rows = torch.randperm(len(test), generator=generator(config.seed, "audit", "images"))[: config.images]
        search, network = config.search.mixer(mixable.model, stop_early=True), network.to(fabric.device)
        options: dict[str, Any] = {"residual": config.residual, "seed": config.seed}
        found = verdicts(network, search, mixable.model.encoder, test[rows], mixable.pool, **options)
        results = {
            "schema": SCHEMA_VERSION,
            "study": "audit",
            "config": {"command": "audit", **to_dict(config)},
            "environment": environment(),
            "generator": generator_summary(mixable.metadata),
            "search": to_dict(config.search),
            "method": metadata["method"],
            **_entries(config, found, parts_of(data, rows)),
            "phases": {"audit": round(time.monotonic() - begun, 2)},
        }
        write_json(config.out / RESULTS, results)
    console.print(audit_table(results["parts"]))
    for sentence in audit_sentences(results):
        console.print(sentence, markup=False)
    console.print(f"Numbers: {config.out / RESULTS}", markup=False)
    return results


def _test_images(config: AuditConfig, data: Data, metadata: Mapping[str, Any]) -> ImageSet:
    """The test images, checked to be what the classifier is for."""
    test = data.test
    if list(test.classes) != metadata["classes"] or list(test.pixels.shape[1:]) != metadata["image"]:
        raise UserError(f"{config.classifier}: a classifier of other classes or sizes than the generator's images")
    return test


def parts_of(data: Data, rows: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """What numbers are given for: `all`, each class, each group; kind, name, and which of the chosen images.

    Args:
        data: with the test images.
        rows: `(N,)`, those that were chosen.
    """
    yield "all", "all", torch.ones(len(rows), dtype=torch.bool)
    labels = data.test.labels[rows]
    for index, name in enumerate(data.test.classes):
        yield "class", name, labels == index
    if isinstance(data, OwnImages):
        groups = data.photos.test.groups[rows]
        for index, name in enumerate(data.photos.groups):
            yield "group", name, groups == index


def _entries(
    config: AuditConfig, found: Verdicts, parts: Iterator[tuple[str, str, Tensor]]
) -> dict[str, list[dict[str, Any]]]:
    """A row for each part that has images."""
    rng = generator(config.seed, "audit", "bootstrap")
    rows = []
    for kind, name, mask in parts:
        count = int(mask.sum())
        if count:
            boot = GroupBootstrap.draw(torch.arange(count), config.resamples, rng)
            shares = {key: boot.interval(right[mask].double()).to_dict() for key, right in found.tensors().items()}
            rows.append({"kind": kind, "name": name, "images": count, **shares})
    return {"parts": rows}
