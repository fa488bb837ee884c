"""Folders of the face studies, named by what their parts are made with, so that several settings share `--cells`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advmix.config import to_dict
from advmix.files import read_json
from advmix.hashing import hexdigest
from advmix.studies.celeba.settings import CelebaConfig
from advmix.studies.celeba.variants import BASE

FITTED = ("fit",)
TRAINED = ("train", "search", "baseline")
"""Groups of settings that make a generator, and those that make a classifier with it."""


def changes(settings: Mapping[str, Any], groups: Sequence[str]) -> dict[str, Any]:
    """The settings that differ from the studies' own: `{"train.epochs": 5}`."""
    usual = to_dict(CelebaConfig())
    return {
        f"{group}.{name}": value
        for group in groups
        for name, value in settings.get(group, {}).items()
        if value != usual[group].get(name)
    }


def tagged(plain: Path, changed: Mapping[str, Any]) -> Path:
    """A folder's name with eight digits that change with the settings; as it is where all are the studies' own."""
    tag = hexdigest(json.dumps(changed, sort_keys=True))[:8]
    return plain.with_name(f"{plain.name}-{tag}") if changed else plain


def holds(folder: Path, changed: Mapping[str, Any], groups: Sequence[str]) -> bool:
    """Whether a folder holds a part that was made with these settings: older versions had one name for all."""
    path = folder / "config.json"
    saved = read_json(path, edited=True) if path.is_file() else None
    return isinstance(saved, dict) and changes(saved, groups) == changed


def fitted_place(plain: Path, config: CelebaConfig) -> Path:
    """Where a generator is; a variant's name is the end of the folder's."""
    changed = changes(to_dict(config), FITTED)
    place = plain if holds(plain, changed, FITTED) else tagged(plain, changed)
    return place if config.variant == BASE else place.with_name(f"{place.name}-{config.variant}")


def trained_place(plain: Path, config: CelebaConfig, plainly_fitted: bool) -> Path:
    """Where the classifiers are that are trained with a generator.

    Args:
        plain: the name without any tag.
        config: of the study.
        plainly_fitted: whether the generator's folder has no tag.
    """
    settings = to_dict(config)
    changed = changes(settings, TRAINED)
    if plainly_fitted and any(holds(path.parent, changed, TRAINED) for path in plain.glob("*/config.json")):
        return plain
    variant = {} if config.variant == BASE else {"variant": config.variant}
    return tagged(plain, changes(settings, FITTED + TRAINED) | variant)
