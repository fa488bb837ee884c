"""Figures of `advmix study pipeline`. Nothing is picked: the first seed, the first images, always the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from advmix.encoders import Autoencoder
from advmix.generators import StyleGan
from advmix.report.pipeline import Block, block_bars
from advmix.report.samples import sample_grid
from advmix.seeds import generator
from advmix.studies.pictures import mixing_figure
from advmix.studies.pipeline.lines import PIPELINES, Line
from advmix.studies.pipeline.results import by_pipeline, check_runs

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
