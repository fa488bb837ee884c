"""Accuracies under several generators: a block of bars for each, so that worst cases are compared within a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from advmix.commands.demo import mixing_figure
from advmix.commands.sample import sample_grid
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.stylegan import StyleGan
from advmix.report.drawing import MUTED, Canvas, method_color, method_label
from advmix.report.tables import Run, columns, comparable, method_names, scores
from advmix.utils.torch_tools import generator
from experiments.pipeline.measure import PIPELINES, Line, by_pipeline, check_runs
from experiments.search.figures import bar

SEARCHED = "accuracy_worst_case"

LEFT, WIDTH, PITCH, TOP, LINE, TITLE = 1.3, 1.45, 1.95, 0.66, 0.29, 0.34


@dataclass(frozen=True)
class Block:
    """Runs under one generator and pool for each seed.

    Args:
        title: what generator and latents they have in common.
        runs: of all methods and seeds.
    """

    title: str
    runs: Sequence[Run]

    @property
    def height(self) -> float:
        """In inches, with the title."""
        return TITLE + LINE * len(method_names(self.runs)) + 0.16


def block_bars(blocks: Sequence[Block]) -> Figure:
    """A panel per test, a block per generator, a bar per method: mean over the seeds, a line from lowest to highest.

    Raises:
        UserError: worst cases of one block that cannot be compared.
    """
    for block in blocks:
        comparable(block.runs)
    panels = columns(blocks[0].runs)
    canvas = Canvas(LEFT + PITCH * len(panels), TOP + sum(block.height for block in blocks) + 0.36)
    for place, column in enumerate(panels):
        x, worst = LEFT + place * PITCH, column.key == SEARCHED
        canvas.text(x, 0.2, column.title, 11, ha="left", weight="bold")
        canvas.text(x, 0.4, "compare within a block only" if worst else column.hint, 7.5, ha="left", color=MUTED)
    top = TOP
    for block in blocks:
        _block(canvas, block, [column.key for column in panels], top)
        top += block.height
    note = "Accuracy in percent, mean over the seeds; black line: lowest to highest seed"
    canvas.text(LEFT, canvas.height - 0.16, note, 8, ha="left", color=MUTED)
    return canvas.figure


def _block(canvas: Canvas, block: Block, keys: Sequence[str], top: float) -> None:
    names = method_names(block.runs)
    canvas.text(LEFT, top + TITLE / 2, block.title, 10, ha="left", weight="bold")
    for row, name in enumerate(names):
        canvas.text(LEFT - 0.14, top + TITLE + (row + 0.5) * LINE, method_label(name), 9.5, ha="right")
    for place, key in enumerate(keys):
        axes = canvas.axes(LEFT + place * PITCH, top + TITLE, WIDTH, LINE * len(names))
        axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
        found = scores(block.runs, key)
        for row, name in enumerate(names):
            if name in found:
                bar(axes, row, found[name], method_color(name))


SAMPLES = 128


def draw(lines: Sequence[Line], runs: Sequence[dict[str, Any]], device: torch.device) -> dict[str, Figure]:
    """All figures by name: accuracies, mixes of every pipeline, samples of a generator that can make images up.

    Args:
        lines: of the first seed.
        runs: of all seeds.
        device: for the networks.

    Raises:
        UserError: worst cases of one pipeline that do not compare.
    """
    check_runs(runs)
    blocks = [Block(PIPELINES[name].label, mine) for name, mine in by_pipeline(runs)]
    figures = {"accuracy": block_bars(blocks)}
    for line in lines:
        figures |= _pictures(line, device)
    return figures


def _pictures(line: Line, device: torch.device) -> dict[str, Figure]:
    cell, data, mixable = line.cell, line.cell.check(), line.cell.mixable(device)
    split = cell.settings.search.split(mixable.model.generator.layers)
    found = {f"mixing-{line.pipeline}": mixing_figure(mixable, data, split, mixable.encoder)}
    if isinstance(mixable.model.generator, StyleGan):
        found["samples"] = samples_figure(mixable.model, cell.seed)
    return found


def samples_figure(model: Autoencoder, seed: int) -> Figure:
    """What a StyleGAN makes up, from one style per image and without truncation."""
    assert isinstance(model.generator, StyleGan)
    with torch.no_grad():
        return sample_grid(model.generator(model.generator.sample(SAMPLES, generator(seed, "pipeline"), mixing=0)))
