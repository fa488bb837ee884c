"""What classifiers are worth that are trained with each variant of the photo autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet, slices
from advmix.intervals import GroupBootstrap
from advmix.metrics import predict
from advmix.report.drawing import INK, MUTED, TRACK, Canvas, method_color, method_label
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import check_values
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.torch_tools import generator
from experiments.faces.cell import ALL, Bench
from experiments.faces.evaluate import Judge
from experiments.faces.figures import new_table, percent, signed_span, span
from experiments.faces.label_survival import (
    claim,
    interval,
    make_scene,
    nice_ticks,
    open_pair,
    random_mixes,
    share_entry,
    train_pair,
)
from experiments.faces.results import Measure
from experiments.faces.settings import BASE, REFERENCE, VARIANTS, FaceSettings, check_variant, reconstructed
from experiments.faces.study import fit_jobs, jobs
from experiments.jobs import work
from experiments.search.grid import Point, collect

Record = dict[str, Any]

Judges = Mapping[str, Judge]

"""By the variant whose generator their classifiers are trained and judged with."""


def open_judges(bench: Bench, variants: tuple[str, ...], methods: tuple[str, ...]) -> dict[str, Judge]:
    """Of every variant; none where no methods are named."""
    if not methods:
        return {}
    bench = replace(bench, config=replace(bench.config, methods=methods))
    return {name: Judge(bench.of_variant(name)) for name in variants}


def classifier_rows(judges: Judges, resamples: int) -> list[Record]:
    """A row for each method under each variant: errors on all judged images, with the paired change against nominal
    training; accuracies on the searched ones, under the variant's own generator; `less_base`, the error less that of
    the same method under `base`, paired (None without `base`).
    """
    if not judges:
        return []
    first = next(iter(judges.values()))
    measure = Measure.of(first.bench.faces, first.searched(), resamples)
    everything = {
        name: {method: judge.found(method) for method in judge.bench.config.methods} for name, judge in judges.items()
    }
    base = everything.get(BASE)
    return [
        {
            "variant": name,
            "method": method,
            **measure.errors([found], [of_variant["nominal"][0]]),
            **measure.of_search([found]),
            "less_base": None if base is None else measure.difference([found], [base[method][0]])["error"],
            "worst_case_images": len(found["searched"]),
            "train_seconds": facts["train_seconds"],
        }
        for name, of_variant in everything.items()
        for method, (found, facts) in of_variant.items()
    ]


COMMAND = "study photo-autoencoder"

TARGET = {"accuracy_lost": 0.01, "survival": 0.95}

"""What a variant is to reach: at most so much accuracy lost on reconstructions, at least so many labels kept."""


@dataclass(frozen=True)
class AutoencodersConfig(FaceSettings):
    """Variants of the photo autoencoder side by side: how well they reconstruct, what mixing does under each, and how
    accurate the classifiers are that are trained with it.

    Longer training, perceptual and adversarial terms, mixes that must be recognised, the size of the grid; each with
    and without the residual. Measured on persons held out of the training split. Goes on where it was stopped, and may
    be started in any number of processes.

    Args:
        variants: base longer perceptual survival grid4 grid16 vector.
        methods: classifiers that are trained with each variant, such as nominal randmix advmix advmix-decoded, as for
            `python -m experiments celeba`, which shares them; none for generators alone.
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
        check_values(self, "images donors", least=1)
        check_values(self, "resamples", least=2)
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
    open_device(config.device)
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


DECODED, RESIDUAL = method_color("randmix"), method_color("advmix")

JUDGES = ("classifier", "reference")

"""Whose accuracy counts: that of the classifier that some variants learn from, of the reference that none does."""


def reached(row: Record, target: Record) -> list[bool]:
    """Whether a variant keeps enough labels and loses little enough accuracy, in the eyes of both `JUDGES`."""
    kept = row["survival_decoded"]
    keeps = kept is not None and kept["value"] >= target["survival"]
    return [keeps and row[f"{judge}_lost"]["value"] <= target["accuracy_lost"] for judge in JUDGES]


def yes_no(row: Record, target: Record) -> list[str]:
    """The same in words."""
    return ["yes" if found else "no" for found in reached(row, target)]


def variants_table(records: Sequence[Record], target: Record) -> Table:
    """A row per variant. Of two numbers in a cell, the second is with the residual; of two words, by the reference."""
    view = new_table(
        "error", "points\nlost", "by the\nreference", "survive, %,\nresidual", "range, %,\nresidual", "seconds", "ok"
    )
    for row in records:
        ranges = [f"{100 * row[f'range_{key}']:.1f}" for key in ("decoded", "residual")]
        cells = [f"{row['error']:.4f}", percent(row["classifier_lost"]), percent(row["reference_lost"])]
        cells += [" / ".join(survivals(row)), " / ".join(ranges), f"{row['fit_seconds']:.0f}"]
        view.add_row(row["variant"], *cells, " / ".join(yes_no(row, target)))
    return view


def survivals(row: Record) -> list[str]:
    """Labels that survive in percent, as decoded and with the residual; a dash where the reference saw none unmixed."""
    found = [row[f"survival_{key}"] for key in ("decoded", "residual")]
    return [percent(share) if share else "–" for share in found]


LEFT, WIDTH, GAP, HEAD, LINE = 1.2, 1.75, 0.3, 0.66, 0.32


