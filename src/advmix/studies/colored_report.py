"""Pictures of `advmix study colored-mnist`. Nothing is picked: always the first images."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from advmix.data import ColoredDigits, Look, make_look
from advmix.data.looks import COLOR_NAMES
from advmix.report import accuracy_chart, curves, mean_colors, published, save_figures
from advmix.results import Run, color_spread
from advmix.seeds import generator
from advmix.studies.cell import Cell
from advmix.studies.pictures import data_figure, mixing_figure

CURVES = {
    "shuffled": "accuracy_unbiased",
    "uniform": "accuracy_uniform",
    "worst-case": "accuracy_worst_case",
    "worst-recolor": "accuracy_recolor_worst",
}
SWATCHES, DIGITS = 12, 4


def draw(out: Path, cells: Sequence[Cell], runs: Sequence[Run]) -> None:
    """Write `figures/*.png`: the looks at every colour spread, data and mixes of the first cell, the accuracies.

    Mixes are the first cell's that has a generator here; there are none where all runs were made elsewhere.

    Raises:
        UserError: worst cases that cannot be compared, or a folder that cannot be written.
    """
    data = cells[0].check()
    figures = {
        "colors": colors_figure(data, sorted({color_spread(run) for run in runs})),
        "data": data_figure(data),
        **next((mixes_figure(cell) for cell in cells if cell.is_fitted()), {}),
        **accuracy_figures(runs),
    }
    save_figures(figures, out / "figures")


def mixes_figure(cell: Cell) -> dict[str, Figure]:
    """What a cell's generator makes of its data."""
    mixable = cell.mixable(torch.device("cpu"))
    split = cell.settings.search.split(mixable.model.generator.layers)
    return {"mixing": mixing_figure(mixable, cell.check(), split)}


def accuracy_figures(runs: Sequence[Run]) -> dict[str, Figure]:
    """A curve for each test that has numbers; bars where there is only one colour spread."""
    if len({color_spread(run) for run in runs}) == 1:
        return {"accuracy": accuracy_chart(runs, published(runs))}
    return {
        name: curves(runs, key, published(runs))
        for name, key in CURVES.items()
        if any(run[key] is not None for run in runs)
    }


def colors_figure(data: ColoredDigits, spreads: Sequence[float]) -> Figure:
    """The classes' looks: plain swatches where a look is one colour, otherwise each class's first training digits."""
    word = "std" if data.config.color_variance is None else "variance"
    rng = generator(data.seed, "report", "colors")
    rows = {}
    for spread in spreads:
        std = spread if word == "std" else sqrt(spread)
        rows[f"{word} {spread:g}"] = painted(make_look(data.config.look, std, data.means), canvases(data), rng)
    means = painted(make_look(data.config.look, 0.0, data.means), canvases(data)[:, :1], rng)[:, 0]
    names = COLOR_NAMES if data.config.look == "colored" else ()
    return mean_colors(data.gray_train.classes, names, means, rows)


def canvases(data: ColoredDigits) -> Tensor:
    """What is painted, `(10, N, 1, H, W)` in [0, 1]: full squares in the look `colored`, else digits of each class."""
    if data.config.look == "colored":
        return torch.ones(data.look.classes, SWATCHES, 1, 8, 8)
    gray = data.gray_train
    rows = [torch.nonzero(gray.labels == index)[:DIGITS, 0] for index in range(data.look.classes)]
    count = min(len(row) for row in rows)
    return gray.pixels[torch.stack([row[:count] for row in rows])].float() / 255


def painted(look: Look, gray: Tensor, rng: torch.Generator) -> Tensor:
    """Canvases `(C, N, 1, H, W)` in the looks of their classes: `(C, N, 3, H, W)`."""
    classes = torch.arange(len(gray)).repeat_interleave(gray.shape[1])[:, None].expand(-1, look.parts)
    images: Tensor = look.paint(gray.flatten(0, 1), look.of_classes(classes, rng)).unflatten(0, gray.shape[:2])
    return images
