"""`advmix study celeba-survival`: do labels survive mixing, attribute by attribute, split by split?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from advmix.audit.bootstrap import GroupBootstrap
from advmix.audit.layers import layer_scores, other_label
from advmix.audit.proposal import propose_split
from advmix.audit.survival import Survival
from advmix.data.photos import Photos
from advmix.encoders import fingerprint
from advmix.engine import make_fabric
from advmix.errors import UserError
from advmix.files import write_json
from advmix.latents import Latents, Split
from advmix.options import require
from advmix.progress import console
from advmix.report import save_figures
from advmix.results import RESULTS, header
from advmix.runs import claim_run
from advmix.seeds import generator
from advmix.stages.inspect import resolutions
from advmix.stages.inspect_entries import flags
from advmix.studies.celeba.bench import ALL, Bench
from advmix.studies.celeba.faces import divide, load
from advmix.studies.celeba.recipes import REFERENCE
from advmix.studies.celeba.scene import (
    Scene,
    make_scene,
    random_mixes,
    searched_mixes,
    share_entry,
    with_all_labels,
)
from advmix.studies.celeba.settings import FaceSettings
from advmix.studies.celeba.study import class_counts, fit_jobs, training_job
from advmix.studies.celeba.survival_report import survival_figure, survival_table
from advmix.studies.search.jobs import Point, collect
from advmix.studies.share import work

COMMAND = "study celeba-survival"
TARGETS = ("Smiling", "Eyeglasses", "Young", "Wearing_Lipstick")
PROPOSED = "proposed"
Record = dict[str, Any]


@dataclass(frozen=True)
class SurvivalConfig(FaceSettings):
    """Label survival on faces: how often a reference still sees the label in a mix, by attribute and by split.

    Splits are the finest layers, all styles, and what `advmix inspect` would propose. Mixes are random, and those that
    a search finds against nominal training. Images are of persons held out of the training split. Goes on where it was
    stopped, and may be started in any number of processes.

    Args:
        targets: columns of what is recognised.
        seed: of generator, classifiers and labelled images.
        images: held-out images that are mixed, drawn at random.
        donors: random mixes of each.
        threshold: share of labels that a proposed split must keep, in [0, 1].
        resamples: of the bootstrap.
        out: folder for table and figure.
    """

    targets: tuple[str, ...] = TARGETS
    seed: int = 0
    images: int = 500
    donors: int = 4
    threshold: float = 0.95
    resamples: int = 2000
    out: Path = Path("runs/study/celeba-survival")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "images donors", least=1)
        require(self, "threshold", within=(0, 1))
        require(self, "resamples", least=2)
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise UserError("--targets: name at least one, and none twice")


def run_survival(config: SurvivalConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    make_fabric(config.device)
    claim(config.out, COMMAND, config, *open_pair(config, config.targets[0], config.seed))
    folder = config.out / "points"
    points = [
        Point("targets", folder / f"{target}.json", partial(measure_target, config, target))
        for target in config.targets
    ]
    work([point.job() for point in points])
    results = {
        **header(COMMAND, config),
        **collect(points),
    }
    write_json(config.out / RESULTS, results)
    save_figures({"survival": survival_figure(results["targets"], config.threshold)}, config.out / "figures")
    console.print(survival_table(results["targets"]))
    console.print(f"Numbers: {config.out / RESULTS}, picture: {config.out / 'figures' / 'survival.png'}")
    return results


def open_pair(config: FaceSettings, target: str, seed: int) -> tuple[Bench, Bench]:
    """The bench of an attribute, and that of its judge."""
    photos: Photos = load(config.data, target, config.persons, config.size, config.data_dir)
    study = config.study(target, methods=("nominal",), seeds=(seed,))
    bench = Bench(study, seed, divide(photos, config.labelled, "select", 0.0, seed))
    return bench, with_all_labels(bench, photos)


def claim(out: Path, command: str, config: FaceSettings, bench: Bench, judge: Bench) -> None:
    """The folder `out` belongs to what is measured in it: images, generator, pool and classifiers, as far as they are
    there yet.

    Raises:
        UserError: it was begun with others.
    """
    target, faces = bench.config.target, bench.faces
    inputs: dict[str, str | None] = {f"images ({target})": faces.judged.fingerprint}
    if bench.has_generator(ALL):
        lent = bench.lent()
        inputs |= {f"generator ({target})": lent["generator"], f"pool ({target})": lent["pool"]}
    for home, method in ((bench, "nominal"), (judge, REFERENCE)):
        if home.is_trained(method):
            inputs[f"classifier {method} ({target})"] = fingerprint(home.classifier(method)[0])
    claim_run(out, command, config, resume=True, inputs=inputs)


def train_pair(bench: Bench, judge: Bench) -> None:
    """The generator, the classifier that is searched against, and the reference."""
    work([*fit_jobs(bench, [ALL]), training_job(bench, "nominal"), training_job(judge, REFERENCE)])


def measure_target(config: SurvivalConfig, target: str, _: Path) -> list[Record]:
    """Train what is missing for an attribute, and measure. The images of one attribute at a time are in memory."""
    bench, judge = open_pair(config, target, config.seed)
    train_pair(bench, judge)
    claim(config.out, COMMAND, config, bench, judge)
    return [measure(config, bench, judge)]


def measure(config: SurvivalConfig, bench: Bench, judge: Bench) -> Record:
    """Everything about one attribute, as one record."""
    model, faces, residual = bench.generator(ALL)[0], bench.faces, config.baseline.residual
    order = torch.randperm(len(faces.judged), generator=generator(0, "celeba", "survival"))
    images, reference = faces.judged[order[: config.images]], judge.classifier(REFERENCE)[0]
    persons = faces.persons[order[: config.images]]
    boot = GroupBootstrap.draw(persons, config.resamples, generator(0, "celeba", "bootstrap"))
    scene = make_scene(model, images, faces.labelled, reference, config.donors, residual)
    splits, proposal = named_splits(config, scene, faces.labelled.labels)
    nominal = bench.classifier("nominal")[0]
    mixed = {name: random_mixes(scene, split) for name, split in splits.items()}
    right = next(iter(mixed.values()))[0].right
    return {
        "target": bench.config.target,
        "generator": bench.summary()[ALL],
        "images": len(images),
        "classes": class_counts(images),
        "right_unmixed": float(right.double().mean()),
        "proposal": proposal,
        "splits": [
            {"name": name, "flags": flags(split), **_of_split(config, scene, split, mixed[name], nominal, boot)}
            for name, split in splits.items()
        ],
    }


def named_splits(config: SurvivalConfig, scene: Scene, pool_labels: torch.Tensor) -> tuple[dict[str, Split], Record]:
    """The paper's fine layers, more of them, all styles, and the proposed split where there is one; how sure it is."""
    layers = scene.model.generator.layers
    splits = {
        "finest": Split.fine(layers, 2),
        "two finest": Split.fine(layers, 4),
        "all styles": Split.fine(layers, layers),
    }
    labels, device = scene.images.labels, scene.pool.styles.device
    donors = other_label(labels, pool_labels, generator(0, "celeba", "inspect"))
    lent: Latents = scene.pool[donors.to(device)]
    scores = layer_scores(scene.model.generator, scene.reference, scene.latents, labels, lent, pool_labels[donors])
    rng = generator(0, "celeba", "resamples")
    found = propose_split(scores, config.threshold, rng=rng, groups=resolutions(scene.model.config))
    if found.split is not None:
        splits[PROPOSED] = found.split
    return splits, {"flags": None if found.split is None else flags(found.split), "sure": found.sure}


def _of_split(
    config: SurvivalConfig,
    scene: Scene,
    split: Split,
    mixed: tuple[Survival, float],
    classifier: torch.nn.Module,
    boot: GroupBootstrap,
) -> Record:
    survival, change = mixed
    search = replace(config.search, perp=split.perp, perp_grid=split.grid).mixer(scene.model)
    labels, classes = scene.images.labels, scene.images.classes
    return {
        "survival": share_entry(survival, boot),
        "survival_by_class": {name: share_entry(survival, boot, labels == place) for place, name in enumerate(classes)},
        "survival_searched": share_entry(searched_mixes(scene, search, classifier), boot),
        "range": change,
    }
