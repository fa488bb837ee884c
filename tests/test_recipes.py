"""The programs in examples/: each whole, short, and run as a reader would run it, over the folders of the commands."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import advmix
from advmix import UserError
from advmix.cli import main
from advmix.encoders.optimize import OptimizeEncoder
from study_runs import ROOT
from trained import shared

EXAMPLES = ROOT / "examples"
OVER_FOLDERS = ("huggingface_trainer", "lightning_loop", "randmix_loader", "timm_loop")
CPU = ["--device", "cpu"]


@shared
def folders(out: Path) -> None:
    """`fit/`, `latents/` and `nominal/`."""
    small = ["--train-images", "96", "--test-images", "50", *CPU]
    assert main(["fit", *small, "--fit-steps", "20", "--fit-batch", "16", "--out", str(out / "fit")]) == 0
    assert main(["encode", *CPU, "--generator", str(out / "fit"), "--out", str(out / "latents")]) == 0
    assert main(["train", *small, "--method", "nominal", "--epochs", "2", "--out", str(out / "nominal")]) == 0


def run(name: str, capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """What an example prints. In this process, which saves its imports; warnings of other people's packages are
    theirs.
    """
    capsys.readouterr()
    path, threads = str(EXAMPLES / f"{name}.py"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        patch.setattr(sys, "argv", [path, *map(str, flags)])
        runpy.run_path(path, run_name="__main__")
    torch.set_num_threads(threads)
    return capsys.readouterr().out


def over(folders: Path, *flags: object) -> list[object]:
    return ["--generator", folders / "fit", "--latents", folders / "latents", *flags]


def test_every_example_is_run_and_short() -> None:
    found = {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
    run_elsewhere = {"colored_folder"}  # by tests/test_pages.py, for the tutorial
    assert found.keys() == {"plain_loop", "random_style", "outside_attacks", *OVER_FOLDERS, *run_elsewhere}
    assert [name for name, text in found.items() if len(text.splitlines()) > 100] == []


def test_the_plain_loop(capsys: pytest.CaptureFixture[str]) -> None:
    said = run("plain_loop", capsys, "--fit-steps", 4, "--epochs", 1)
    assert re.search(r"epoch 1: \d+\.\d% right", said)


def test_a_random_style_needs_no_folders(capsys: pytest.CaptureFixture[str]) -> None:
    said = run("random_style", capsys, "--epochs", 1, "--workers", 1)
    assert re.search(r"epoch 1: \d+\.\d% right when the colours are shuffled", said)


@pytest.mark.parametrize("name", ["huggingface_trainer", "lightning_loop", "timm_loop"])
def test_loops_of_others(folders: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(name, capsys, *over(folders, "--epochs", 1))
    assert re.search(r"\d+\.\d% right when the colours are shuffled", said)


def test_workers_that_mix_are_deterministic_however_they_begin(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = over(folders, "--epochs", 2)
    fork = run("randmix_loader", capsys, *flags, "--workers", 1, "--start", "fork")
    words = [sys.executable, EXAMPLES / "randmix_loader.py", *flags, "--workers", 1, "--start", "spawn"]
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    spawn = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, env=threads)
    assert fork == spawn.stdout
    assert fork.count("% right") == 2
    assert fork != run("randmix_loader", capsys, *flags, "--workers", 2), "each worker has draws of its own"


def test_attacks_both_ways(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--classifier", folders / "nominal", "--images", 30]
    said = run("outside_attacks", capsys, *over(folders, *flags))
    clean, ours = re.findall(r"right on (\d+\.\d)%, after our search on (\d+\.\d)%", said)[0]
    assert float(ours) < float(clean)
    assert re.findall(r"under the attack on \d+\.\d%: (\w+)", said) == ["MixAttack", "FoolboxAttack"]


def test_load_reads_what_the_commands_wrote(folders: Path) -> None:
    parts = advmix.load(folders / "fit", str(folders / "latents"))
    images, _ = parts.data.train.batch(slice(0, 5))
    assert len(parts.pool) == len(parts.data.train) == 96
    assert torch.allclose(parts.encoder(images).styles, parts.pool[:5].styles, atol=1e-5)
    assert parts.generator(parts.pool[:5]).shape == images.shape
    with pytest.raises(UserError, match="holds no latents"):
        advmix.load(folders / "fit", folders / "fit")


def test_load_encodes_as_the_pool_was_encoded(folders: Path, tmp_path: Path) -> None:
    refine = ["--encoder", "refine", "--optimize-steps", "3", "--out", str(tmp_path)]
    assert main(["encode", *CPU, "--generator", str(folders / "fit"), *refine]) == 0
    parts = advmix.load(folders / "fit", tmp_path)
    images, _ = parts.data.train.batch(slice(0, 96))
    assert isinstance(parts.encoder, OptimizeEncoder)
    assert torch.allclose(parts.encoder(images).styles, parts.pool.styles, atol=1e-4)
