"""Figures and the HTML page."""

from advmix.report.drawing import method_label
from advmix.report.figures import (
    VariationGallery,
    accuracy_chart,
    data_strip,
    mixing_grid,
    rescaled_difference,
    training_curves,
    variations,
)
from advmix.report.page import render, save_figures

__all__ = [
    "VariationGallery",
    "accuracy_chart",
    "data_strip",
    "method_label",
    "mixing_grid",
    "render",
    "rescaled_difference",
    "save_figures",
    "training_curves",
    "variations",
]
