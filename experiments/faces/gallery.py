"""`python -m experiments celeba-pictures`: the paper's pictures of faces.

A real face, its reconstruction and every mix of it show a person. They go to `local-only`, with no results.json beside
them, and are for this machine; only faces that a StyleGAN made up from random latents go to `figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from advmix.commands.fit import draw_preview
from advmix.data.photos.load import Photos
from advmix.encoders.autoencoder import fingerprint
from advmix.report.drawing import INK, MUTED, RIGHT, WRONG, Canvas, frame, method_color, method_label
from advmix.report.figures import VariationGallery, rescaled_difference, variations
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from experiments.faces.cell import ALL, Bench
from experiments.faces.dataset import divide, judged_images, load
from experiments.faces.settings import FaceSettings
from experiments.faces.variations import (
    Cast,
    Poles,
    facts_of,
    made_up_cast,
    neighbours,
    open_gan,
    perturbations,
    poles,
    probability,
    real_cast,
    search_of,
    widest,
    worst,
)

COMMAND = "study celeba-pictures"

LOCAL, PUBLISHED = "local-only", "figures"

METHODS = ("nominal", "linf4", "randmix", "advmix")

SHOWN = 8


@dataclass(frozen=True)
class GalleryConfig(FaceSettings):
    """Pictures of faces: two variations that a classifier tells apart with near certainty, worst variations, the
    perturbations of every method, and generated faces with their worst variation under each method.

    Of classifiers that `python -m experiments celeba` trained into --cells. Held-out real faces go to `local-only` in
    --out and must not be published. With --generator, faces are made up by a StyleGAN; with --publish also, they go to
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
        check_values(self, "candidates", least=2)
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
        figures |= draw_preview(gan, config.seed)
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
        raise UserError(f"{bench.folder}: no {what} there yet; train it with the experiment celeba, --methods ...")
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
    gallery = VariationGallery(method, *shown, answers.cpu(), confidence.cpu(), brief(cast.classes))
    return variations(gallery, "The face")


def brief(classes: tuple[str, ...]) -> tuple[str, ...]:
    """An attribute and its absence as they fit below a small picture."""
    return ("no", "yes") if classes[0] == f"not {classes[1]}" else classes


SIZE, PITCH = 0.86, 0.98


def poles_figure(found: Poles, rows: Tensor, classes: Sequence[str], method: str) -> Figure:
    """A column for each face: as it is, and the two variations that one classifier is most certain about."""
    left, head, line = 1.75, 0.5, 1.2
    canvas = Canvas(left + PITCH * len(rows) + 0.05, head + 3 * line)
    canvas.text(0.1, 0.2, f"One face, one classifier ({method_label(method)})", 11, ha="left", weight="bold")
    parts = (
        ("The face", found.faces, None, INK),
        (f"“{classes[1]}”", found.high, found.p_high, RIGHT),
        (f"“{classes[0]}”", found.low, 1 - found.p_low, WRONG),
    )
    for place, (name, images, certainty, color) in enumerate(parts):
        top = head + place * line
        canvas.text(left - 0.15, top + SIZE / 2, name, 10, ha="right", weight="bold", color=color)
        for column, row in enumerate(rows.tolist()):
            x = left + column * PITCH
            axes = canvas.image(images[row], x, top, SIZE, SIZE)
            if certainty is not None:
                frame(axes, color)
                canvas.text(x + SIZE / 2, top + SIZE + 0.13, f"{100 * float(certainty[row]):.1f} %", 8.5)
    return canvas.figure


def probability_figure(
    faces: Tensor, found: Mapping[str, tuple[Tensor, Tensor, Tensor]], classes: Sequence[str]
) -> Figure:
    """Faces above the worst variation of each under every method, with the probability of the second class.

    Args:
        faces: N of them.
        found: method to worst variations, and the probability `(N,)` before and on them.
        classes: names.
    """
    left, head, line = 1.75, 0.5, 1.24
    canvas = Canvas(left + PITCH * len(faces) + 0.05, head + line * (len(found) + 1))
    canvas.text(0.1, 0.2, f"Probability of “{classes[1]}”, before → worst variation", 11, ha="left", weight="bold")
    canvas.text(left - 0.15, head + SIZE / 2, "The face", 10, ha="right", weight="bold")
    for column, face in enumerate(faces):
        canvas.image(face, left + column * PITCH, head, SIZE, SIZE)
    for place, (method, (images, before, after)) in enumerate(found.items(), start=1):
        top = head + place * line
        canvas.text(
            left - 0.15, top + SIZE / 2, method_label(method), 10, ha="right", weight="bold", color=method_color(method)
        )
        for column, image in enumerate(images):
            x, flipped = left + column * PITCH, (before[column] > 0.5) != (after[column] > 0.5)
            frame(canvas.image(image, x, top, SIZE, SIZE), WRONG if flipped else RIGHT)
            words = f"{100 * float(before[column]):.0f} → {100 * float(after[column]):.0f} %"
            canvas.text(x + SIZE / 2, top + SIZE + 0.13, words, 8.5, color=WRONG if flipped else INK)
    return canvas.figure


def perturbation_figure(faces: Tensor, found: Mapping[str, Tensor]) -> Figure:
    """What every method makes of the faces, each row above its difference, scaled to its maximum."""
    left, head, pair = 1.75, 0.15, 2 * 0.9 + 0.14
    canvas = Canvas(left + PITCH * len(faces) + 0.05, head + 1.04 + pair * len(found))
    canvas.text(left - 0.15, head + SIZE / 2, "The face", 10, ha="right", weight="bold")
    for column, face in enumerate(faces):
        canvas.image(face, left + column * PITCH, head, SIZE, SIZE)
    for place, (method, images) in enumerate(found.items()):
        top = head + 1.04 + place * pair
        canvas.text(
            left - 0.15, top + SIZE / 2, method_label(method), 10, ha="right", weight="bold", color=method_color(method)
        )
        canvas.text(left - 0.15, top + 0.9 + SIZE / 2, "difference, scaled", 8.5, ha="right", color=MUTED)
        for column, pictures in enumerate(zip(images, rescaled_difference(faces, images), strict=True)):
            for row, picture in enumerate(pictures):
                canvas.image(picture, left + column * PITCH, top + 0.9 * row, SIZE, SIZE)
    return canvas.figure


def memory_figure(faces: Tensor, nearest: Sequence[Tensor], distances: Tensor) -> Figure:
    """Made-up faces, each above the training images that are nearest to it, with the distance of each.

    Args:
        faces: N of them.
        nearest: `(K, 3, H, W)` for each.
        distances: `(N, K)`.
    """
    left, head, line = 1.75, 0.5, 1.2
    canvas = Canvas(left + PITCH * len(faces) + 0.05, head + line * (1 + distances.shape[1]))
    title = "Made-up faces that are nearest to a training image, and the images; difference of a pixel, percent"
    canvas.text(0.1, 0.2, title, 11, ha="left", weight="bold")
    canvas.text(left - 0.15, head + SIZE / 2, "Made up", 10, ha="right", weight="bold")
    canvas.text(left - 0.15, head + line + SIZE / 2, "Training images", 10, ha="right", weight="bold", color=MUTED)
    for column, (face, images) in enumerate(zip(faces, nearest, strict=True)):
        x = left + column * PITCH
        canvas.image(face, x, head, SIZE, SIZE)
        for row, image in enumerate(images):
            top = head + (row + 1) * line
            canvas.image(image, x, top, SIZE, SIZE)
            canvas.text(x + SIZE / 2, top + SIZE + 0.13, f"{100 * float(distances[column, row]):.1f}", 8.5)
    return canvas.figure
