"""The quick part of `python -m faults`, in a process that may fork: those of pytest have threads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faults.__main__ import main
from forked import start

QUICK = ["--quick", "--every", "6", "--flips", "1", "--starts", "3", "--inputs", "fit", "latents", "nominal"]
KINDS = {
    "kill at a write": 12,
    "flipped bit": 12,
    "signal": 6,
    "SIGHUP under nohup": 1,
    "two starts at once": 3,
    "folder removed": 8,
    "terminal": 5,
}
"""And how many there are at least."""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    process = start(main, [*QUICK, "--out", str(out)])
    process.join()
    assert out.is_file()
    found: list[dict[str, Any]] = json.loads(out.read_text())["tried"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost(tried: list[dict[str, Any]], kind: str) -> None:
    those = [one for one in tried if one["kind"] == kind]
    assert sum(one["count"] for one in those) >= KINDS[kind]
    assert {one["place"]: one["failures"] for one in those if one["failures"]} == {}
