"""The classifiers that `advmix train` writes: the one place that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from advmix.classifiers.folders import TRAINED, WANTED
from advmix.classifiers.networks import build_network
from advmix.errors import UserError
from advmix.files import read_tensors

FILE = TRAINED


def load_classifier(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The classifier of a `train` folder, in eval mode, and its metadata.

    Raises:
        UserError: missing, damaged or not ours.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; name {WANTED}")
    tensors, metadata = read_tensors(path, "classifier")
    if not metadata.keys() >= {"classes", "image"}:
        raise UserError(f"{path}: does not say what images it is for; make it again with advmix train")
    network = build_network(metadata["method"], len(metadata["classes"]), metadata["image"][0], seed=0)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path}: the weights do not fit the classifier of {metadata['method']}; make it again"
        ) from error
    return network.eval(), metadata
