"""`advmix changes`: what changes that have a name cost a classifier, without any generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch import Tensor

from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.commands.predict import NamedImages, PictureOptions, Sources, find_pictures
from advmix.data.images import to_float
from advmix.data.settings import DataConfig
from advmix.intervals import wilson
from advmix.named_changes import changed_example, measure_changes, unanswered_words
from advmix.pools import remembered
from advmix.report.drawing import INK, MUTED, RIGHT, WRONG, Canvas, frame, shorten
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import check_values
from advmix.utils.device import open_device
from advmix.utils.files import read_json, write_json
from advmix.utils.progress import PhaseTimer, console
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import generator

PANELS = "changes"
"""Name of the figure."""


@dataclass(frozen=True)
class ChangesConfig(ClassifierOptions):
    """What do changes of light, colour, detail and place cost a classifier? Exposure, contrast, blur, a shift and
    others, each at five strengths: accuracy, and the strength at which 5 % of the right answers flip. No generator is
    needed, and nothing is trained.

    Writes results.json, changes.png and config.json.

    Args:
        data: images of your own, or painted digits; by default those of the classifier's folder, as other flags change
            them. Own images are read in the size that the classifier wants, unless one is given.
        part: which images: `train`, `val` or `test`; of painted digits also `biased`, `shuffled` or `uniform`.
        images: at most so many of them, drawn at random; for 250 of 64 pixels, ResNet-18 takes two minutes of one core.
        seed: fixes images, directions, places and noise.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: show the result of a run that is finished.
    """

    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    part: str = "test"
    images: int = 250
    seed: int = 0
    out: Path = Path("runs/changes")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "images", least=1)
        _ = self.pictures

    @property
    def pictures(self) -> PictureOptions:
        """Which images."""
        return PictureOptions(self.data, self.part)


def run_changes(config: ChangesConfig) -> dict[str, Any]:
    """Measure, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    device = open_device(config.device)
    opened = open_classifier(config, image=config.pictures.shape)
    pictures = find_pictures(config.pictures, Sources(opened, config.folder), config.seed)
    assert pictures.classes is not None
    opened = opened.named(pictures.classes)
    inputs = {"classifier": opened.fingerprint, "images": pictures.fingerprint}
    config = replace(config, data=remembered(config.data))
    with open_run(config.out, "changes", config, config.resume, inputs):
        if (config.out / RESULTS).is_file():
            results: dict[str, Any] = read_json(config.out / RESULTS)
        else:
            rows, clock = _chosen_rows(config, len(pictures.pixels)), PhaseTimer(config.out)
            images, labels = pictures.pixels[rows], _labels_of(pictures)[rows]
            with clock("changes"):
                changes = measure_changes(opened.network.to(device), images, labels, config.seed, device)
            results = {
                **header("changes", config),
                "classifier": {"name": opened.name, "method": opened.method, "fingerprint": opened.fingerprint},
                "images": len(images),
                "accuracy_clean": wilson(changes[0]["right"], len(images)).to_dict(),
                "changes": changes,
                "phases": clock.seconds,
            }
            save_figures({PANELS: change_panels(changes, images, labels, pictures.classes, config.seed)}, config.out)
            write_json(config.out / RESULTS, results)
        console.print(changes_table(results["changes"]))
        console.print(f"  {changes_words(results)}", markup=False)
        broken = unanswered_words(results["changes"])
        if broken:
            console.print(f"  {broken}", markup=False, style="yellow")
        console.print(f"  {config.out / f'{PANELS}.png'}, {config.out / RESULTS}", markup=False)
        return results


def _chosen_rows(config: ChangesConfig, count: int) -> Tensor:
    return torch.randperm(count, generator=generator(config.seed, "changes", "images"))[: config.images].sort().values


def _labels_of(pictures: NamedImages) -> Tensor:
    assert pictures.labels is not None
    return pictures.labels


