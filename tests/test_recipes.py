"""The programs in examples/: each whole, short, and run as a reader would run it, over the folders of the commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import advmix
from advmix import UserError
from advmix.cli import main
from advmix.encoders import OptimizeEncoder
from study_runs import ROOT

EXAMPLES = ROOT / "examples"
OVER_FOLDERS = ("huggingface_trainer", "lightning_loop", "randmix_loader", "timm_loop")
CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fit/`, `latents/` and `nominal/`."""
    out = tmp_path_factory.mktemp("recipes")
    small = ["--train-images", "128", "--test-images", "50", *CPU]
    assert main(["fit", *small, "--fit-steps", "20", "--out", str(out / "fit")]) == 0
    assert main(["encode", *CPU, "--generator", str(out / "fit"), "--out", str(out / "latents")]) == 0
    assert main(["train", *small, "--method", "nominal", "--epochs", "2", "--out", str(out / "nominal")]) == 0
    return out


def run(name: str, folders: Path, *flags: str) -> str:
    """What an example prints; warnings of other people's packages are theirs."""
    paths = ["--generator", str(folders / "fit"), "--latents", str(folders / "latents")]
    arguments = [sys.executable, str(EXAMPLES / f"{name}.py"), *paths, *flags]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folders)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_and_short() -> None:
    found = {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert found.keys() == {"plain_loop", "outside_attacks", *OVER_FOLDERS}
    assert [name for name, text in found.items() if len(text.splitlines()) > 100] == []


def test_the_plain_loop() -> None:
    arguments = [sys.executable, str(EXAMPLES / "plain_loop.py"), "--fit-steps", "20", "--epochs", "1"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert re.search(r"epoch 1: \d+\.\d% right", done.stdout)


@pytest.mark.parametrize("name", ["huggingface_trainer", "lightning_loop", "timm_loop"])
def test_loops_of_others(folders: Path, name: str) -> None:
    assert re.search(r"\d+\.\d% right when the colours are shuffled", run(name, folders, "--epochs", "1"))


def test_workers_that_mix_are_deterministic_however_they_begin(folders: Path) -> None:
    fork = run("randmix_loader", folders, "--epochs", "2", "--start", "fork")
    assert fork == run("randmix_loader", folders, "--epochs", "2", "--start", "spawn")
    assert fork.count("% right") == 2
    assert fork != run("randmix_loader", folders, "--epochs", "2", "--workers", "1"), "each worker has its own draws"


def test_attacks_both_ways(folders: Path) -> None:
    said = run("outside_attacks", folders, "--classifier", str(folders / "nominal"), "--images", "30")
    clean, ours = re.search(r"right on (\d+\.\d)%, after our search on (\d+\.\d)%", said).groups()  # type: ignore[union-attr]
    assert float(ours) < float(clean)
    assert re.findall(r"under the attack on (\d+\.\d)%: (\w+)", said)[0] == (ours, "MixAttack")
    assert "FoolboxAttack(attack=LinfProjectedGradientDescentAttack(" in said


def test_load_reads_what_the_commands_wrote(folders: Path) -> None:
    parts = advmix.load(folders / "fit", str(folders / "latents"))
    images, _ = parts.data.train.batch(slice(0, 5))
    assert len(parts.pool) == len(parts.data.train) == 128
    assert torch.allclose(parts.encoder(images).styles, parts.pool[:5].styles, atol=1e-5)
    assert parts.generator(parts.pool[:5]).shape == images.shape
    with pytest.raises(UserError, match="holds no latents"):
        advmix.load(folders / "fit", folders / "fit")


def test_load_encodes_as_the_pool_was_encoded(folders: Path, tmp_path: Path) -> None:
    refine = ["--encoder", "refine", "--optimize-steps", "3", "--out", str(tmp_path)]
    assert main(["encode", *CPU, "--generator", str(folders / "fit"), *refine]) == 0
    parts = advmix.load(folders / "fit", tmp_path)
    images, _ = parts.data.train.batch(slice(0, 128))
    assert isinstance(parts.encoder, OptimizeEncoder)
    assert torch.allclose(parts.encoder(images).styles, parts.pool.styles, atol=1e-4)
