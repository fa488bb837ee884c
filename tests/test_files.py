from __future__ import annotations

import errno
import json
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from advmix.utils.errors import UserError
from advmix.utils.files import (
    MAX_DEPTH,
    atomic_write,
    make_folder,
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
    "json": lambda path: write_json(path, {"numbers": list(range(5000))}),
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
def test_file_is_written_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / ("n" * 255)  # as long as a name may be
    WRITERS[name](path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_size > 5000


@EVERY
def test_folder_that_has_gone_is_not_made_again(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"file: cannot be written, the folder is not there"):
        WRITERS[name](tmp_path / "gone" / "file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"part: cannot be written, the folder is not there"):
        make_folder(tmp_path / "gone" / "part")


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o007])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors, metadata = {"b": torch.ones(3), "a": torch.zeros(2)}, {"z": 1, "y": 2, "x": [3]}
    write_tensors(tmp_path / "one", "test", tensors, metadata)
    write_tensors(tmp_path / "two", "test", dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


READERS: dict[str, Callable[[Path], object]] = {
    "json": read_json,
    "tensors": lambda path: [part.tolist() if isinstance(part, torch.Tensor) else part for part in _flat(path)],
    "checkpoint": lambda path: {key: str(value) for key, value in read_checkpoint(path).items()},
}


def _flat(path: Path) -> list[object]:
    tensors, metadata = read_tensors(path, "test")
    return [*tensors.items(), *tensors.values(), metadata]


@pytest.mark.parametrize("name", READERS)
def test_every_flipped_bit_is_found_or_without_effect(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    state = {"step": 3, "run": "a run", "trainee": {"a": torch.arange(3.0)}, "history": [], "seconds": 1.5}
    write: dict[str, Callable[[], None]] = {
        "json": lambda: write_json(path, {"name": "ü", "number": 0.25, "list": [1, None, True]}),
        "tensors": lambda: write_tensors(path, "test", {"a": torch.arange(3.0)}, {"number": 1, "text": "b"}),
        "checkpoint": lambda: write_checkpoint(path, state),
    }
    write[name]()
    whole, expected = path.read_bytes(), str(READERS[name](path))
    for place in range(0, len(whole), 1 + len(whole) // 400):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with suppress(UserError):
            assert str(READERS[name](path)) == expected, f"byte {place}"


def test_json_that_a_person_changed_is_read_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_json(path, {"seed": 0})
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="damaged or changed since"):
        read_json(path)
    assert read_json(path, edited=True) == {"seed": 1}


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


def test_json_without_a_digest_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"accuracy": 1.0}')
    with pytest.raises(UserError, match="not written by advmix"):
        read_json(tmp_path / "results.json")


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