def changes_table(changes: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each change: accuracy in percent at each strength, and the strength at which 5 % flip.

    Args:
        changes: of `measure_changes`.
    """
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("change", no_wrap=True)
    view.add_column("unit", no_wrap=True)
    for _ in range(max(len(row["strengths"]) for row in changes)):
        view.add_column("accuracy", justify="right", no_wrap=True)
    view.add_column("5 % flip", justify="right", no_wrap=True)
    for row in changes:
        cells = [f"{100 * one['accuracy']['value']:.0f} % [dim]at {one['strength']:<4g}[/]" for one in row["strengths"]]
        blank = [""] * (len(view.columns) - 3 - len(cells))
        view.add_row(row["name"], row["unit"], *cells, *blank, strength_words(row))
    return view


def strength_words(row: Mapping[str, Any]) -> str:
    """`at 0.42`, or that no strength flips 5 %: `> 3`, `< 0.1` where strengths fall, a dash where none is right."""
    if not row["right"]:
        return "–"
    found, last = row["strength_at_5_percent"], row["strengths"][-1]["strength"]
    if len(row["strengths"]) == 1:
        return "no" if found is None else "yes"
    if found is not None:
        return f"at {found:.3g}"
    return f"{'>' if last > row['neutral'] else '<'} {last:g}"


def changes_words(results: Mapping[str, Any]) -> str:
    """What is right as it is, and which changes flip 5 % of it most easily."""
    return (
        f"{results['accuracy_clean']['value']:.1%} of {results['images']:,} images right as they are. "
        f"{easiest_words(results['changes'])}"
    )


def easiest_words(changes: Sequence[Mapping[str, Any]]) -> str:
    """The three changes that flip 5 % of the right answers most easily, and how much of each it takes.

    Args:
        changes: of `measure_changes`.
    """
    first = [f"{row['name']} ({_amount(row)})" for row in changes if row["strength_at_5_percent"] is not None][:3]
    if not changes[0]["right"]:
        return "No answer is right, so no change can flip one."
    if not first:
        return "No change flips 5 % of the right answers."
    return f"5 % of the right answers flip most easily by: {', '.join(first)}."


def _amount(row: Mapping[str, Any]) -> str:
    return f"{row['unit']}" if len(row["strengths"]) == 1 else f"{row['strength_at_5_percent']:.2g} {row['unit']}"


COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 4, 3.1, 1.75
"""Of the figure; in inches."""


def change_panels(
    changes: Sequence[Mapping[str, Any]], images: Tensor, labels: Tensor, classes: Sequence[str], seed: int
) -> Figure:
    """Accuracy against strength, a panel for each change, beside an image before and after that it flips.

    Args:
        changes: of `measure_changes`.
        images: `(N, C, H, W)` uint8, those that were measured.
        labels: `(N,)`.
        classes: their names.
        seed: of the measurement.
    """
    lines = -(-len(changes) // COLUMNS)
    canvas = Canvas(COLUMNS * PANEL_WIDTH + 0.2, lines * PANEL_HEIGHT + 0.35)
    for place, row in enumerate(changes):
        left, top = place % COLUMNS * PANEL_WIDTH + 0.2, place // COLUMNS * PANEL_HEIGHT + 0.1
        canvas.text(left, top + 0.1, row["name"], 10.5, ha="left", weight="bold")
        canvas.text(left, top + 0.28, f"{row['unit']}; 5 % flip: {strength_words(row)}", 7.5, ha="left", color=MUTED)
        _draw_curve(canvas, row, left + 0.3, top + 0.45)
        if row["example"] is not None:
            _draw_example(canvas, row, images, labels, classes, seed, left + 1.95, top + 0.45)
    note = "Accuracy in percent with its 95 % interval. Beside it: an image as it is and changed, with both answers."
    canvas.text(0.2, canvas.height - 0.15, note, 8, ha="left", color=MUTED)
    return canvas.figure


def _draw_curve(canvas: Canvas, row: Mapping[str, Any], left: float, top: float) -> None:
    axes = canvas.axes(left, top, 1.5, 0.85)
    clean = wilson(row["right"], row["images"]).to_dict()
    shares = [clean, *(one["accuracy"] for one in row["strengths"])]
    places = range(len(shares))
    low, high = ([100 * share[end] for share in shares] for end in ("low", "high"))
    axes.fill_between(places, low, high, color="#d7e3ef", linewidth=0)
    axes.plot(places, [100 * share["value"] for share in shares], color=INK, marker="o", markersize=2.5, linewidth=1.2)
    axes.set(ylim=(-3, 103), xlim=(-0.3, len(shares) - 0.7), yticks=(0, 50, 100))
    axes.set_xticks(places, ["as it is", *(f"{one['strength']:g}" for one in row["strengths"])])
    axes.tick_params(labelsize=6, colors=MUTED, length=2)
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)


def _draw_example(
    canvas: Canvas,
    row: Mapping[str, Any],
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    seed: int,
    left: float,
    top: float,
) -> None:
    example, size = row["example"], 0.5
    before, after = to_float(images[example["image"]][None])[0], changed_example(row, images, seed)
    pairs = ((before, int(labels[example["image"]]), RIGHT), (after, example["answer"], WRONG))
    for place, (image, answer, color) in enumerate(pairs):
        axes = canvas.image(image.expand(3, -1, -1), left + place * (size + 0.06), top, size, size)
        frame(axes, color, 1.5)
        canvas.text(
            left + place * (size + 0.06) + size / 2, top + size + 0.1, shorten(classes[answer], 9), 6.5, color=color
        )
    canvas.text(left + size, top + size + 0.26, f"at {example['strength']:g}", 6.5, color=MUTED)
