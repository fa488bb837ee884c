"""Figures and the HTML page."""

from advmix.report.curves import curves
from advmix.report.figures import (
    Gallery,
    accuracy_chart,
    data_strip,
    mixing_grid,
    rescaled_difference,
    training_curves,
    variations,
)
from advmix.report.page import render, save_figures
from advmix.report.published import published
from advmix.report.style import method_label
from advmix.report.swatches import mean_colors

__all__ = [
    "Gallery",
    "accuracy_chart",
    "curves",
    "data_strip",
    "mean_colors",
    "method_label",
    "mixing_grid",
    "published",
    "render",
    "rescaled_difference",
    "save_figures",
    "training_curves",
    "variations",
]
