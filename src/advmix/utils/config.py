"""Checks of the values in option dataclasses."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import dacite

from advmix.utils.errors import UserError
from advmix.utils.files import read_json, write_json
from advmix.utils.trust import untrusting

LARGEST = 2**31 - 1

"""Of whole numbers: what counts more than this fits no memory and takes for ever."""


def check_values(
    options: Any,
    names: str,
    *,
    least: float | None = None,
    above: float | None = None,
    within: tuple[float, float] | None = None,
) -> None:
    """Refuse a field of `options` that is not finite, too large, below `least`, not above `above`, or not `within` both
    ends; None passes.

    >>> check_values(self, "fit_batch fit_lr", above=0)
    >>> check_values(self, "clean_weight", within=(0, 1))

    Raises:
        UserError: naming the flag and its value.
    """
    for name in names.split():
        value = getattr(options, name)
        if value is None:
            continue
        flag = f"--{name.replace('_', '-')} {value}"
        if not math.isfinite(value):
            raise UserError(f"{flag}: must be a finite number")
        if isinstance(value, int) and value > LARGEST:
            raise UserError(f"{flag}: must be at most {LARGEST}")
        if least is not None and value < least:
            raise UserError(f"{flag}: must be at least {least}")
        if above is not None and value <= above:
            raise UserError(f"{flag}: must be more than {above}")
        if within is not None and not within[0] <= value <= within[1]:
            raise UserError(f"{flag}: must be between {within[0]} and {within[1]}")


@dataclass(frozen=True)
class Settings:
    """Settings in Python: a path may be given as text."""

    def __post_init__(self) -> None:
        for part in fields(self):
            value, kind = getattr(self, part.name), str(part.type)
            if isinstance(value, str) and "Path" in kind:
                object.__setattr__(self, part.name, Path(value))
            elif isinstance(value, list | tuple) and "tuple[Path" in kind:
                object.__setattr__(self, part.name, tuple(map(Path, value)))


def expanded(path: str | Path, flag: str) -> Path:
    """A path with `~` and `$NAME` filled in; a dollar sign may be part of a name that there is.

    Raises:
        UserError: the environment variable is not set, or there is no such user.
    """
    filled = os.path.expandvars(path)
    if "$" in filled and not os.path.lexists(filled):
        raise UserError(f"--{flag} {path}: the environment variable is not set")
    try:
        return Path(filled).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag} {path}: there is no such user; write ./~ if a folder is called so") from error


T = TypeVar("T")

INPUTS = "inputs"

"""Key of `config.json` under which the fingerprints stand of what a run reads."""


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values, nested dataclasses included."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(kind: type[T], data: Any, source: str) -> T:
    """The inverse of `to_dict`, strict: unknown and missing keys and wrong types are refused by name.

    Raises:
        UserError: naming `source` and the key.
    """
    _check_keys(kind, data, source, "")
    try:
        return dacite.from_dict(kind, _from_json(kind, data, source), dacite.Config(strict=True))
    except dacite.DaciteError as error:
        raise UserError(f"{source}: {error}") from error


def _from_json(kind: type, data: dict[str, Any], source: str) -> dict[str, Any]:
    """Strings to paths and lists to tuples where the dataclass wants them; types are dacite's to check."""
    hints, values = get_type_hints(kind), dict(data)
    for name, value in data.items():
        wanted = (hints[name], *get_args(hints[name]))
        if is_dataclass(hints[name]):
            values[name] = _from_json(hints[name], value, source)
        elif isinstance(value, dict) or (isinstance(value, str) and get_origin(hints[name]) is tuple):
            raise UserError(f"{source}: {name} is {str(value)[:40]!r}, of another kind than this setting")
        elif isinstance(value, str) and Path in wanted:
            values[name] = Path(value)
        elif isinstance(value, list):
            values[name] = tuple(map(Path, value)) if Path in wanted else tuple(value)
    return values


def _check_keys(kind: type, data: Any, source: str, prefix: str) -> None:
    if not isinstance(data, dict):
        raise UserError(f"{source}: {prefix.rstrip('.') or 'the whole file'} must be a JSON object")
    known = {field.name for field in fields(kind)}
    for words, names in (("unknown", data.keys() - known), ("missing", known - data.keys())):
        if names:
            listed = ", ".join(sorted(f"{prefix}{name}" for name in names))
            raise UserError(f"{source}: {words} {'key' if len(names) == 1 else 'keys'} {listed}")
    hints = get_type_hints(kind)
    for name in known:
        if is_dataclass(hints[name]):
            _check_keys(hints[name], data[name], source, f"{prefix}{name}.")


def save(folder: Path, command: str, config: Any, inputs: Mapping[str, str | None]) -> None:
    """Write `config.json` into `folder`: what to give to `--config` to run the same again, and the fingerprints of what
    the run reads.
    """
    write_json(folder / "config.json", {"command": command, **to_dict(config), INPUTS: dict(inputs)})


def load(path: Path, command: str, kind: type[T], edited: bool = False) -> T:
    """Read a saved config of `command`.

    Args:
        path: of the file.
        command: that wrote it.
        kind: of the config.
        edited: whether a person may have written or changed it.

    Raises:
        UserError: missing, damaged, or of another command, or with unknown or missing settings.
    """
    data = read_json(path, edited)
    if isinstance(data, dict) and "study" in data:
        data = data.get("config")  # a results.json holds the config that made it
    data = untrusting(data)
    if not isinstance(data, dict) or data.get("command") != command:
        made_by = data.get("command") if isinstance(data, dict) else None
        raise UserError(f"{path}: a config of {made_by!r}, not of {command!r}")
    return from_dict(kind, {key: value for key, value in data.items() if key not in ("command", INPUTS)}, str(path))
