"""Fingerprints: sixteen hex digits that change with any number or letter."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from advmix.utils.errors import UserError


def hexdigest(*parts: str | Tensor) -> str:
    """The first sixteen digits of `sha256`."""
    return sha256(*parts)[:16]


def sha256(*parts: str | Tensor) -> str:
    """Of texts and tensors in this order. Tensors count by their bytes alone: name type and shape where they vary."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            numbers = part.detach().cpu().contiguous().as_strided((part.numel(),), (1,))
            digest.update(numbers.view(torch.uint8).numpy().data)
        else:
            digest.update(part.encode())
    return digest.hexdigest()


def named(tensors: Iterable[tuple[str, Tensor]]) -> list[str | Tensor]:
    """Parts for `hexdigest`: each tensor after its name and shape."""
    return [part for name, tensor in tensors for part in (f"{name}{tuple(tensor.shape)}", tensor)]


FORMAT_VERSION = "2"

HEADER = "advmix"

"""The only key of a safetensors file's metadata: with several, the library writes them in random order."""

DIGEST = "sha256"

"""Key under which a JSON object holds the digest of the rest of it."""

CHECKPOINT = b"advmix checkpoint "

TEMPORARY = ".advmix-tmp"

"""How the names of half-written files end."""

HELD: set[Path] = set()

"""Folders that runs of this process write into: one that has gone was removed, and is not made again."""

MAX_DEPTH = 100

"""Levels of JSON that are read; ours has fewer than ten, a network of torch.export some fifty."""


def atomic_write(path: Path, data: bytes) -> None:
    """Write next to `path`, flush to disk and rename, so that a reader sees the old file or the new one, also after a
    power cut. Permissions follow the umask.

    Raises:
        UserError: the folder is not there (it is never made here), no space left, or no permission; the old file is
            untouched.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}{TEMPORARY}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: cannot be written, the folder is not there (any more)")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{path}: no disk space left; free some, or choose another folder with --out")
    return UserError(f"{path}: cannot be written ({error.strerror or error}); choose another folder")


def _sync_folder(folder: Path) -> None:
    """The folder's own entries go to disk too, where the system can say so."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path, parents: bool = False) -> Path:
    """Make a folder unless it is there; returns it.

    Args:
        path: of the folder.
        parents: whether the folders above may be missing too. Without, what was removed meanwhile is not made again.

    Raises:
        UserError: it cannot be made.
    """
    if any(folder in HELD and not folder.is_dir() for folder in (path.resolve(), *path.resolve().parents)):
        raise UserError(f"{path}: cannot be written, the folder is not there (any more)")
    try:
        path.mkdir(parents=parents, exist_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    return path


@contextmanager
def folder_for(out: str | Path | None) -> Iterator[Path]:
    """The folder that is named, or a temporary one, which is removed if what is done in it fails."""
    if out is not None:
        yield Path(out)
        return
    folder = Path(tempfile.mkdtemp(prefix="advmix-"))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


Kept = TypeVar("Kept")


def with_folder(thing: Kept, folder: Path) -> Kept:
    """The same; its temporary folder is removed when nobody needs it any more."""
    weakref.finalize(thing, shutil.rmtree, folder, ignore_errors=True)
    return thing


def copy_folder(source: Path, target: str | Path, without: str | None = None) -> None:
    """Copy what a run wrote into a new folder.

    Args:
        source: the run's folder.
        target: the new one.
        without: name of a subfolder that is left out.

    Raises:
        UserError: there is something in it already.
    """
    out = Path(target)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: there is something in it already; save into a new folder")
    _copy(source, make_folder(out, parents=True), without)


def _copy(source: Path, target: Path, without: str | None = None) -> None:
    for path in sorted(source.iterdir()):
        if path.name == without:
            continue
        if path.is_dir():
            _copy(path, make_folder(target / path.name))
        elif not path.name.startswith("."):
            atomic_write(target / path.name, path.read_bytes())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON, written atomically; its last key is a digest of all others."""
    plain = json.loads(json.dumps(value, allow_nan=False))  # as it will be read: keys are strings, tuples are lists
    atomic_write(path, (json.dumps({**plain, DIGEST: json_digest(plain)}, indent=2) + "\n").encode())


def json_digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object without its own digest, in hex: it does not depend on white space or order."""
    plain = {key: item for key, item in value.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_json(path: Path, edited: bool = False) -> Any:
    """What `write_json` wrote, without its digest; or any JSON of somebody's.

    Args:
        path: of the file.
        edited: whether a person may have written or changed it.

    Raises:
        UserError: missing, not JSON, nested deeper than `MAX_DEPTH`, or not as it was written.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    value = parse_json(text, str(path))
    digest = value.pop(DIGEST, None) if isinstance(value, dict) else None
    if not edited and (digest is None or digest != json_digest(value)):
        raise UserError(f"{path}: not written by advmix, damaged or changed since (its digest differs); make it again")
    return value


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
    """Tensors as safetensors with JSON metadata: `kind`, format version, what made them, a digest of all of it. The
    same content gives the same bytes.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"format": f"advmix.{kind}", "version": FORMAT_VERSION, "metadata": metadata}
    sealed = json.dumps({**header, DIGEST: _payload_digest(plain, header)}, sort_keys=True)
    atomic_write(path, save_tensors(plain, {HEADER: sealed}))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote: tensors and metadata.

    Raises:
        UserError: missing, damaged, not ours, or of another kind or version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, kind, (file.metadata() or {}).get(HEADER))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a file of advmix, or damaged ({error}); make it again") from error
    if header.pop(DIGEST, None) != _payload_digest(tensors, header):
        raise UserError(
            f"{path}: damaged: its content does not have the digest that it was written with; make it again"
        )
    metadata: dict[str, Any] = header["metadata"]
    return tensors, metadata


