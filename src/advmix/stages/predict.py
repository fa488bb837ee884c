"""`advmix predict`: what a classifier says about every image; alone, or as the mean over many label-free parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.answers import answers, probabilities
from advmix.classifiers import ClassifierOptions, OpenClassifier, open_classifier
from advmix.clock import Clock
from advmix.data import slices
from advmix.engine import make_fabric
from advmix.errors import UserError
from advmix.files import read_json, read_tensors, write_json, write_tensors
from advmix.marginalized import Marginalized
from advmix.modes import evaluating
from advmix.options import require
from advmix.progress import console, track
from advmix.results import RESULTS, header
from advmix.runs import open_run
from advmix.stages.evaluate import generator_summary
from advmix.stages.pictures import PictureOptions, Pictures, Sources, find_pictures
from advmix.stages.predictions import PREDICTIONS, write_predictions
from advmix.stages.sources import Mixable, load_mixable, mixable_inputs, remembered
from advmix.training.methods import usual_split


@dataclass(frozen=True)
class PredictConfig(ClassifierOptions):
    """What a classifier says about every image. Writes predictions.csv, results.json and config.json.

    With --marginalize N it answers with its mean probabilities over N random z⊥: robust without retraining, as far as
    the generator separates z∥ from z⊥.

    Args:
        generator: folder that fit wrote, to marginalize.
        latents: folder that encode wrote, the pool of z⊥.
        marginalize: number of z⊥ for each image; 0 asks the classifier about the image itself.
        perp: layers that are z⊥; negative ones count from the finest. By default all styles beside a spatial grid, else
            the two finest.
        perp_grid: whether a spatial grid is z⊥ too.
        residual: whether the averaged images keep what the generator cannot draw, in their own size: for photographs.
        pictures: which images.
        batch: images at once.
        shard_size: images after which what was found is kept, to go on from there.
        seed: fixes the z⊥, and what data are drawn at random.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    generator: Path | None = None
    latents: Path | None = None
    marginalize: int = 0
    perp: tuple[int, ...] = ()
    perp_grid: bool = False
    residual: bool = False
    pictures: PictureOptions = field(default_factory=PictureOptions)
    batch: int = 250
    shard_size: int = 10_000
    seed: int = 0
    out: Path = Path("runs/predictions")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "batch shard_size", least=1)
        require(self, "marginalize", least=0)
        if self.marginalize and (self.generator is None or self.latents is None):
            raise UserError(f"--marginalize {self.marginalize}: draws z⊥; name --generator and --latents")
        if self.residual and not self.marginalize:
            raise UserError("--residual: goes together with --marginalize N")


def run_predict(config: PredictConfig) -> dict[str, Any]:
    """Predict, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    device = make_fabric(config.device).device
    mixable = load_mixable(config.generator, config.latents, device)
    opened = open_classifier(config, image=config.pictures.shape)
    sources = Sources(opened, config.folder, mixable, config.generator)
    pictures = find_pictures(config.pictures, sources, config.seed)
    opened = opened if pictures.classes is None else opened.named(pictures.classes)
    inputs = {
        "classifier": opened.fingerprint,
        "images": pictures.fingerprint,
        **mixable_inputs(mixable),
    }
    config = replace(config, pictures=replace(config.pictures, data=remembered(config.pictures.data)))
    network = opened.network.to(device)
    if config.marginalize:
        assert mixable is not None
        network = _marginalized(config, network, mixable)
    with open_run(config.out, "predict", config, config.resume, inputs) as run:
        if (config.out / RESULTS).is_file():
            results: dict[str, Any] = read_json(config.out / RESULTS)
        else:
            results = _predict(config, opened, network, pictures, mixable, run, device)
        for sentence in _sentences(results):
            console.print(f"  {sentence}", markup=False)
        console.print(f"  {config.out / PREDICTIONS}, {config.out / RESULTS}", markup=False)
        return results


def _predict(
    config: PredictConfig,
    opened: OpenClassifier,
    network: nn.Module,
    pictures: Pictures,
    mixable: Mixable | None,
    run: str,
    device: torch.device,
) -> dict[str, Any]:
    clock = Clock(config.out)
    with clock("predict"):
        probabilities = _in_shards(config, network, pictures.pixels, run, device)
    seen = answers(probabilities)
    right = None if pictures.labels is None else seen == pictures.labels
    write_predictions(config.out / PREDICTIONS, probabilities, pictures, opened.classes)
    results = {
        **header("predict", config),
        "classifier": {"name": opened.name, "method": opened.method, "fingerprint": opened.fingerprint},
        "generator": None if mixable is None else generator_summary(mixable.metadata),
        "marginalize": config.marginalize,
        "images": len(pictures.pixels),
        "broken": [image.to_dict() for image in pictures.broken],
        "unanswered": int((seen < 0).sum()),
        "accuracy": None if right is None else float(right.double().mean()),
        "phases": clock.seconds,
    }
    write_json(config.out / RESULTS, results)
    return results


def _marginalized(config: PredictConfig, network: nn.Module, mixable: Mixable) -> Marginalized:
    dec, samples = mixable.generator, config.marginalize
    split = usual_split(config.perp, config.perp_grid, mixable.model.config)
    seed, residual = config.seed, config.residual
    return Marginalized(network, dec, mixable.encoder, split, mixable.pool, samples, seed, residual)


def _in_shards(config: PredictConfig, network: nn.Module, pixels: Tensor, run: str, device: torch.device) -> Tensor:
    """Class probabilities `(N, K)`, on the CPU; shards that are there already are not made again."""
    parts = []
    with track("predict", len(pixels)) as advance:
        for number, rows in enumerate(slices(len(pixels), config.shard_size)):
            path = config.out / f"shard-{number:05d}.safetensors"
            kept = _kept(path, run)
            if kept is not None:
                parts.append(kept)
                advance(rows.stop - rows.start, "")
                continue
            found = []
            for batch in pixels[rows].split(config.batch):
                found.append(probabilities_of(network, batch, device))
                advance(len(batch), "")
            parts.append(torch.cat(found))
            write_tensors(path, "predictions", {"probabilities": parts[-1]}, {"run": run})
    return torch.cat(parts)


def _kept(path: Path, run: str) -> Tensor | None:
    """A shard of this run; None where it is missing or damaged."""
    try:
        tensors, metadata = read_tensors(path, "predictions")
    except UserError:
        return None
    if metadata != {"run": run}:
        raise UserError(f"{path}: of another run; delete it and go on with --resume")
    return tensors["probabilities"]


@torch.no_grad()
def probabilities_of(network: nn.Module, pixels: Tensor, device: torch.device) -> Tensor:
    """Of a batch of images `(B, C, H, W)` uint8: `(B, K)` in float64, on the CPU."""
    images = (pixels.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
    with evaluating(network) as (model,):
        return probabilities(model(images))


def _sentences(results: dict[str, Any]) -> list[str]:
    over = f", mean over {results['marginalize']} z⊥" if results["marginalize"] else ""
    right = "labels unknown" if results["accuracy"] is None else f"right on {results['accuracy']:.1%}"
    said = [f"{results['classifier']['name']}{over}: {results['images']:,} images, {right}"]
    if results["unanswered"]:
        said.append(
            f"{results['unanswered']:,} answers are no numbers (NaN or infinite): empty in the table, never right"
        )
    return said
