"""The demo's pictures and page, from the files that its stages wrote. Nothing is picked: always the first images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from advmix.data import ColoredDigits
from advmix.encoders import LatentStore, load_autoencoder
from advmix.files import read_tensors
from advmix.report import (
    Gallery,
    accuracy_chart,
    data_strip,
    mixing_grid,
    save_figures,
    training_curves,
    variations,
)
from advmix.stages.evaluate import GALLERY
from advmix.stages.sources import data_of
from advmix.training.methods import SearchOptions

GRID_ROWS, GRID_COLUMNS = 7, 9


def draw(out: Path, results: dict[str, Any], search: SearchOptions) -> dict[str, Figure]:
    """The figures of a demo run, written to its `figures/*.png` too."""
    data = data_of(load_autoencoder(out / "fit")[1], out / "fit")
    figures = {
        "data": _data_figure(data),
        "mixing": _mixing_figure(out, data, search),
        "training": training_curves(_history(out / "fit" / "log.jsonl")),
        "accuracy": accuracy_chart(results["runs"]),
    }
    for run in results["runs"]:
        figures[f"variations-{run['method']}"] = _variations_figure(out, run["method"], data.train.classes)
    save_figures(figures, out / "figures")
    return figures


def _data_figure(data: ColoredDigits) -> Figure:
    return data_strip(*data.train.batch(slice(0, 200)), *data.shuffled.batch(slice(0, 200)), data.train.classes)


def _mixing_figure(out: Path, data: ColoredDigits, search: SearchOptions) -> Figure:
    """Rows: test digits that the generator has never seen. Columns: the first training images."""
    model, metadata = load_autoencoder(out / "fit")
    height, width = min(GRID_ROWS, len(data.shuffled)), min(GRID_COLUMNS, len(data.train))
    split = search.split(model.generator.layers)
    shapes, _ = data.shuffled.batch(slice(0, height))
    colors, _ = data.train.batch(slice(0, width))
    with torch.no_grad():
        parallel = model.encoder(shapes)
        perp = LatentStore.open(out / "latents", metadata["fingerprint"]).latents[:width]
        rows = torch.arange(height).repeat_interleave(width)
        columns = torch.arange(width).repeat(height)
        mixes = model.generator(split.combine(parallel[rows], perp[columns]))
    return mixing_grid(shapes, colors, mixes)


def _variations_figure(out: Path, method: str, classes: tuple[str, ...]) -> Figure:
    tensors, _ = read_tensors(out / method / "evaluation" / GALLERY, "gallery")
    return variations(Gallery(method=method, classes=classes, **tensors))


def _history(path: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{"step": line["step"], "mse": line["loss"]} for line in lines]