def variants_figure(records: Sequence[Record], target: Record) -> Figure:
    """A line per variant, a panel per number; dotted: what is to be reached."""
    height = LINE * len(records)
    canvas = Canvas(LEFT + 4 * (WIDTH + GAP), HEAD + height + 0.72)
    panels = [
        ("Error", "mean square, [-1, 1]"),
        ("Accuracy lost", "points, on reconstructions"),
        ("Labels that survive", "percent of random mixes"),
        ("Range", "mean change of a pixel, %"),
    ]
    for place, (title, hint) in enumerate(panels):
        axes = _panel(canvas, LEFT + place * (WIDTH + GAP), (WIDTH, height), (title, hint), len(records))
        for line, row in enumerate(records):
            _draw(axes, place, line, row)
        if place in (0, 3):
            axes.set_xlim(left=0)
        if place in (1, 2):
            goal = 100 * target["accuracy_lost"] if place == 1 else 100 * target["survival"]
            axes.axvline(goal, color=INK, linewidth=0.8, linestyle=":")
    for line, row in enumerate(records):
        canvas.text(LEFT - 0.14, HEAD + (line + 0.5) * LINE, row["variant"], 9.5, ha="right")
    note = "Light: as decoded, dark: with the residual; 95 % intervals; dotted: what is to be reached"
    canvas.text(LEFT, canvas.height - 0.1, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure


def _panel(canvas: Canvas, x: float, size: tuple[float, float], words: tuple[str, str], lines: int) -> Axes:
    """Axes of a width and height at `x`, for so many lines, under a title and a hint."""
    title, hint = words
    canvas.text(x, HEAD - 0.42, title, 10.5, ha="left", weight="bold")
    canvas.text(x, HEAD - 0.2, hint, 8.5, ha="left", color=MUTED)
    axes = canvas.axes(x, HEAD, *size)
    axes.set(ylim=(lines - 0.5, -0.5))
    axes.xaxis.set_major_locator(nice_ticks())
    axes.tick_params(labelsize=8, colors=MUTED, length=0)
    axes.grid(axis="x", color=TRACK, linewidth=1)
    axes.set_axisbelow(True)
    return axes


def _draw(axes: Axes, place: int, line: int, row: Record) -> None:
    looks = (("decoded", DECODED, -0.15), ("residual", RESIDUAL, 0.15))
    if place == 0:
        axes.barh(line, row["error"], height=0.55, color=MUTED)
    elif place == 1:
        interval(axes, line, row["classifier_lost"], MUTED)
    else:
        for key, color, shift in looks:
            if place == 3:
                axes.barh(line + shift, 100 * row[f"range_{key}"], height=0.26, color=color)
            elif row[f"survival_{key}"]:
                interval(axes, line + shift, row[f"survival_{key}"], color)


def by_variant(rows: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Classifiers by variant, then by method; both in their order."""
    found: dict[str, dict[str, Record]] = {}
    for row in rows:
        found.setdefault(row["variant"], {})[row["method"]] = row
    return found


def classifiers_table(rows: Sequence[Record]) -> Table:
    """A row for each method under each variant: its error, less its error under `base` in points, and its accuracy in
    the worst case under the variant's own generator.
    """
    view = new_table("error, %", "interval", "less base", "interval", "worst\ncase, %")
    for row in rows:
        difference = compared_with_base(row)
        value, ends = (
            ("–", "–") if difference is None else (f"{100 * difference['value']:+.1f}", signed_span(difference))
        )
        cells = [percent(row["error"]), span(row["error"]), value, ends, percent(row["accuracy_worst_case"])]
        view.add_row(f"{row['variant']}: {row['method']}", *cells)
    return view


def compared_with_base(row: Record) -> Record | None:
    """The error less that of the same method under `base`; None where there is nothing to compare."""
    is_same = row["variant"] == BASE or row["method"] == "nominal"
    return None if is_same else row["less_base"]


def classifiers_figure(rows: Sequence[Record]) -> Figure:
    """A line per variant, a dot per method: its error, and that less its error under `base`; dotted: nominal training,
    which knows no generator.
    """
    found = by_variant(rows)
    nominal = next(iter(found.values()))["nominal"]["error"]["value"]
    mixed = [method for method in next(iter(found.values())) if method != "nominal"]
    line_height = 0.14 + 0.16 * len(mixed)
    height, width = line_height * len(found), 1.6 * WIDTH
    canvas = Canvas(LEFT + 2 * (width + GAP), HEAD + height + 0.9)
    panels = [
        ("Error", "percent of the held-out images", "error"),
        ("Less that under base", "points, paired; left is better", "less_base"),
    ]
    for place, (title, hint, key) in enumerate(panels):
        axes = _panel(canvas, LEFT + place * (width + GAP), (width, height), (title, hint), len(found))
        for line, variant in enumerate(found.values()):
            for rank, method in enumerate(mixed):
                shift = (rank - (len(mixed) - 1) / 2) * 0.16 / line_height
                row = variant[method]
                shown = row["error"] if key == "error" else compared_with_base(row)
                if shown is not None:
                    interval(axes, line + shift, shown, method_color(method))
        axes.axvline(100 * nominal if key == "error" else 0, color=INK, linewidth=0.8, linestyle=":")
    for line, name in enumerate(found):
        canvas.text(LEFT - 0.14, HEAD + (line + 0.5) * line_height, name, 9.5, ha="right")
    for rank, method in enumerate(mixed):
        x = LEFT + rank * 1.6
        canvas.text(x, canvas.height - 0.34, method_label(method), 8.5, ha="left", color=method_color(method))
    note = "95 % intervals over persons; dotted: nominal training, and no difference"
    canvas.text(LEFT, canvas.height - 0.1, note, 8, ha="left", va="bottom", color=MUTED)
    return canvas.figure
