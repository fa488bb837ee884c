"""A classifier with other weights, written so that `--classifier` reads it again, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from advmix.classifiers.networks import TRAINED, is_pretrained
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import Classifier
from advmix.classifiers.zoo import PROCESSOR, Reversed
from advmix.utils.config import to_dict
from advmix.utils.errors import UserError
from advmix.utils.files import atomic_write, make_folder, write_json, write_tensors
from advmix.utils.progress import quietly

WEIGHTS, OPTIONS = "weights.safetensors", "classifier.json"


def save_classifier(folder: Path, opened: OpenClassifier, core: nn.Module, about: Mapping[str, Any]) -> Path | None:
    """Write what `--classifier` names: a folder as `advmix train` or Hugging Face's `save_pretrained` writes it, or a
    .json file with weights beside it.

    Args:
        folder: for all of it.
        opened: how the classifier was opened.
        core: the module in its `core`'s place, with the weights that are written.
        about: what was done with it, for the metadata.

    Returns:
        What is to be named; None where it was in memory: then `weights.safetensors` holds its weights alone.

    Raises:
        UserError: the folder cannot be written.
    """
    make_folder(folder)
    options = opened.options
    if opened.metadata:
        metadata = {name: value for name, value in opened.metadata.items() if name != "train_seconds"}
        write_tensors(folder / TRAINED, "classifier", _tensors(core), {**metadata, **about})
        return folder
    if options is not None and is_pretrained(Path(options.classifier)):
        _save_pretrained(folder, Path(options.classifier), core)
        return folder
    atomic_write(folder / WEIGHTS, save(_tensors(core)))
    if options is None:
        return None
    said = {part.name: getattr(options, part.name) for part in fields(ClassifierOptions)}
    said |= {"weights": Path(WEIGHTS), "trust_code": False, **_brought(opened, core)}
    write_json(folder / OPTIONS, to_dict(ClassifierOptions(**said)))
    return folder / OPTIONS


def _tensors(core: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in core.state_dict().items()}


def _brought(opened: OpenClassifier, core: nn.Module) -> dict[str, Any]:
    """How images are brought to the network, which a library knows of its own weights and not of others."""
    wrapper = next(part for part in opened.network.modules() if isinstance(part, Classifier))
    if isinstance(core, Classifier):  # made with its own
        return {}
    size = "x".join(map(str, wrapper.size)) if isinstance(wrapper.size, tuple) else wrapper.size
    mean, std = (tuple(part.flatten().tolist()) for part in (wrapper.mean, wrapper.std))
    plain = mean == (0.0,) and std == (1.0,)
    return {"input_size": size} | ({} if plain else {"mean": mean, "std": std})


def _save_pretrained(folder: Path, source: Path, core: nn.Module) -> None:
    model: Any = core.network if isinstance(core, Reversed) else core
    model.save_pretrained(folder)
    if (source / PROCESSOR).is_file():
        atomic_write(folder / PROCESSOR, (source / PROCESSOR).read_bytes())


@torch.no_grad()
def check_saved(path: Path, opened: OpenClassifier, network: nn.Module, images: Tensor) -> None:
    """Open what was written, and compare its answers.

    Args:
        path: what `save_classifier` returned.
        opened: how the classifier was opened.
        network: images to logits, with the weights that were written, on the CPU.
        images: `(B, C, H, W)` in [0, 1].

    Raises:
        UserError: it answers otherwise.
    """
    channels, height, width = images.shape[1:]
    with quietly():
        again = open_classifier(
            ClassifierOptions(str(path), trust_code=True), opened.classes, (channels, height, width)
        )
    if not torch.allclose(again.network(images), network.eval()(images), rtol=1e-3, atol=1e-4):
        raise UserError(
            f"{path}: opened again it answers otherwise, so that it is of no use; the network may have a state that is "
            "not among its weights"
        )
