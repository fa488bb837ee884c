"""Files on disk: written whole or not at all, never unpickled unsafely, always saying what made them."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from advmix.errors import UserError

FORMAT_VERSION = "1"
MAX_DEPTH = 100
"""Levels of JSON that are read; ours has fewer than ten, a network of torch.export some fifty."""


def atomic_write(path: Path, data: bytes) -> None:
    """Write next to `path`, flush to disk and rename, so that a reader sees the old file or the new one.

    Raises:
        UserError: no space left, or no permission; the old file is untouched.
    """

    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: no disk space left; free some, or choose another folder with --out") from error
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, written atomically."""
    atomic_write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Parsed JSON.

    Raises:
        UserError: missing, or not JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    return parse_json(text, str(path))


def parse_json(text: str | bytes, place: str) -> Any:
    """Parsed JSON that somebody else may have written.

    Args:
        text: the JSON.
        place: how the error calls it.

    Raises:
        UserError: not JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{place}: cannot be read as JSON ({reason})") from error
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        nested = [part for part in level if isinstance(part, dict | list)]
        level = [item for part in nested for item in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return value
    raise UserError(f"{place}: cannot be read as JSON (nested deeper than {MAX_DEPTH} levels)")


def write_tensors(path: Path, kind: str, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Tensors as safetensors with JSON metadata: `kind`, format version, what made them."""
    header = {"format": f"advmix.{kind}", "version": FORMAT_VERSION, "metadata": json.dumps(metadata)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write(path, save_tensors(plain, header))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote: tensors and metadata.

    Raises:
        UserError: missing, damaged, not ours, or of another kind or version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_header(path, kind, header)
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(header["metadata"])  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a file of advmix, or damaged ({error}); make it again") from error


def _check_header(path: Path, kind: str, header: dict[str, str]) -> None:
    found = header.get("format", "no format")
    if found != f"advmix.{kind}":
        raise UserError(f"{path}: holds {found!r}, but advmix.{kind} is wanted here")
    if header.get("version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {header.get('version')}, but this advmix reads version {FORMAT_VERSION}"
        )


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """A training checkpoint (tensors and plain values), atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic_write(path, buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint, read with `weights_only=True`: nothing in the file is executed.

    Raises:
        UserError: damaged, or not a checkpoint of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or hostile file; all mean the same to a user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: not a checkpoint of advmix, or damaged ({reason}); delete it to start anew"
        ) from error
    if not isinstance(state, dict) or not state.keys() >= {"step", "run", "trainee", "history", "seconds"}:
        raise UserError(f"{path}: not a checkpoint of advmix; delete it to start anew")
    return state
