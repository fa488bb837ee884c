"""A job killed with SIGKILL and started again with --resume ends in the same file as one that was never stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from advmix.cli import main
from forked import start_command
from trained import shared

SMALL = ["--train-images", "160", "--device", "cpu"]


@shared
def fitted(folder: Path) -> None:
    """A tiny generator with its latents: `fit/` and `latents/`."""
    assert main(["fit", *SMALL, "--fit-steps", "20", "--out", str(folder / "fit")]) == 0
    encode = ["encode", "--generator", str(folder / "fit"), "--device", "cpu", "--shard-size", "8"]
    assert main([*encode, "--out", str(folder / "latents")]) == 0


def kill_when(ready: Callable[[], bool], arguments: list[str]) -> None:
    """Start the command in a process of its own and SIGKILL it as soon as `ready`."""
    job = start_command(*arguments)
    try:
        while not ready():
            assert job.is_alive(), "the job ended before it could be killed"
            time.sleep(0.002)
    finally:
        job.kill()
        job.join()
        assert job.exitcode in (-signal.SIGKILL, 0)


def same_tensors(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_killed_fit_resumes_to_the_same_weights(fitted: Path, tmp_path: Path) -> None:
    arguments = ["fit", *SMALL, "--fit-steps", "20", "--out", str(tmp_path / "fit"), "--checkpoint-seconds", "0"]
    kill_when((tmp_path / "fit" / "checkpoint.pt").exists, arguments)
    assert not (tmp_path / "fit" / "generator.safetensors").exists()
    assert main(arguments) == 2  # without --resume nothing is touched
    assert main([*arguments, "--resume"]) == 0
    assert same_tensors(fitted / "fit" / "generator.safetensors", tmp_path / "fit" / "generator.safetensors")
    assert (fitted / "fit" / "log.jsonl").read_text() == (tmp_path / "fit" / "log.jsonl").read_text()
    assert not (tmp_path / "fit" / "checkpoint.pt").exists()


def test_killed_encode_resumes_to_the_same_latents(fitted: Path, tmp_path: Path) -> None:
    out = tmp_path / "latents"
    encode = ["encode", "--generator", str(fitted / "fit"), "--device", "cpu", "--shard-size", "8"]
    kill_when((out / "latents-00001.safetensors").exists, [*encode, "--out", str(out)])
    for last in sorted(out.glob("latents-*"))[3:]:  # where the machine was quick enough to go on, the kill came earlier
        last.unlink()
    (out / "seconds.json").unlink(missing_ok=True)
    assert main([*encode, "--out", str(out), "--resume"]) == 0
    names = [path.name for path in sorted((fitted / "latents").glob("latents-*"))]
    assert len(names) == 20
    assert all(same_tensors(fitted / "latents" / name, out / name) for name in names)


def test_killed_train_resumes_to_the_same_weights(fitted: Path, tmp_path: Path) -> None:
    common = ["train", "--method", "advmix", "--generator", str(fitted / "fit"), "--latents", str(fitted / "latents")]
    common += ["--device", "cpu", "--epochs", "3", "--batch", "32"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*common, "--out", str(whole)]) == 0
    arguments = [*common, "--out", str(killed), "--checkpoint-seconds", "0"]
    kill_when((killed / "checkpoint.pt").exists, arguments)
    assert main([*arguments, "--resume"]) == 0
    assert same_tensors(whole / "classifier.safetensors", killed / "classifier.safetensors")
