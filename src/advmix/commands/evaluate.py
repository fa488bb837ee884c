"""`advmix evaluate`: accuracies of a trained classifier, the worst case under the search, the exact worst
recolouring.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.data.colored import ColoredDigits
from advmix.data.datasets import Data, open_data, painted_digits
from advmix.data.images import ImageSet, slices
from advmix.data.settings import DataConfig
from advmix.encoders.network import encoded
from advmix.latents import Latents
from advmix.metrics import (
    DRAWN_TOGETHER,
    evaluate_batch,
    evaluate_latents,
    predict_in_turns,
    predict_pixels,
    recolor_worst,
    search_loss,
    share,
)
from advmix.mixing import WORST_CASE, SearchOptions, with_layers
from advmix.pools import FittedModel, data_of, fingerprints_of, load
from advmix.report.tables import RESULTS, header, table
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import check_values, to_dict
from advmix.utils.device import (
    MachineOptions,
    in_first_process,
    in_turns,
    is_first,
    local_first,
    open_processes,
)
from advmix.utils.errors import UserError
from advmix.utils.files import read_json, write_json, write_tensors
from advmix.utils.memory import RowBudget
from advmix.utils.progress import console, quietly
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import answers, generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

GALLERY = "gallery.safetensors"
GALLERY_SIZE = 10


@dataclass(frozen=True)
class EvaluateConfig(ClassifierOptions):
    """Evaluate a classifier: biased, shuffled and uniform colours, reconstructions, worst case, worst recolouring.

    Writes results.json, gallery.safetensors (the first images with their worst variations) and config.json.

    Args:
        generator: folder that fit wrote; without it there is no worst case under the search.
        latents: folder that encode wrote, the pool of the search.
        data: painted digits, for another's classifier without a generator; otherwise those of the classifier or of the
            generator are used.
        search: the search for the worst case.
        arithmetic: how the search computes.
        worst_images: worst cases are looked for on at most so many test images, drawn at random.
        seed: fixes the donors.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        machines: how many processes take turns with the images.
        resume: go on with a run that was stopped.
    """

    generator: Path | None = None
    latents: Path | None = None
    data: DataConfig = field(default_factory=DataConfig)
    search: SearchOptions = WORST_CASE
    arithmetic: ArithmeticOptions = field(default_factory=ArithmeticOptions)
    worst_images: int = 1000
    seed: int = 0
    out: Path = Path("runs/evaluation")
    device: str = "auto"
    machines: MachineOptions = field(default_factory=MachineOptions)
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "worst_images", least=1)


def run_evaluate(config: EvaluateConfig, show: bool = True) -> dict[str, Any]:
    """Evaluate, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    device, fabric = open_processes(config.device, config.machines)
    config = replace(config, arithmetic=config.arithmetic.on(device))
    with quietly(not is_first(fabric)):
        results = _run(config, device, fabric)
        if show:
            console.print(table(results["runs"]))
    return results


def _run(config: EvaluateConfig, device: torch.device, fabric: Fabric | None) -> dict[str, Any]:
    if (config.generator is None) != (config.latents is None):
        raise UserError("--generator and --latents go together: name what fit and encode wrote")
    mixable = None if config.generator is None else load(config.generator, config.latents, device)
    with local_first(fabric):
        opened, data = _open(config, mixable)
    if mixable is not None:
        config = replace(config, search=with_layers(config.search, mixable.model.config))
        _check_fit(config, opened, mixable)
    with open_run(config.out, "evaluate", config, config.resume, _inputs(opened, mixable), fabric=fabric):
        if not in_first_process(fabric, (config.out / RESULTS).is_file):
            results = _evaluated(config, opened, data, mixable, device, fabric)
            in_first_process(fabric, lambda: write_json(config.out / RESULTS, results))
        read: dict[str, Any] = in_first_process(fabric, lambda: read_json(config.out / RESULTS))
        return read


