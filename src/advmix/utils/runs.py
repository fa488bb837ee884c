"""An output folder belongs to one run, and to one process at a time: what may be written into it, what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from advmix.utils import config as configs
from advmix.utils.device import in_first_process
from advmix.utils.errors import UserError
from advmix.utils.files import HELD, TEMPORARY, make_folder, read_json

try:
    import fcntl
except ImportError:  # Windows has no flock: there, nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from lightning_fabric import Fabric

READ = ("generator", "latents", "classifier", "weights", "features", "reference", "audit", "compare")
PLACES = ("out", "file", "cells", "finished", *READ)
WAYS = ("device", "machines", "resume", "trust_code", "checkpoint_seconds", "fail_under", "format", "votes")
RESUMABLE_FIELDS = (*PLACES, *WAYS)
"""Fields that may differ between a run and its continuation: of what is read, not the path counts but the content."""
CLAIM, LOCK = "config.json", ".lock"
CHUNKS = ".chunks"
"""A folder of what an audit has found so far."""
PARTS = ("gan", "encoder", "reference")
"""Subfolders in which a run trains something, unless they are runs of their own."""
WORKING = (
    *("checkpoint.pt", *(f"{part}/checkpoint.pt" for part in PARTS)),
    *("phases.json", "reference/fold-*.safetensors", CHUNKS, "shard-*.safetensors", ".variations-*.json"),
)
"""What a run keeps while it goes on, and nobody needs when it is done. Exports have folders called as classes are: of
folders, only the hidden one goes.
"""
LONGEST = 1000
"""Characters of a path; systems take from 260 to 4,096."""

_held: dict[Path, list[int]] = {}
"""Folders that this process has locked, with the descriptors: one for each time, so that a stage may run in another."""


@contextmanager
def open_run(
    out: Path,
    command: str,
    config: Any,
    resume: bool,
    inputs: Mapping[str, str | None],
    judges: Mapping[str, str | None] = MappingProxyType({}),
    replace: bool = False,
    fabric: Fabric | None = None,
) -> Iterator[str]:
    """Claim `out` as `claim_run` does, and keep other processes out of it until the run ends or the process dies. What
    was left over by one that died is removed; when the run ends without an error, so is what it worked with.

    Args:
        out: folder of the run.
        command: that writes it.
        config: its settings.
        resume: whether a run that is there may go on.
        inputs: fingerprints of what it reads.
        judges: likewise, of what only looks at the result.
        replace: whether an older run of the same command gives way.
        fabric: the processes of this run, the first of which claims and locks.

    Yields:
        The name of the run, as `claim_run` returns it.

    Raises:
        UserError: as `claim_run`, or another process is writing into the folder.
    """

    is_new = is_made = False

    def claim() -> str:
        nonlocal is_new, is_made
        _check_claim(out, command, config, resume, {**inputs, **judges}, replace)  # before anything is touched
        is_new, is_made = not (out / CLAIM).exists(), not out.exists()
        make_folder(out, parents=True)
        _lock(out)
        try:
            _remove_temporary(out)
            return claim_run(out, command, config, resume, inputs, judges, replace)
        except BaseException:
            _unlock(out)
            raise

    run = in_first_process(fabric, claim)
    try:
        yield run
        if len(_held.get(out.resolve(), [])) == 1:  # the first process alone, and no stage within another
            _remove_working(out)
    except UserError:
        if is_new:
            _take_back(out)
        raise
    finally:
        _unlock(out)
        if is_made:
            _remove_empty(out)


def claim_run(
    out: Path,
    command: str,
    config: Any,
    resume: bool,
    inputs: Mapping[str, str | None],
    judges: Mapping[str, str | None] = MappingProxyType({}),
    replace: bool = False,
) -> str:
    """Claim `out` for a run by writing its `config.json`: settings, and fingerprints of what it reads.

    `judges` are inputs that only look at the result: they may come in when a run goes on, but not be exchanged. With
    `replace`, an older run of the same command gives way. Several processes may claim a folder for one run.

    Returns:
        A short name of the run, for its checkpoints: it changes with the command and the inputs, not with the judges.

    Raises:
        UserError: the folder holds another run, or this one already and `resume` is off, or something else.
    """
    known = _check_claim(out, command, config, resume, {**inputs, **judges}, replace)
    make_folder(out, parents=True)
    configs.save(out, command, config, known)
    return " ".join([command, *(f"{name} {value}" for name, value in inputs.items())])


def _check_claim(
    out: Path, command: str, config: Any, resume: bool, inputs: Mapping[str, str | None], replace: bool
) -> dict[str, str | None]:
    """Whether the folder may be claimed, without touching it; the fingerprints that will be known then."""
    _check_path(out)
    path = out / CLAIM
    if path.is_file():
        old = read_json(path)
        if not isinstance(old, dict) or not isinstance(old.get(configs.INPUTS), dict):
            raise UserError(f"{path}: not the config of a run of advmix; choose another folder with --out")
        if replace and old.get("command") == command:
            return dict(inputs)
        known = old.pop(configs.INPUTS)
        _check_same(out, old, {"command": command, **configs.to_dict(config)}, resume)
        return _with_known_inputs(out, known, inputs)
    if out.is_dir() and any(not _is_ours(found.name) for found in out.iterdir()):
        raise UserError(f"{out}: not empty and not a run of advmix; choose another folder with --out")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: not a folder; choose another with --out")
    return dict(inputs)


def _check_path(out: Path) -> None:
    text = str(out)
    if not text.isprintable():
        raise UserError(f"--out {text!r}: a path with control characters; choose another")
    if len(text) > LONGEST or any(len(part.encode()) > 255 for part in out.parts):
        raise UserError(f"--out {text[:40]}...: a path of {len(text)} characters; choose a shorter one")


def _is_ours(name: str) -> bool:
    """What a process that was killed may leave in a folder before it has claimed it."""
    return name == LOCK or (name.startswith(".") and name.endswith(TEMPORARY))


def _lock(out: Path) -> None:
    """Keep other processes out; this one may come in again."""
    held = _held.get(out.resolve(), [])
    try:
        descriptor = -1 if fcntl is None or held else _locked(out)
    except OSError as error:
        raise UserError(f"{out / LOCK}: cannot be written ({error.strerror}); choose another folder") from error
    _held[out.resolve()] = [*held, descriptor]
    HELD.add(out.resolve())


def _locked(out: Path) -> int:
    """The descriptor of the lock."""
    while True:
        descriptor = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise UserError(
                f"{out}: in use by process {owner or 'unknown'}; wait for its end, or choose another folder with --out"
            ) from error
        except OSError:  # a file system without locks
            pass
        if _is_same_file(descriptor, out / LOCK):
            break
        os.close(descriptor)  # its owner removed it meanwhile
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _unlock(out: Path) -> None:
    """Take back what `_lock` did; processes that did not lock have nothing to take back."""
    *held, last = _held.pop(out.resolve(), [-1])
    if held:
        _held[out.resolve()] = held
        return
    HELD.discard(out.resolve())
    if last >= 0:
        if _is_same_file(last, out / LOCK):  # not another's, in a folder that was removed and made anew
            (out / LOCK).unlink(missing_ok=True)
        os.close(last)


def _take_back(out: Path) -> None:
    """A run that was refused before it wrote anything leaves nothing."""
    if {path.name for path in out.glob("*")} <= {CLAIM, LOCK}:
        (out / CLAIM).unlink(missing_ok=True)


def _remove_empty(out: Path) -> None:
    with suppress(OSError):  # there is something in it, as usual
        out.rmdir()


def _remove_working(out: Path) -> None:
    """Remove what a run worked with.

    Raises:
        UserError: the folder is not the run's any more.
    """
    held = _held[out.resolve()][0]
    _check_own(out, held)
    for path in [path for pattern in WORKING for path in out.glob(pattern)]:
        if path.name == CHUNKS:
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and (path.parent == out or not (path.parent / CLAIM).exists()):
            path.unlink(missing_ok=True)
    _check_own(out, held)  # what went away meanwhile still has them


def _check_own(out: Path, held: int) -> None:
    if not out.is_dir() or (held >= 0 and not _is_same_file(held, out / LOCK)):
        raise UserError(f"{out}: removed or exchanged while the run went on; run it again")


def _remove_temporary(out: Path) -> None:
    """Remove half-written files in a run's folder, and in its subfolders that are not runs of their own."""
    for path in out.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)
    for folder in out.iterdir():
        if folder.is_dir() and not folder.is_symlink() and not (folder / CLAIM).exists():
            _remove_temporary(folder)


def _with_known_inputs(
    out: Path, old: Mapping[str, str | None], new: Mapping[str, str | None]
) -> dict[str, str | None]:
    """What the first session did not name may come in later; what this session does not name stays known."""
    for name, value in new.items():
        if old.get(name, value) != value:
            raise UserError(
                f"{out}: this run began with another {name}; choose another folder with --out, or delete this one"
            )
    return {**old, **new}


def _check_same(out: Path, old: dict[str, Any], new: dict[str, Any], resume: bool) -> None:
    differing = [
        key for key in sorted(old.keys() | new.keys()) if key not in RESUMABLE_FIELDS and old.get(key) != new.get(key)
    ]
    if differing:
        key = "command" if "command" in differing else differing[0]
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
