"""`advmix study photo-autoencoder`: which way of training the photo autoencoder serves mixing best?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.audit.bootstrap import GroupBootstrap
from advmix.audit.evaluate import predict
from advmix.data import ImageSet, slices
from advmix.engine import make_fabric
from advmix.errors import UserError
from advmix.files import write_json
from advmix.options import require
from advmix.progress import console
from advmix.report import save_figures
from advmix.results import RESULTS, header
from advmix.seeds import generator
from advmix.studies.celeba.autoencoders_report import (
    classifiers_figure,
    classifiers_table,
    reached,
    variants_figure,
    variants_table,
)
from advmix.studies.celeba.bench import ALL, Bench
from advmix.studies.celeba.recipes import REFERENCE, reconstructed
from advmix.studies.celeba.scene import make_scene, random_mixes, share_entry
from advmix.studies.celeba.settings import FaceSettings
from advmix.studies.celeba.study import fit_jobs, jobs
from advmix.studies.celeba.survival import claim, open_pair, train_pair
from advmix.studies.celeba.variant_classifiers import classifier_rows, open_judges
from advmix.studies.celeba.variants import BASE, VARIANTS, check_variant
from advmix.studies.search.jobs import Point, collect
from advmix.studies.share import work

COMMAND = "study photo-autoencoder"
TARGET = {"accuracy_lost": 0.01, "survival": 0.95}
"""What a variant is to reach: at most so much accuracy lost on reconstructions, at least so many labels kept."""
Record = dict[str, Any]


@dataclass(frozen=True)
class AutoencodersConfig(FaceSettings):
    """Variants of the photo autoencoder side by side: how well they reconstruct, what mixing does under each, and how
    accurate the classifiers are that are trained with it.

    Longer training, perceptual and adversarial terms, mixes that must be recognised, the size of the grid; each with
    and without the residual. Measured on persons held out of the training split. Goes on where it was stopped, and may
    be started in any number of processes.

    Args:
        variants: base longer perceptual adversarial survival grid4 grid16 vector.
        methods: classifiers that are trained with each variant, such as nominal randmix advmix advmix-decoded, as for
            `advmix study celeba`, which shares them; none for generators alone.
        target: column of what is recognised.
        seed: of generators, classifiers and labelled images.
        images: held-out images, drawn at random.
        donors: random mixes of each.
        resamples: of the bootstrap.
        out: folder for table and figure.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    methods: tuple[str, ...] = ()
    target: str = "Smiling"
    seed: int = 0
    images: int = 1000
    donors: int = 4
    resamples: int = 2000
    out: Path = Path("runs/study/photo-autoencoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "images donors", least=1)
        require(self, "resamples", least=2)
        for name in self.variants:
            check_variant(name, "--variants")
        if self.variant != BASE:
            raise UserError(f"--variant {self.variant}: this study compares several; name them with --variants")
        if not self.variants or len(set(self.variants)) < len(self.variants):
            raise UserError("--variants: name at least one, and none twice")
        if self.methods:
            self.study(self.target, methods=self.methods)  # refuses what it does not know


def run_autoencoders(config: AutoencodersConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    make_fabric(config.device)
    bench, judge = open_pair(config, config.target, config.seed)
    claim(config.out, COMMAND, config, bench, judge)
    train_pair(bench, judge)
    claim(config.out, COMMAND, config, bench, judge)
    folder = config.out / "points"
    points = [
        Point("variants", folder / f"{name}.json", partial(_measured, config, bench, judge, name))
        for name in config.variants
    ]
    judges = open_judges(bench, config.variants, config.methods)
    work([*(point.job() for point in points), *(job for each in judges.values() for job in jobs(each))])
    results = {
        **header(COMMAND, config),
        "target": TARGET,
        **collect(points),
        "classifiers": classifier_rows(judges, config.resamples),
    }
    write_json(config.out / RESULTS, results)
    drawn = {"variants": variants_figure(results["variants"], results["target"])}
    console.print(variants_table(results["variants"], TARGET))
    if results["classifiers"]:
        drawn["classifiers"] = classifiers_figure(results["classifiers"])
        console.print(classifiers_table(results["classifiers"]))
    save_figures(drawn, config.out / "figures")
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


def _measured(config: AutoencodersConfig, bench: Bench, judge: Bench, name: str, _: Path) -> list[Record]:
    classifier, reference = bench.classifier("nominal")[0], judge.classifier(REFERENCE)[0]
    variant = bench.of_variant(name)
    work(list(fit_jobs(variant, [ALL])))
    return [{"variant": name, **measure(config, variant, classifier, reference)}]


def measure(config: AutoencodersConfig, bench: Bench, classifier: nn.Module, reference: nn.Module) -> Record:
    """What a variant does with held-out faces.

    Args:
        config: of the study.
        bench: with the faces and the variant's generator.
        classifier: of the study's kind; some variants were trained with it.
        reference: of another kind and with more labels, which no variant was trained with.
    """
    faces, (model, metadata) = bench.faces, bench.generator(ALL)
    order = torch.randperm(len(faces.judged), generator=generator(0, "celeba", "autoencoders"))[: config.images]
    images, persons = faces.judged[order], faces.persons[order]
    boot = GroupBootstrap.draw(persons, config.resamples, generator(0, "celeba", "bootstrap"))
    decoded = reconstructed(images, model)
    split = bench.config.search.split(model.generator.layers)
    record: Record = {key: metadata[key] for key in ("fingerprint", "fit_seconds")}
    record |= {"images": len(images), "error": pixel_error(images, decoded), "perp": list(split.perp)}
    for name, network in (("classifier", classifier), ("reference", reference)):
        before, after = (right(network, part, bench.device) for part in (images, decoded))
        record[f"{name}_accuracy"] = float(before.mean())
        lost = boot.interval(before, after, statistic=lambda whole, drawn: whole - drawn)
        record[f"{name}_lost"] = lost.to_dict()
    for name, residual in (("decoded", False), ("residual", True)):
        scene = make_scene(model, images, faces.labelled, reference, config.donors, residual)
        survival, change = random_mixes(scene, split)
        record[f"survival_{name}"], record[f"range_{name}"] = share_entry(survival, boot), change
    record["reached"], record["reached_by_reference"] = reached(record, TARGET)
    return record


def right(network: nn.Module, images: ImageSet, device: torch.device) -> Tensor:
    """Whether each image is classified rightly, `(N,)` of 0 and 1."""
    return (predict(network, images, device).argmax(dim=1) == images.labels).double()


def pixel_error(images: ImageSet, decoded: ImageSet) -> float:
    """Mean squared error, images in [-1, 1]."""
    parts = [
        F.mse_loss(2 * decoded.batch(rows)[0], 2 * images.batch(rows)[0], reduction="none").double().flatten(1).mean(1)
        for rows in slices(len(images), 500)
    ]
    return float(torch.cat(parts).mean())
