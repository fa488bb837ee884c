"""The tiers of the face study are commands that there are."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import parse
from experiments.faces.gallery import GalleryConfig
from experiments.faces.settings import CelebaConfig
from study_runs import ROOT

TIERS = {
    "select": 1,
    "autoencoder": 1,
    "smiling": 1,
    "tinted": 1,
    "amounts": 2,
    "attributes": 3,
    "stress": 2,
    "survival": 1,
    "marginalize": 2,
    "pictures": 2,
}


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", str(ROOT / "experiments" / "faces.sh"), *arguments]
    env = {**os.environ, "EXPERIMENT": "echo", **environment}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=env)


def until(there: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    for _ in range(400):
        if there():
            return
        time.sleep(0.05)
    raise TimeoutError


def configs(tier: str, *arguments: str, **environment: str) -> list[Any]:
    done = script(tier, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return [parse(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("tier", "count"), TIERS.items())
def test_every_tier_is_understood(tier: str, count: int) -> None:
    found = configs(tier, "faces", "smiles", GAN="gan")
    assert len(found) == count
    assert all(config.data == "faces" for config in found)
    outs = [config.out for config in found]
    assert len(set(outs)) == count


def test_tiers_say_what_they_are_about() -> None:
    assert [config.labelled for config in configs("amounts", "faces", "smiles")] == [None, 1000]
    assert {config.also for config in configs("amounts", "faces", "smiles")} == {"smiles"}
    assert {config.also for config in configs("amounts", "faces")} == {None}
    assert [config.stress.cue for config in configs("stress", "faces")] == ["Male", "Male"]
    assert [config.publish for config in configs("pictures", "faces", GAN="gan")] == [False, True]
    assert isinstance(configs("pictures", "faces")[0], GalleryConfig)
    judged = [config.judge for tier in TIERS for config in configs(tier, "faces") if isinstance(config, CelebaConfig)]
    assert judged.count("select") == 1
    assert judged[0] == "select"


def test_further_flags_go_to_every_study_and_override_the_tier() -> None:
    (chosen,) = configs("select", "faces", "--steps", "4", "--methods", "nominal", "advmix", "--out", "elsewhere")
    assert (chosen.search.steps, chosen.methods, str(chosen.out)) == (4, ("nominal", "advmix"), "elsewhere")
    assert chosen.judge == "select"
    assert chosen.worst_images == 300
    (more,) = configs("select", "faces", WORST="40")
    assert more.worst_images == 40
    for tier in TIERS:
        found = configs(tier, "faces", "smiles", "--fit-steps", "9", "--data", "others")
        assert {(config.fit.fit_steps, config.data) for config in found} == {(9, "others")}
    assert {config.also for config in configs("smiling", "faces", "smiles", "--epochs", "2")} == {"smiles"}
    assert {config.also for config in configs("smiling", "faces", "--epochs", "2")} == {None}


def test_processes_share_a_command_and_a_failure_is_one(tmp_path: Path) -> None:
    assert len(script("smiling", "faces", PROCESSES="3").stdout.splitlines()) == 3
    failing = tmp_path / "advmix"
    failing.write_text("#!/bin/sh\nexit 2\n")
    failing.chmod(0o755)
    for processes in ("1", "2"):
        assert script("smiling", "faces", EXPERIMENT=str(failing), PROCESSES=processes).returncode == 2


def test_one_process_that_fails_leaves_the_others_their_work(tmp_path: Path) -> None:
    first = tmp_path / "advmix"
    first.write_text(
        f"#!/bin/sh\nif mkdir {tmp_path}/first 2>/dev/null; then exit 3; fi\nsleep 0.5\necho done >>{tmp_path}/others\n"
    )
    first.chmod(0o755)
    done = script("stress", "faces", EXPERIMENT=str(first), PROCESSES="3")
    assert done.returncode == 3
    assert (tmp_path / "others").read_text().split() == ["done", "done"]  # and the tier's second study is not begun


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_interrupt_stops_all_processes_and_lets_them_save(tmp_path: Path, processes: str) -> None:
    saving = tmp_path / "advmix"
    saving.write_text(
        "#!/usr/bin/env python3\nimport os, signal, sys, time\n"
        f"def save(*_):\n    open(f'{tmp_path}/saved-{{os.getpid()}}', 'w')\n    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save)\nsignal.signal(signal.SIGTERM, save)\n"
        f"open(f'{tmp_path}/started-{{os.getpid()}}', 'w')\ntime.sleep(60)\n"
    )
    saving.chmod(0o755)
    words = ["bash", str(ROOT / "experiments" / "faces.sh"), "smiling", "faces"]
    env = {**os.environ, "EXPERIMENT": str(saving), "PROCESSES": processes}
    with subprocess.Popen(words, env=env, start_new_session=True) as running:
        until(lambda: len(list(tmp_path.glob("started-*"))) == int(processes))
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        assert running.wait(timeout=20) == 130
    assert len(list(tmp_path.glob("saved-*"))) == int(processes)


@pytest.mark.parametrize("tier", ["amounts", "attributes", "stress", "marginalize"])
def test_several_studies_do_not_share_a_folder(tier: str) -> None:
    done = script(tier, "faces", "--out", "elsewhere")
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("arguments", [(), ("smiling",), ("smilling", "faces"), ("smiling", "--epochs", "2")])
def test_other_words_show_the_usage(arguments: tuple[str, ...]) -> None:
    done = script(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
