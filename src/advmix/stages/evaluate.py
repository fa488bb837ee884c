"""`advmix evaluate`: accuracies of a trained classifier, the worst case under the search, the exact worst
recolouring.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.audit.evaluate import WorstCase, accuracy, recolor_worst, share, worst_case
from advmix.config import to_dict
from advmix.data import ColoredDigits, color_grid
from advmix.engine import environment, make_fabric
from advmix.errors import UserError
from advmix.files import read_json, write_json, write_tensors
from advmix.progress import console
from advmix.results import RESULTS, SCHEMA_VERSION, table
from advmix.runs import open_run
from advmix.stages.sources import Mixable, data_of, load_mixable
from advmix.stages.train import load_classifier
from advmix.training.methods import SearchOptions

GALLERY = "gallery.safetensors"
GALLERY_SIZE = 10


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a classifier: biased, shuffled and uniform colours, reconstructions, worst case, worst recolouring.

    Writes results.json, gallery.safetensors (the first images with their worst variations) and config.json.

    Args:
        classifier: folder that train wrote; its data set is used.
        generator: folder that fit wrote; without it there is no worst case under the search.
        latents: folder that encode wrote, the pool of the search.
        search: the search for the worst case.
        worst_images: the search is run on at most so many test images.
        seed: fixes the donors.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    classifier: Path
    generator: Path | None = None
    latents: Path | None = None
    search: SearchOptions = field(default_factory=lambda: SearchOptions(restarts=5, steps=5))
    worst_images: int = 1000
    seed: int = 0
    out: Path = Path("runs/evaluation")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        if self.worst_images < 1:
            raise UserError(f"--worst-images {self.worst_images}: must be at least 1")


def run_evaluate(config: EvaluateConfig, show: bool = True) -> dict[str, Any]:
    """Evaluate, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    network, metadata = load_classifier(config.classifier)
    data = data_of(metadata, config.classifier)
    mixable = load_mixable(config.generator, config.latents, fabric.device)
    if mixable is not None:
        config.search.split(mixable.model.generator.layers)
    open_run(config.out, "evaluate", config, config.resume)
    if (config.out / RESULTS).is_file():
        results: dict[str, Any] = read_json(config.out / RESULTS)
        return results
    begun = time.monotonic()
    run = _identity(metadata, data) | _accuracies(network.to(fabric.device), data, fabric.device)
    if mixable is not None:
        run |= _searched(config, network, data, mixable)
    results = {
        "schema": SCHEMA_VERSION,
        "study": "evaluate",
        "config": to_dict(config),
        "environment": environment(),
        "generator": None if mixable is None else generator_summary(mixable.metadata),
        "search": None if mixable is None else asdict(config.search),
        "phases": {"evaluate": round(time.monotonic() - begun, 2)},
        "runs": [run],
    }
    write_json(config.out / RESULTS, results)
    if show:
        console.print(table(results["runs"]))
    return results


def generator_summary(metadata: dict[str, Any]) -> dict[str, Any]:
    """What `results.json` says about the generator."""
    return {key: metadata[key] for key in ("fingerprint", "fit_seconds", "reconstruction_mse")}


def _identity(metadata: dict[str, Any], data: ColoredDigits) -> dict[str, Any]:
    return {
        "method": metadata["method"],
        "seed": metadata["seed"],
        "data": data.config.data,
        "color_std": data.config.color_std,
        "train_images": metadata["train_images"],
        "test_images": len(data.shuffled),
        "train_seconds": metadata["train_seconds"],
        "setting": metadata["setting"],
        "accuracy_reconstruction": None,
        "accuracy_worst_case": None,
        "worst_case_images": None,
    }


def _accuracies(network: nn.Module, data: ColoredDigits, device: torch.device) -> dict[str, float]:
    return {
        "accuracy_biased": accuracy(network, data.biased, device),
        "accuracy_unbiased": accuracy(network, data.shuffled, device),
        "accuracy_uniform": accuracy(network, data.uniform, device),
        "accuracy_recolor_worst": share(recolor_worst(network, data.gray_test, color_grid(), device)),
    }


def _searched(config: EvaluateConfig, network: nn.Module, data: ColoredDigits, mixable: Mixable) -> dict[str, Any]:
    """Reconstructions and worst case on the shuffled test, and the gallery file."""
    device = mixable.pool.styles.device
    images, labels = data.shuffled.batch(slice(0, config.worst_images))
    with torch.no_grad():
        latents = mixable.model.encoder(images.to(device))
    found = worst_case(
        network,
        config.search.mixer(mixable.model, stop_early=True),
        latents,
        labels.to(device),
        mixable.pool,
        seed=config.seed,
    )
    write_tensors(config.out / GALLERY, "gallery", _gallery(images, labels, found), {})
    return {
        "accuracy_reconstruction": share(found.right_reconstruction),
        "accuracy_worst_case": share(found.right),
        "worst_case_images": len(labels),
    }


def _gallery(images: Tensor, labels: Tensor, found: WorstCase) -> dict[str, Tensor]:
    """The first test images, whatever became of them: nothing is picked."""
    confidence, predictions = found.probabilities[:GALLERY_SIZE].max(dim=1)
    return {
        "originals": images[:GALLERY_SIZE].contiguous(),
        "variations": found.images[:GALLERY_SIZE].contiguous(),
        "labels": labels[:GALLERY_SIZE],
        "predictions": predictions,
        "confidence": confidence,
    }
