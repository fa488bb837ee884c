"""The tiers of the face study are commands that there are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from advmix.cli import parse
from advmix.studies.celeba.gallery import GalleryConfig
from advmix.studies.celeba.settings import CelebaConfig
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
    words = ["bash", str(ROOT / "scripts" / "faces.sh"), *arguments]
    env = {**os.environ, "ADVMIX": "echo", **environment}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=env)


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
    assert script("smiling", "faces", ADVMIX=str(failing), PROCESSES="2").returncode == 2


@pytest.mark.parametrize("arguments", [(), ("smiling",), ("smilling", "faces"), ("smiling", "--epochs", "2")])
def test_other_words_show_the_usage(arguments: tuple[str, ...]) -> None:
    done = script(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
