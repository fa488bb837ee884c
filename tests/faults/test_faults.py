"""The quick part of `python -m faults`, in a process that may fork: those of pytest have threads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults.__main__ import main
from forked import start
from trained import shared

QUICK = ["--quick", "--every", "3", "--flips", "1", "--starts", "3", "--inputs", "fit", "latents"]
KINDS = {
    "kill at a write": 12,
    "flipped bit": 9,
    "signal": 6,
    "SIGHUP under nohup": 1,
    "two starts at once": 3,
    "folder removed": 8,
    "terminal": 5,
}
"""And how many there are at least."""


@shared
def faults(out: Path) -> None:
    out.mkdir()
    process = start(main, [*QUICK, "--out", str(out / "faults.json")])
    process.join()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost(faults: Path, kind: str) -> None:
    those = [one for one in json.loads((faults / "faults.json").read_text())["tried"] if one["kind"] == kind]
    assert sum(one["count"] for one in those) >= KINDS[kind]
    assert {one["place"]: one["failures"] for one in those if one["failures"]} == {}
