"""Whose classifier is in a folder: one that `advmix train` wrote, or one of Hugging Face's transformers."""

from __future__ import annotations

from pathlib import Path

from advmix.errors import UserError
from advmix.files import read_json

TRAINED, CONFIG = "classifier.safetensors", "config.json"
WANTED = "a folder that advmix train wrote, or one of save_pretrained of Hugging Face, with config.json and weights"


def is_pretrained(folder: Path) -> bool:
    """Whether a folder says that it holds a model of transformers, and holds none of ours."""
    if not (folder / CONFIG).is_file() or (folder / TRAINED).is_file():
        return False
    try:
        config = read_json(folder / CONFIG)
    except UserError:
        return False
    return (
        isinstance(config, dict) and "command" not in config and bool({"model_type", "architectures"} & config.keys())
    )
