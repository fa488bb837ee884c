"""Damaged files: read or refused in one line, never a traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import foreign_nvidia
import foreign_rosinality
from advmix.pretrained.read import read_generator
from advmix.utils.errors import UserError

CHANGES = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = foreign_nvidia.make_network(8, channel_max=1)
    return foreign_nvidia.write_snapshot(tmp_path_factory.mktemp("fuzz") / "whole.pkl", network)


def test_truncated_snapshots_are_refused(snapshot: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "truncated.pkl", snapshot.read_bytes()
    for length in (1, 2, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"truncated.pkl: damaged"):
            read_generator(path)


@given(CHANGES)
def test_damaged_snapshots_are_read_or_refused(snapshot: Path, changes: list[tuple[int, int]]) -> None:
    changed(snapshot, changes)


@pytest.fixture(scope="module", params=[0, 2, 4])
def older(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = foreign_nvidia.make_network(8, channel_max=1)
    return foreign_nvidia.write_snapshot(tmp_path_factory.mktemp("fuzz") / "whole.pkl", network, request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "legacy"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = foreign_rosinality.make_network((2, 2))
    return foreign_rosinality.write_checkpoint(tmp_path_factory.mktemp("fuzz") / "whole.pt", network, request.param)


def changed(whole: Path, changes: list[tuple[int, int]]) -> None:
    """Read a file with other bytes in places."""
    damaged = bytearray(whole.read_bytes())
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    path = whole.parent / "damaged"
    path.write_bytes(damaged)
    with contextlib.suppress(UserError):
        read_generator(path)


@given(CHANGES)
def test_damaged_snapshots_of_other_protocols(older: Path, changes: list[tuple[int, int]]) -> None:
    changed(older, changes)


@given(CHANGES)
def test_damaged_checkpoints(checkpoint: Path, changes: list[tuple[int, int]]) -> None:
    changed(checkpoint, changes)
