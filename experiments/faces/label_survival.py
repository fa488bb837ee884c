"""Mixes of held-out faces, and what becomes of them in the eyes of an independent reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

from advmix.data.images import ImageSet, slices
from advmix.data.photos.load import Photos
from advmix.encoders.autoencoder import Autoencoder, fingerprint
from advmix.encoders.network import encoded
from advmix.inspect.run import flags, resolutions
from advmix.inspect.scores import layer_scores, other_label, propose_split
from advmix.inspect.survival import Survival, mixes
from advmix.intervals import GroupBootstrap
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix
from advmix.report.drawing import INK, MUTED, TRACK, Canvas, method_color
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import check_values
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.progress import console, track
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import eval_mode, generator
from experiments.faces.cell import ALL, Bench
from experiments.faces.dataset import divide, load
from experiments.faces.figures import new_table, percent, span
from experiments.faces.settings import REFERENCE, FaceSettings
from experiments.faces.study import class_counts, fit_jobs, training_job
from experiments.jobs import work
from experiments.search.grid import Point, collect

BATCH = 250


@dataclass(frozen=True, eq=False)
class Scene:
    """N images with what is needed to mix them, on one device.

    Args:
        model: generator and encoder.
        images: of persons that nothing was trained on.
        latents: of the images, with their residual where mixes keep it.
        pool: latents whose `z⊥` are lent.
        donors: `(D, N)`, places in the pool.
        reference: images in [0, 1] to logits.
    """

    model: Autoencoder
    images: ImageSet
    latents: Latents
    pool: Latents
    donors: Tensor
    reference: nn.Module


def make_scene(
    model: Autoencoder, images: ImageSet, lenders: ImageSet, reference: nn.Module, donors: int, residual: bool
) -> Scene:
    """Encode everything, and draw the donors: the same ones for any generator."""
    latents, device = encoded(images, model.encoder), next(model.parameters()).device
    if residual:
        parts = slices(len(images), BATCH)
        complete = model.generator.complete
        latents = Latents.cat([complete(latents[rows], images.batch(rows)[0].to(device)) for rows in parts])
    places = torch.randint(len(lenders), (donors, len(images)), generator=generator(0, "celeba", "donors"))
    return Scene(model, images, latents, encoded(lenders, model.encoder), places, reference)


def with_all_labels(bench: Bench, photos: Photos) -> Bench:
    """The bench whose labelled images are all training images: its reference knows more than any classifier that is
    compared, and is of another kind.
    """
    config = replace(bench.config, labelled=None)
    return Bench(config, bench.seed, divide(photos, None, config.judge, 0.0, bench.seed))


@torch.no_grad()
def random_mixes(scene: Scene, split: Split) -> tuple[Survival, float]:
    """What the reference sees in mixes with the donors, and the range of variation: mean absolute change of a pixel, in
    [0, 1], from the unmixed image.
    """
    dec, answers, change = scene.model.generator, [], []
    with eval_mode(scene.reference, dec) as (judge, _), track("mix and ask", len(scene.images)) as advance:
        for rows in slices(len(scene.images), BATCH):
            latents = scene.latents[rows]
            plain = dec(latents)
            seen = [judge(plain).argmax(dim=1)]
            for mix in mixes(dec, split, latents, scene.pool, scene.donors[:, rows]):
                seen.append(judge(mix).argmax(dim=1))
                change.append((mix - plain).abs().cpu().double().mean(dim=(1, 2, 3)))
            answers.append(torch.stack(seen).cpu())
            advance(rows.stop - rows.start, "")
    return Survival.of(torch.cat(answers, dim=1), scene.images.labels), float(torch.cat(change).mean())


def searched_mixes(scene: Scene, search: AdvMix, classifier: nn.Module) -> Survival:
    """What the reference sees in the worst mix that a search finds of each image against a classifier."""
    answers, device = [], scene.latents.styles.device
    with track("search and ask", len(scene.images)) as advance:
        for rows in slices(len(scene.images), BATCH):
            latents, labels = scene.latents[rows], scene.images.labels[rows].to(device)
            rng = generator(0, "celeba", "search", rows.start)
            found = search(classifier, latents, labels, scene.pool, rng=rng)
            with torch.no_grad(), eval_mode(scene.reference, search.generator) as (judge, dec):
                answers.append(torch.stack([judge(part).argmax(dim=1) for part in (dec(latents), found.images)]).cpu())
            advance(rows.stop - rows.start, "")
    return Survival.of(torch.cat(answers, dim=1), scene.images.labels)


def share_entry(survival: Survival, boot: GroupBootstrap, among: Tensor | None = None) -> dict[str, float] | None:
    """The share of labels that survive, over persons, as it goes into `results.json`; None where nothing counts."""
    share = survival.interval(boot, among)
    return None if share is None else share.to_dict()


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
        check_values(self, "images donors", least=1)
        check_values(self, "threshold", within=(0, 1))
        check_values(self, "resamples", least=2)
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise UserError("--targets: name at least one, and none twice")


def run_survival(config: SurvivalConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    open_device(config.device)
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
    search = replace(config.search, perp=split.perp, perp_grid=split.grid).mixer(scene.model.generator)
    labels, classes = scene.images.labels, scene.images.classes
    return {
        "survival": share_entry(survival, boot),
        "survival_by_class": {name: share_entry(survival, boot, labels == place) for place, name in enumerate(classes)},
        "survival_searched": share_entry(searched_mixes(scene, search, classifier), boot),
        "range": change,
    }


RANDOM, SEARCHED = method_color("randmix"), method_color("advmix")


def survival_table(records: Sequence[Record]) -> Table:
    """A section per attribute, a row per split."""
    view = new_table("random\nmixes, %", "interval", "searched\nmixes, %", "interval", "range, %")
    for record in records:
        view.add_row(f"[bold]{record['target']}[/]")
        for row in record["splits"]:
            cells = [cell for key in ("survival", "survival_searched") for cell in _cells(row[key])]
            view.add_row(row["name"], *cells, f"{100 * row['range']:.1f}")
        view.add_section()
    return view


def _cells(share: Record | None) -> tuple[str, str]:
    return ("–", "–") if share is None else (percent(share), span(share))


LEFT, WIDTH, GAP, HEAD, LINE = 2.4, 3.4, 0.35, 0.66, 0.27


def survival_figure(records: Sequence[Record], threshold: float) -> Figure:
    """A block per attribute, a line per split: labels that survive random mixes and searched ones; then the range of
    variation, without which survival says nothing.
    """
    rows = [(record["target"], row) for record in records for row in record["splits"]]
    canvas = Canvas(LEFT + WIDTH + GAP + 1.75, HEAD + LINE * len(rows) + 0.62)
    canvas.text(LEFT, 0.2, "Labels that survive", 11, ha="left", weight="bold")
    canvas.text(LEFT, 0.42, "percent of the mixes; light: random, dark: searched for", 8.5, ha="left", color=MUTED)
    canvas.text(LEFT + WIDTH + GAP, 0.2, "Range", 11, ha="left", weight="bold")
    canvas.text(LEFT + WIDTH + GAP, 0.42, "mean change of a pixel, %", 8.5, ha="left", color=MUTED)
    shares = canvas.axes(LEFT, HEAD, WIDTH, LINE * len(rows))
    ranges = canvas.axes(LEFT + WIDTH + GAP, HEAD, 1.2, LINE * len(rows))
    shares.axvline(100 * threshold, color=INK, linewidth=0.8, linestyle=":")
    for line, (target, row) in enumerate(rows):
        y = HEAD + (line + 0.5) * LINE
        canvas.text(LEFT - 0.14, y, row["name"], 9, ha="right")
        if not line or rows[line - 1][0] != target:
            canvas.text(0.1, y, target.replace("_", " "), 9.5, ha="left", weight="bold")
        for key, color, shift in (("survival", RANDOM, -0.13), ("survival_searched", SEARCHED, 0.13)):
            if row[key] is not None:
                interval(shares, line + shift, row[key], color)
        ranges.barh(line, 100 * row["range"], height=0.55, color=MUTED)
    for axes in (shares, ranges):
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_locator(nice_ticks())
        axes.tick_params(labelsize=8, colors=MUTED, length=0)
        axes.grid(axis="x", color=TRACK, linewidth=1)
        axes.set_axisbelow(True)
    ranges.set_xlim(left=0)
    note = f"Of what the reference gets right unmixed, with 95 % intervals; dotted: {100 * threshold:g} %"
    canvas.text(LEFT, canvas.height - 0.1, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure


def nice_ticks() -> Any:
    """A few round numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def interval(axes: Axes, line: float, share: Record, color: str) -> None:
    """A dot with its interval, in percent."""
    axes.plot([100 * share["low"], 100 * share["high"]], [line, line], color=color, linewidth=2)
    axes.plot(100 * share["value"], line, "o", color=color, markersize=5, markeredgecolor="white")
