"""The demo's pictures and page, from the files that its stages wrote. Nothing is picked: always the first images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from advmix.data import painted_digits
from advmix.files import read_tensors
from advmix.report import Gallery, accuracy_chart, save_figures, training_curves, variations
from advmix.stages.evaluate import GALLERY
from advmix.stages.sources import data_of, load_mixable
from advmix.studies.pictures import data_figure, mixing_figure
from advmix.training.loop import read_log
from advmix.training.methods import SearchOptions


def draw(out: Path, results: dict[str, Any], search: SearchOptions) -> dict[str, Figure]:
    """The figures of a demo run, written to its `figures/*.png` too."""
    mixable = load_mixable(out / "fit", out / "latents", torch.device("cpu"))
    assert mixable is not None
    data = painted_digits(data_of(mixable.metadata, out / "fit"), "demo")
    figures = {
        "data": data_figure(data),
        "mixing": mixing_figure(mixable, data, search.split(mixable.model.generator.layers)),
        "training": training_curves(_history(out / "fit", mixable.metadata)),
        "accuracy": accuracy_chart(results["runs"]),
    }
    for run in results["runs"]:
        figures[f"variations-{run['method']}"] = _variations_figure(out, run["method"], data.train.classes)
    save_figures(figures, out / "figures")
    return figures


def _variations_figure(out: Path, method: str, classes: tuple[str, ...]) -> Figure:
    tensors, _ = read_tensors(out / method / "evaluation" / GALLERY, "gallery")
    return variations(Gallery(method=method, classes=classes, **tensors))


def _history(fitted: Path, metadata: dict[str, Any]) -> list[dict[str, float]]:
    (digest,) = metadata["log_sha256"]
    return [{"step": line["step"], "mse": line["loss"]} for line in read_log(fitted / "log.jsonl", digest)]