def _evaluated(
    config: EvaluateConfig,
    opened: OpenClassifier,
    data: ColoredDigits,
    mixable: FittedModel | None,
    device: torch.device,
    fabric: Fabric | None,
) -> dict[str, Any]:
    """What goes into `results.json`; the gallery is written."""
    begun = time.monotonic()
    count = min(len(data.shuffled), config.worst_images)
    chosen = torch.randperm(len(data.shuffled), generator=generator(config.seed, "worst-case", "images"))[:count]
    network = opened.network
    run = _identity(config, opened, data) | {"worst_case_images": count}
    run |= _accuracies(network.to(device), data, chosen, device, fabric)
    if mixable is not None:
        run |= {"generator": mixable.metadata["fingerprint"]}
        run |= _searched(config, network, data, chosen, mixable, fabric)
    return {
        **header("evaluate", config),
        "generator": None if mixable is None else generator_summary(mixable.metadata),
        "search": None if mixable is None else to_dict(config.search),
        "phases": {"evaluate": round(time.monotonic() - begun, 2)},
        "runs": [run],
    }


def _open(config: EvaluateConfig, mixable: FittedModel | None) -> tuple[OpenClassifier, ColoredDigits]:
    """The classifier, and the digits on which it is tested."""
    opened = None
    if config.folder is not None:
        opened = open_classifier(config)
        data = _own(opened.metadata, config.folder, config.data)
    elif mixable is not None and config.generator is not None:
        data = _own(mixable.metadata, config.generator, config.data)
    else:
        data = open_data(config.data, config.seed)
    digits = painted_digits(data, "evaluate", "use advmix audit")
    return opened or open_classifier(config, digits.test.classes, digits.test.shape), digits


def _own(metadata: Mapping[str, Any], source: Path, flags: DataConfig) -> Data:
    """The images that a folder was made from, which flags must not contradict."""
    data = data_of(metadata, source)
    if not flags.says_nothing and flags != data.config:
        raise UserError(
            f"{source}: is evaluated on the images that it was made from; leave out --data and what else is said of "
            "images, or use advmix audit"
        )
    return data


def _check_fit(config: EvaluateConfig, opened: OpenClassifier, mixable: FittedModel) -> None:
    """Generator and pool must be of the classifier's training data, where these are known; a search unlike the
    training's is remarked on.
    """
    metadata = opened.metadata
    if metadata and metadata["data_fingerprint"] != mixable.metadata["data_fingerprint"]:
        raise UserError(
            f"{config.generator}: fitted on other images than those of {config.classifier}; "
            "a worst case under another data set's pool says nothing about this classifier"
        )
    config.search.split(mixable.model.generator.layers)
    opened.check_search(config.search.steps)
    for key in differing_settings(metadata.get("setting", {}), config.search):
        setting, search = metadata["setting"][key], getattr(config.search, key)
        _note(f"trained with {key} {setting}, searched with {search}")


def _note(words: str) -> None:
    console.print(f"  note: {words}", markup=False)


def differing_settings(setting: Mapping[str, Any], search: SearchOptions) -> list[str]:
    """Which settings of a search differ from those of the method's training; none where that did not mix: an l_inf
    radius is one of pixels.
    """
    if "perp" not in setting:
        return []
    theirs, keys = to_dict(search), ("perp", "radius", "step_size", "step")
    return [key for key in keys if setting.get(key, theirs[key]) != theirs[key]]


def _inputs(opened: OpenClassifier, mixable: FittedModel | None) -> dict[str, str | None]:
    return {"classifier": opened.fingerprint, **fingerprints_of(mixable)}


def generator_summary(metadata: dict[str, Any]) -> dict[str, Any]:
    """What `results.json` says about the generator."""
    return {key: metadata.get(key) for key in ("fingerprint", "ready_made", "fit_seconds", "reconstruction_mse")}


def _identity(config: EvaluateConfig, opened: OpenClassifier, data: ColoredDigits) -> dict[str, Any]:
    trained = opened.metadata
    return {
        "method": opened.method,
        "seed": trained.get("seed", config.seed),
        "data": data.config.data,
        "look": data.config.look,
        "target": data.config.target,
        **_color_spread(data.config),
        "train_images": trained.get("train_images"),
        "test_images": len(data.shuffled),
        "train_seconds": trained.get("train_seconds"),
        "setting": trained.get("setting", {}),
        "accuracy_reconstruction": None,
        "accuracy_random_mix": None,
        "accuracy_worst_case": None,
        "generator": None,
    }


