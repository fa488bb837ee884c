"""Seconds of phases, over sessions."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from advmix.commands.fit import FitConfig
from advmix.utils.progress import PHASES_FILE, PhaseTimer
from advmix.utils.runs import claim_run, open_run


def test_a_session_that_goes_on_adds_to_the_seconds(tmp_path: Path) -> None:
    claim_run(tmp_path, "fit", FitConfig(), resume=False, inputs={})
    first = PhaseTimer(tmp_path)

    def interrupted() -> None:
        with first("search"):
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_run(tmp_path, "fit", FitConfig(), True, {}):
        second = PhaseTimer(tmp_path)
        with second("search"):
            time.sleep(0.05)
        with second("report"):
            pass
        assert (tmp_path / PHASES_FILE).exists()
    assert second.seconds["search"] >= first.seconds["search"] + 0.05 >= 0.1
    assert list(second.seconds) == ["search", "report"]
    assert not (tmp_path / PHASES_FILE).exists()


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    clock = PhaseTimer(None)
    with clock("search"):
        pass
    assert clock.seconds["search"] >= 0
    assert not list(tmp_path.iterdir())
