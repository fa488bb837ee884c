"""The quick part of `python -m faults`, in a process of its own: it forks, which processes of pytest cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
QUICK = ["--quick", "--flips", "1", "--starts", "5", "--inputs", "fit", "latents", "nominal"]
KINDS = {
    "kill at a write": 60,
    "flipped bit": 12,
    "signal": 6,
    "SIGHUP under nohup": 1,
    "two starts at once": 5,
    "folder removed": 8,
    "terminal": 5,
}
"""And how many there are at least."""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "faults", *QUICK, "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.is_file(), done.stderr
    found: list[dict[str, Any]] = json.loads(out.read_text())["tried"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost(tried: list[dict[str, Any]], kind: str) -> None:
    those = [one for one in tried if one["kind"] == kind]
    assert sum(one["count"] for one in those) >= KINDS[kind]
    assert {one["place"]: one["failures"] for one in those if one["failures"]} == {}