def _color_spread(config: DataConfig) -> dict[str, float]:
    """In the unit in which it was given."""
    if config.color_variance is not None:
        return {"color_variance": config.color_variance}
    return {"color_std": config.color_std}


def _accuracies(
    network: nn.Module, data: ColoredDigits, chosen: Tensor, device: torch.device, fabric: Fabric | None
) -> dict[str, float | None]:
    worst = None
    if data.config.target == "digit":  # a colour's worst recolouring is another colour
        worst = share(_recolored(network, data, chosen, device, fabric))
    biased, seen, uniform = (
        answers(predict_in_turns(fabric, network, images, device))
        for images in (data.biased, data.shuffled, data.uniform)
    )
    unanswered = int((seen < 0).sum())
    if unanswered:
        _note(f"{unanswered:,} of {len(seen):,} answers are no numbers (NaN or infinite) and count as wrong")
    return {
        "accuracy_biased": share(biased == data.biased.labels),
        "accuracy_shuffled": share(seen == data.shuffled.labels),
        "accuracy_uniform": share(uniform == data.uniform.labels),
        "accuracy_recolor_worst": worst,
    }


def _recolored(
    network: nn.Module, data: ColoredDigits, chosen: Tensor, device: torch.device, fabric: Fabric | None
) -> Tensor:
    """Whether each chosen digit is right under every paint; each process takes its share of the digits."""
    parts = chosen.chunk(1 if fabric is None else fabric.world_size)
    grid = data.look.grid()
    found = in_turns(fabric, parts, lambda rows: recolor_worst(network, data.gray_test[rows], data.look, grid, device))
    return torch.cat(found)


def _latents(images: ImageSet, mixable: FittedModel, fabric: Fabric | None) -> Latents:
    """Of all images, on the generator's device; the processes take turns."""
    parts, budget = list(slices(len(images), DRAWN_TOGETHER)), RowBudget()
    found = in_turns(fabric, parts, lambda part: encoded(images[part], mixable.encoder, budget=budget).to("cpu"))
    return Latents.cat(found).to(mixable.pool.styles.device)


def _searched(
    config: EvaluateConfig,
    network: nn.Module,
    data: ColoredDigits,
    chosen: Tensor,
    mixable: FittedModel,
    fabric: Fabric | None,
) -> dict[str, Any]:
    """Reconstructions and worst case on the chosen shuffled test images, and the gallery file."""
    device = mixable.pool.styles.device
    images, labels = data.shuffled.batch(chosen)
    latents = _latents(data.shuffled[chosen], mixable, fabric)
    search = config.search.mixer(mixable.generator, stop_early=True, arithmetic=config.arithmetic)
    pool = mixable.pool
    found = evaluate_latents(network, search, latents, labels.to(device), pool, seed=config.seed, fabric=fabric)
    vanished = int(found.vanished.sum())
    if vanished:
        _note(
            f"the classifier's gradients are zero on {vanished:,} of {len(labels):,} images, searched at random there"
        )
    shown = slice(0, GALLERY_SIZE)
    if is_first(fabric):
        gallery = _gallery(config, network, images[shown], labels[shown], latents[shown], mixable)
        write_tensors(config.out / GALLERY, "gallery", gallery, {})
    return {
        "accuracy_reconstruction": share(found.right_start),
        "accuracy_random_mix": share(found.right_random_mix),
        "accuracy_worst_case": share(found.right_worst_case),
    }


def _gallery(
    config: EvaluateConfig, network: nn.Module, images: Tensor, labels: Tensor, latents: Latents, mixable: FittedModel
) -> dict[str, Tensor]:
    """The first of the searched images with the worst of *all* candidates: nothing is picked."""
    search, loss = config.search.mixer(mixable.generator), search_loss(network, mixable.generator, latents)
    theirs = labels.to(mixable.pool.styles.device)
    _, mix, _ = evaluate_batch(network, search, latents, theirs, mixable.pool, seed=config.seed, start=0, loss=loss)
    confidence, predictions = predict_pixels(network, mix.images).max(dim=1)
    return {
        "originals": images,
        "variations": mix.images.cpu(),
        "labels": labels,
        "predictions": predictions,
        "confidence": confidence,
    }
