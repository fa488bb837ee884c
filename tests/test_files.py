from __future__ import annotations

import errno
import json
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from advmix.errors import UserError
from advmix.files import (
    MAX_DEPTH,
    atomic_write,
    parse_json,
    read_checkpoint,
    read_json,
    read_tensors,
    write_checkpoint,
    write_json,
    write_tensors,
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: atomic_write(path, b"new" * 5000),
    "json": lambda path: write_json(path, list(range(5000))),
    "tensors": lambda path: write_tensors(path, "test", {"a": torch.ones(5000)}, {}),
    "checkpoint": lambda path: write_checkpoint(path, {"step": 1, "a": torch.ones(5000)}),
}
EVERY = pytest.mark.parametrize("name", WRITERS)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk on which no file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@EVERY
def test_file_is_written_whole_into_a_new_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / "folder" / "file"
    WRITERS[name](path)
    assert [found.name for found in path.parent.iterdir()] == ["file"]
    assert path.stat().st_size > 5000
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@EVERY
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_full_disk_leaves_the_old_file(tmp_path: Path, name: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"file: no disk space left"):
        WRITERS[name](path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@EVERY
def test_write_that_ends_halfway_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(UserError, match="file: "), largest_file(4000):
        WRITERS[name](path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@EVERY
def test_interruption_leaves_the_old_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        WRITERS[name](path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@EVERY
def test_folder_that_is_a_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken.file: cannot be written .*choose another folder"):
        WRITERS[name](tmp_path / "taken" / "file")


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "b": "ü⊥"}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert (tmp_path / "file.json").read_text().endswith("}\n")


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(UserError, match=r"file\.json: cannot be read as JSON"):
        read_json(tmp_path / "file.json")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"file\.json: no such file"):
        read_json(tmp_path / "file.json")
    with pytest.raises(UserError, match=r"file\.safetensors: no such file"):
        read_tensors(tmp_path / "file.safetensors", "test")


def test_folder_is_no_json_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_json(tmp_path)


def test_tensors_come_back_with_their_metadata(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3).t(), "b": torch.ones(1, dtype=torch.float64, requires_grad=True)}
    write_tensors(tmp_path / "file", "test", tensors, {"x": [1, None]})
    found, metadata = read_tensors(tmp_path / "file", "test")
    assert metadata == {"x": [1, None]}
    assert torch.equal(found["a"], tensors["a"])
    assert found["b"].dtype == torch.float64


def test_checkpoint_comes_back(tmp_path: Path) -> None:
    trainee = {"weight": torch.ones(2), "lr": (0.9, 0.99)}
    state = {"step": 3, "run": "a", "seconds": 1.5, "history": [{"loss": 0.5}], "trainee": trainee}
    write_checkpoint(tmp_path / "file", state)
    found = read_checkpoint(tmp_path / "file")
    assert torch.equal(found["trainee"].pop("weight"), state["trainee"].pop("weight"))  # type: ignore[attr-defined]
    assert json.dumps(found) == json.dumps(state)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_deeply_nested_json_is_one_line(depth: int, opening: str, closing: str) -> None:
    with pytest.raises(UserError, match=r"^metadata: cannot be read as JSON \(nested"):
        parse_json(opening * depth + "1" + closing * depth, "metadata")
    assert parse_json(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH, "metadata")