def _payload_digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Of every name, type, shape and byte, and of the metadata."""
    parts = [part for name in sorted(tensors) for part in (str(tensors[name].dtype), *named([(name, tensors[name])]))]
    return sha256(json.dumps(header, sort_keys=True), *parts)


def _header(path: Path, kind: str, text: str | None) -> dict[str, Any]:
    header = None if text is None else parse_json(text, f"{path}: metadata")
    if not isinstance(header, dict):
        raise UserError(f"{path}: not a file of advmix; make it again")
    found = str(header.get("format", "no format"))[:80]
    if found != f"advmix.{kind}":
        raise UserError(f"{path}: holds {found!r}, but advmix.{kind} is wanted here")
    if header.get("version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {str(header.get('version'))[:20]}, but this advmix reads version "
            f"{FORMAT_VERSION}; make it again"
        )
    if not isinstance(header.get("metadata"), dict):
        raise UserError(f"{path}: not a file of advmix, or damaged (no metadata); make it again")
    return header


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """A training checkpoint (tensors and plain values) behind its digest, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    atomic_write(path, CHECKPOINT + hashlib.sha256(data).hexdigest().encode() + b"\n" + data)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint, read with `weights_only=True`: nothing in the file is executed.

    Raises:
        UserError: damaged, or not a checkpoint of ours.
    """
    try:
        first, _, data = path.read_bytes().partition(b"\n")
        if first != CHECKPOINT + hashlib.sha256(data).hexdigest().encode():
            raise UserError(f"{path}: not a checkpoint of advmix, or damaged; delete it to start anew")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged or hostile file; all mean the same to a user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: not a checkpoint of advmix, or damaged ({reason}); delete it to start anew"
        ) from error
    if not isinstance(state, dict) or not state.keys() >= {"step", "run", "trainee", "history", "seconds"}:
        raise UserError(f"{path}: not a checkpoint of advmix; delete it to start anew")
    return state
