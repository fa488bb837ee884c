"""`advmix study celeba-pictures`: the paper's pictures of faces.

A real face, its reconstruction and every mix of it show a person. They go to `local-only`, with no results.json beside
them, and are for this machine; only faces that a StyleGAN made up from random latents go to `figures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from advmix.data.photos import Photos
from advmix.encoders import fingerprint
from advmix.errors import UserError
from advmix.files import write_json
from advmix.options import require
from advmix.progress import console
from advmix.report import save_figures
from advmix.report.figures import Gallery, variations
from advmix.results import RESULTS, header
from advmix.runs import claim_run
from advmix.stages.fit_gan import preview
from advmix.studies.celeba.acts import perturbations, poles, probability, search_of, widest, worst
from advmix.studies.celeba.bench import ALL, Bench
from advmix.studies.celeba.cast import Cast, facts_of, made_up_cast, open_gan, real_cast
from advmix.studies.celeba.faces import divide, judged_images, load
from advmix.studies.celeba.gallery_report import memory_figure, perturbation_figure, poles_figure, probability_figure
from advmix.studies.celeba.memory import neighbours
from advmix.studies.celeba.settings import FaceSettings

COMMAND = "study celeba-pictures"
LOCAL, PUBLISHED = "local-only", "figures"
METHODS = ("nominal", "linf4", "randmix", "advmix")
SHOWN = 8


@dataclass(frozen=True)
class GalleryConfig(FaceSettings):
    """Pictures of faces: two variations that a classifier tells apart with near certainty, worst variations, the
    perturbations of every method, and generated faces with their worst variation under each method.

    Of classifiers that `advmix study celeba` trained into --cells. Held-out real faces go to `local-only` in --out and
    must not be published. With --generator, faces are made up by a StyleGAN; with --publish also, they go to
    `figures`, and any other generator is refused. The training images that are nearest to them, of real people, go to
    `local-only`.

    Args:
        target: column of what is recognised.
        methods: whose classifiers are shown.
        generator: folder that `advmix fit --regime gan` wrote.
        publish: write pictures that may leave this machine: of made-up faces alone.
        seed: of the classifiers, and of all draws.
        candidates: faces among which those with the widest swing are shown.
        out: folder for the pictures.
    """

    target: str = "Smiling"
    methods: tuple[str, ...] = METHODS
    generator: Path | None = None
    publish: bool = False
    seed: int = 0
    candidates: int = 64
    out: Path = Path("runs/study/celeba-pictures")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "candidates", least=2)
        if self.publish and self.generator is None:
            raise UserError(
                "--publish: real faces, their reconstructions and mixes are not published; name a StyleGAN with "
                "--generator (advmix fit --regime gan)"
            )
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise UserError("--methods: name at least one, and none twice")


def run_gallery(config: GalleryConfig) -> dict[str, Any]:
    """Draw; returns what `results.json` holds, where there is one.

    Raises:
        UserError: a classifier or generator that is not there, or that may not be shown.
    """
    photos: Photos = load(config.data, config.target, config.persons, config.size, config.data_dir)
    if len(photos.classes) != 2:
        raise UserError(f"--target {config.target}: has {len(photos.classes)} classes; these pictures are of two")
    bench = open_bench(config, photos)
    shape = photos.train.images.shape
    gan = None if config.generator is None else open_gan(config.generator, shape).to(bench.device)
    classifiers = {method: bench.classifier(method)[0] for method in config.methods}
    faces_of = bench.generator(ALL)[1]["fingerprint"] if gan is None else fingerprint(gan, gan.config)
    inputs = {"images": bench.faces.judged.fingerprint, "generator": faces_of}
    claim_run(config.out, COMMAND, config, resume=True, inputs=inputs)
    count = config.candidates
    cast = (
        real_cast(bench, count) if gan is None else made_up_cast(gan, classifiers, photos.classes, count, config.seed)
    )
    place = folder_for(config, cast)
    figures, facts = draw(config, cast, classifiers)
    if gan is not None and config.generator is not None:
        figures |= preview(gan, config.seed)
        facts["made_by"] = facts_of(config.generator)
        remembered, facts["nearest"] = memory(cast, photos)
        save_figures({"nearest": remembered}, config.out / LOCAL)
    save_figures(figures, place)
    console.print(f"Pictures: {place}" + ("" if cast.made_up else ", of real people: for this machine alone"))
    results = {**header(COMMAND, config), **facts}
    if config.publish:
        results["generator"] = faces_of
        write_json(config.out / RESULTS, results)
    return results


def folder_for(config: GalleryConfig, cast: Cast) -> Path:
    """Where pictures of these faces may go.

    Raises:
        UserError: real faces were to be published.
    """
    if config.publish and not cast.made_up:
        raise UserError("--publish: these are real faces")
    return config.out / (PUBLISHED if config.publish else LOCAL)


def open_bench(config: GalleryConfig, photos: Photos) -> Bench:
    """The classifiers of a seed, and the faces that they are judged on.

    Raises:
        UserError: naming what is to be trained first.
    """
    study = config.study(config.target, methods=("nominal",), seeds=(config.seed,))
    bench = Bench(study, config.seed, divide(photos, config.labelled, "select", 0.0, config.seed))
    missing = [method for method in config.methods if not bench.is_trained(method)]
    if missing or (config.generator is None and not bench.has_generator(ALL)):
        what = missing[0] if missing else ALL
        raise UserError(f"{bench.folder}: no {what} there yet; train it with advmix study celeba --methods ...")
    return bench


def draw(
    config: GalleryConfig, cast: Cast, classifiers: dict[str, nn.Module]
) -> tuple[dict[str, Figure], dict[str, Any]]:
    """All pictures, and the numbers in them."""
    search, first, seed = search_of(cast, config.evaluation()), next(iter(classifiers)), config.seed
    ends = poles(cast, classifiers[first], search, seed)
    rows = widest(ends, SHOWN)
    few = cast[torch.arange(min(SHOWN, len(cast.labels)), device=cast.labels.device)]
    shown = {"poles": poles_figure(ends, rows, cast.classes, first)}
    table: dict[str, Any] = {}
    found = {}
    for method, classifier in classifiers.items():
        changed = worst(few, classifier, search, seed)
        found[method] = (changed, probability(classifier, few.images), probability(classifier, changed))
        table[method] = {"before": found[method][1].tolist(), "worst": found[method][2].tolist()}
        shown[f"misclassified-{method}"] = misclassified(cast, classifier, search, method, seed)
    shown["worst"] = probability_figure(few.images, found, cast.classes)
    varied = perturbations(few, classifiers[first], search, config.baseline.linf_steps, seed)
    shown["perturbations"] = perturbation_figure(few.images, varied)
    swing = {"low": ends.p_low[rows].tolist(), "high": ends.p_high[rows].tolist()}
    return shown, {"made_up": cast.made_up, "candidates": len(cast.labels), "poles": swing, "probabilities": table}


def memory(cast: Cast, photos: Photos) -> tuple[Figure, dict[str, Any]]:
    """The made-up faces that are nearest to an image of the training split, beside these, which are of real people; and
    how near all are, beside real faces of the other splits, if there are any, which nobody can have learned by heart.
    """
    images, count, device = photos.train.images, len(cast.labels), cast.images.device
    found = neighbours(cast.images, images)
    facts = {"made_up": found.summary()}
    if len(photos.splits) > 1:
        others = judged_images(photos, "test")[0].batch(slice(0, count))[0]
        facts["held_out"] = neighbours(others.to(device), images).summary()
    rows = found.distances[:, 0].argsort()[:SHOWN]
    nearest = [images.batch(found.places[row])[0] for row in rows]
    return memory_figure(cast.images[rows.to(device)].cpu(), nearest, found.distances[rows]), facts


def misclassified(cast: Cast, classifier: nn.Module, search: Any, method: str, seed: int) -> Figure:
    """The first faces that the classifier gets right, above the worst variation found of each."""
    right = (probability(classifier, cast.images) > 0.5).long() == cast.labels
    rows = torch.nonzero(right)[:SHOWN, 0]
    part = cast[rows if len(rows) else torch.arange(1, device=right.device)]
    changed = worst(part, classifier, search, seed)
    p = probability(classifier, changed)
    answers = (p > 0.5).long()
    confidence = torch.where(answers == 1, p, 1 - p)
    shown = (part.images.cpu(), changed.cpu(), part.labels.cpu())
    gallery = Gallery(method, *shown, answers.cpu(), confidence.cpu(), brief(cast.classes))
    return variations(gallery, "The face")


def brief(classes: tuple[str, ...]) -> tuple[str, ...]:
    """An attribute and its absence as they fit below a small picture."""
    return ("no", "yes") if classes[0] == f"not {classes[1]}" else classes
