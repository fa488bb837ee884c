"""An output folder belongs to one run: what may be written into it, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from advmix import config as configs
from advmix.errors import UserError
from advmix.files import read_json, write_json

READ = ("generator", "latents", "classifier", "weights", "features", "reference", "audit", "compare")
PLACES = ("out", "file", "cells", "finished", *READ)
HOW_NOT_WHAT = (*PLACES, "device", "resume", "trust_code", "checkpoint_seconds")
"""Fields that may differ between a run and its continuation: of what is read, not the path counts but the content."""


def open_run(
    out: Path,
    command: str,
    config: Any,
    resume: bool,
    inputs: Mapping[str, str | None],
    judges: Mapping[str, str | None] = MappingProxyType({}),
    replace: bool = False,
) -> str:
    """Claim `out` for a run by writing its `config.json`, and `inputs.json` with the fingerprints of what it reads.

    `judges` are inputs that only look at the result: they may come in when a run goes on, but not be exchanged. With
    `replace`, an older run of the same command gives way.

    Returns:
        A short name of the run, for its checkpoints: it changes with the command and the inputs, not with the judges.

    Raises:
        UserError: the folder holds another run, or this one already and `resume` is off, or something else.
    """
    path, known = out / "config.json", {**inputs, **judges}
    if path.is_file():
        old = read_json(path)
        if not isinstance(old, dict):
            raise UserError(f"{path}: not a config of advmix; choose another folder with --out")
        if not (replace and old.get("command") == command):
            filled, _ = configs.with_defaults(type(config), old)
            _check_same(out, filled, {"command": command, **configs.to_dict(config)}, resume)
            known = _with_known_inputs(out, read_json(out / "inputs.json"), known)
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: not empty and not a run of advmix; choose another folder with --out")
    elif out.exists() and not out.is_dir():
        raise UserError(f"{out}: not a folder; choose another with --out")
    configs.save(out, command, config)
    write_json(out / "inputs.json", known)
    return " ".join([command, *(f"{name} {value}" for name, value in inputs.items())])


def _with_known_inputs(out: Path, old: Any, new: Mapping[str, str | None]) -> dict[str, str | None]:
    """What an older version did not write down is not held against it; what this session does not name stays known."""
    for name, value in new.items():
        if not isinstance(old, dict) or old.get(name, value) != value:
            raise UserError(
                f"{out}: this run began with another {name}; choose another folder with --out, or delete this one"
            )
    return {**(old if isinstance(old, dict) else {}), **new}


def _check_same(out: Path, old: dict[str, Any], new: dict[str, Any], resume: bool) -> None:
    differing = [
        key for key in sorted(old.keys() | new.keys()) if key not in HOW_NOT_WHAT and old.get(key) != new.get(key)
    ]
    if differing:
        key = differing[0]
        what = first_difference(old.get(key), new.get(key))
        raise UserError(f"{out}: holds another run ({key} {what}); choose another folder with --out")
    if not resume:
        raise UserError(f"{out}: holds this run already; go on with --resume, or choose another folder with --out")


def first_difference(old: Any, new: Any) -> str:
    """The first difference between two values, nested ones by their key."""
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key))
        return f"{key} {first_difference(old.get(key), new.get(key))}"
    return f"{old!r} there, {new!r} here"
