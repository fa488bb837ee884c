"""The command line as a user meets it: stages one after the other, and one clear line with exit code 2 for bad
input.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import save_file

from advmix.cli import main
from advmix.encoders.autoencoder import load_autoencoder
from advmix.report.tables import schema
from advmix.utils.files import read_checkpoint
from forked import start
from trained import shared

CPU = ["--device", "cpu"]
SMALL = ["--train-images", "120", "--test-images", "40", *CPU]


@shared
def stages(folder: Path) -> None:
    """`fit/`, `latents/` and `advmix/`, each made by its own command."""
    fit, latents, advmix = (str(folder / name) for name in ("fit", "latents", "advmix"))
    assert main(["fit", *SMALL, "--fit-steps", "30", "--fit-batch", "16", "--out", fit]) == 0
    assert main(["encode", *CPU, "--generator", fit, "--out", latents]) == 0
    train = ["train", *CPU, "--method", "advmix", "--epochs", "1", "--generator", fit, "--latents", latents]
    assert main([*train, "--out", advmix]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused; its one line."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("advmix: ")
    return lines[0]


def test_stages_work_on_each_others_files(stages: Path, tmp_path: Path) -> None:
    arguments = ["--generator", str(stages / "fit"), "--latents", str(stages / "latents"), "--worst-images", "20"]
    out = tmp_path / "evaluation"
    assert main(["evaluate", *CPU, "--classifier", str(stages / "advmix"), *arguments, "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["study"] == "evaluate"
    assert results["runs"][0]["worst_case_images"] == 20
    assert results["search"]["restarts"] == 5
    jsonschema.validate(results, schema())


def test_a_nominal_classifier_needs_no_generator(tmp_path: Path) -> None:
    out = tmp_path / "nominal"
    assert main(["train", *SMALL, "--method", "nominal", "--epochs", "1", "--out", str(out)]) == 0
    evaluation = tmp_path / "evaluation"
    assert main(["evaluate", *CPU, "--classifier", str(out), "--out", str(evaluation)]) == 0
    run = json.loads((evaluation / "results.json").read_text())["runs"][0]
    jsonschema.validate(json.loads((evaluation / "results.json").read_text()), schema())
    assert run["accuracy_worst_case"] is None
    assert 0 <= run["accuracy_shuffled"] <= 1


@pytest.mark.parametrize("encoder", ["mean", "refine"])
def test_encode_by_optimisation(stages: Path, tmp_path: Path, encoder: str) -> None:
    out = tmp_path / "latents"
    options = ["--encoder", encoder, "--optimize-steps", "2", "--features", str(stages / "advmix")]
    assert main(["encode", *CPU, "--generator", str(stages / "fit"), *options, "--out", str(out)]) == 0
    train = ["train", *CPU, "--method", "randmix", "--epochs", "1", "--generator", str(stages / "fit")]
    assert main([*train, "--latents", str(out), "--out", str(tmp_path / "randmix")]) == 0


def test_one_style_is_for_generators_with_a_mapping_network(
    stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["encode", *CPU, "--generator", str(stages / "fit"), "--encoder", "mean", "--one-style"]
    assert main([*command, "--out", str(tmp_path / "latents")]) == 2
    assert "--one-style" in capsys.readouterr().err
    assert not (tmp_path / "latents").exists()


def test_help_tells_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "length of a step, in standard deviations of the pool per latent number" in text
    assert "(default: 0.25)" in text


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import advmix", "lightning_fabric torchvision torchmetrics timm matplotlib"),
        ("import advmix.cli", "torch numpy"),
        ("from advmix.utils.device import open_device; open_device('cpu')", "lightning_fabric torchmetrics"),
        ("from advmix.utils.device import make_fabric; make_fabric('cpu')", "torchmetrics torchvision"),
    ],
)
def test_nothing_is_imported_that_takes_seconds_and_is_not_used(code: str, unwanted: str) -> None:
    script = f"import sys; {code}; sys.exit(str(set({unwanted.split()}) & sys.modules.keys() or ''))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr == "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--color-std", "-0.1"], ["--color-std -0.1"]),
        (["demo", "--color-std", "nan"], ["--color-std nan"]),
        (["demo", "--methods", "advmixx"], ["'advmixx'", "unknown", "advmix"]),
        (["demo", "--data", "cifar"], ["--data cifar", "mnist"]),
        (["demo", "--perp", "6"], ["--perp 6", "layers 0 to 5"]),
        (["demo", "--perp", "-7"], ["--perp -7"]),
        (["demo", "--device", "tpu"], ["--device tpu", "cpu"]),
        (["demo", "--device", "cpu:1"], ["--device cpu:1"]),
        (["demo", "--worst-restarts", "0"], ["--worst-restarts 0"]),
        (["demo", "--worst-images", "0"], ["--worst-images 0"]),
        (["demo", "--worst-steps", "-1"], ["--worst-steps -1"]),
        (["demo", "--test-images", "600"], ["--test-images 600", "500"]),
        (["demo", "--linf-radius", "inf"], ["--linf-radius inf"]),
        (["demo", "--latent-noise", "nan"], ["--latent-noise nan"]),
        (["demo", "--methods", "nominal", "nominal"], ["twice"]),
        (["demo", "--train-images", "100000"], ["--train-images 100000", "1297"]),
        (["demo", "--test-images", "0"], ["--test-images 0"]),
        (["demo", "--seed", "-1"], ["--seed -1"]),
        (["demo", "--step-size", "nan"], ["--step-size nan"]),
        (["demo", "--seed", "one"], ["--seed", "'one'"]),
        (["demo", "--sead", "1"], ["--sead"]),
        (
            ["train", "--method", "advmix", "--generator", "photo:small"],
            ["--generator photo:small", "use photo or photo:moments"],
        ),
        (["train", "--restarts", "0"], ["--restarts 0"]),
        (["train", "--clean-weight", "1.5"], ["--clean-weight 1.5"]),
        (["fit", "--fit-lr", "-1"], ["--fit-lr -1"]),
        (["encode"], ["--generator"]),
        (["evaluate", "--classifier", "nowhere"], ["nowhere", "no such folder", "torchvision:NAME"]),
        (["dance"], ["dance"]),
    ],
)
def test_bad_values_are_named(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, *arguments)
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


def test_missing_data_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    line = refused(capsys, "demo", "--data", "mnist", "--data-dir", tmp_path / "here", "--out", tmp_path / "out")
    assert str(tmp_path / "here" / "MNIST" / "raw") in line
    assert "train-images-idx3-ubyte" in line
    assert not (tmp_path / "out").exists()


def test_results_run_again_as_a_config(stages: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "evaluation", tmp_path / "again"
    assert main(["evaluate", *CPU, "--classifier", str(stages / "advmix"), "--out", str(out)]) == 0
    assert main(["evaluate", f"--config={out / 'results.json'}", "--out", str(again)]) == 0
    first, second = (json.loads((folder / "results.json").read_text())["runs"] for folder in (out, again))
    assert first == second


def test_a_generator_of_other_data_is_refused(stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    assert main(["train", *SMALL, "--seed", "9", "--method", "nominal", "--epochs", "1", "--out", str(other)]) == 0
    arguments = ["--classifier", other, "--generator", stages / "fit", "--latents", stages / "latents"]
    line = refused(capsys, "evaluate", *CPU, *arguments, "--out", tmp_path / "out")
    assert "other images" in line
    assert not (tmp_path / "out").exists()


def test_what_was_made_with_another_generator_is_not_continued(
    stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same paths, but other content behind them."""
    moved = tmp_path / "moved"
    shutil.copytree(stages, moved)
    train = ["train", *CPU, "--method", "advmix", "--epochs", "1", "--resume", "--out", str(moved / "advmix")]
    inputs = ["--generator", str(moved / "fit"), "--latents", str(moved / "latents")]
    assert main([*train, *inputs]) == 0  # moved folders are the same run
    for name in ("fit", "latents"):
        shutil.rmtree(moved / name)
    assert main(["fit", *SMALL, "--fit-steps", "2", "--out", str(moved / "fit")]) == 0
    assert main(["encode", *CPU, "--generator", str(moved / "fit"), "--out", str(moved / "latents")]) == 0
    assert "another generator" in refused(capsys, *train, *inputs)


def test_a_folder_with_another_run_is_left_alone(stages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (stages / "fit" / "config.json").read_text()
    line = refused(capsys, "fit", *SMALL, "--fit-steps", "31", "--fit-batch", "16", "--out", stages / "fit")
    assert str(stages / "fit") in line
    assert "fit_steps 30 there, 31 here" in line
    assert "--resume" in refused(
        capsys, "fit", *SMALL, "--fit-steps", "30", "--fit-batch", "16", "--out", stages / "fit"
    )
    assert (stages / "fit" / "config.json").read_text() == before


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not a run of advmix" in refused(capsys, "fit", *SMALL, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_latents_of_another_generator(stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *SMALL, "--fit-steps", "2", "--out", str(tmp_path / "other")]) == 0
    line = refused(
        capsys, "train", "--generator", tmp_path / "other", "--latents", stages / "latents", "--out", tmp_path / "out"
    )
    assert str(stages / "latents") in line
    assert "encode the data again" in line
    assert not (tmp_path / "out").exists()


def test_flags_that_contradict_the_latents(stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--generator", stages / "fit", "--latents", stages / "latents", "--color-std", "0.5"]
    assert "color_std" in refused(capsys, "train", *arguments, "--out", tmp_path / "out")


def test_a_checkpoint_that_is_not_ours(stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    save_file({"weight": torch.zeros(3)}, foreign / "generator.safetensors")
    line = refused(capsys, "encode", *CPU, "--generator", foreign, "--out", tmp_path / "out")
    assert str(foreign / "generator.safetensors") in line
    truncated = tmp_path / "truncated"
    shutil.copytree(stages / "fit", truncated)
    whole = (truncated / "generator.safetensors").read_bytes()
    (truncated / "generator.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(capsys, "encode", *CPU, "--generator", truncated, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_config_keys_are_checked_by_name(stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = json.loads((stages / "fit" / "config.json").read_text())
    path = tmp_path / "config.json"
    for key, change in (("seeed", {"seeed": 1}), ("fit.fit_stepz", {"fit": {**saved["fit"], "fit_stepz": 1}})):
        path.write_text(json.dumps({**saved, **change}))
        assert f"unknown key {key}" in refused(capsys, "fit", "--config", path)
    path.write_text(json.dumps({**saved, "seed": "one"}))
    assert "seed" in refused(capsys, "fit", "--config", path)
    assert "not of 'train'" in refused(capsys, "train", "--config", path)


def test_nan_loss_names_step_and_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fit"
    arguments = ["--fit-lr", "1e12", "--fit-steps", "400", "--checkpoint-seconds", "0", "--out", out]
    line = refused(capsys, "fit", *SMALL, *arguments)
    assert "at step" in line
    assert str(out / "checkpoint.pt") in line
    checkpoint = read_checkpoint(out / "checkpoint.pt")
    assert all(torch.isfinite(weight).all() for weight in checkpoint["trainee"]["network"].values())


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "advmix", "audit", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("advmix.commands.fit.reconstruction_mse", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["fit", *SMALL, "--fit-steps", "2", "--out", str(tmp_path / "fit")])


def test_a_device_without_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 626 MiB. GPU 0 has 198 MiB free.")

    monkeypatch.setattr("advmix.commands.fit.reconstruction_mse", full)
    assert main(["fit", *SMALL, "--fit-steps", "2", "--out", str(tmp_path / "fit")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("advmix: CUDA out of memory. Tried to allocate 626 MiB. Perhaps other programs")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "Cannot allocate memory"),
        (RuntimeError("could not create a primitive"), "out of memory (could not create a primitive)"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "failed to map segment"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
            "allocate 8 bytes.",
        ),
    ],
)
def test_little_memory_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("advmix.commands.fit.open_data", fail)
    line = refused(capsys, "fit", *SMALL, "--out", tmp_path / "fit")
    assert said in line
    assert "Perhaps other programs use it too" in line


def with_closed_outputs(words: list[str]) -> int:
    """As Python begins after `<&- >&- 2>&-`."""
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stdout = sys.stderr = None
    return main(words)


def test_closed_outputs_do_no_harm(tmp_path: Path) -> None:
    done = start(with_closed_outputs, ["fit", *SMALL, "--fit-steps", "2", "--out", str(tmp_path / "fit")])
    done.join()
    assert done.exitcode == 0
    assert load_autoencoder(tmp_path / "fit")[1]["data_seed"] == 0
    assert sorted(path.name for path in (tmp_path / "fit").iterdir()) == [
        *("config.json", "generator.safetensors", "log.jsonl", "seconds.json")
    ]


def test_evaluate_does_not_look_at_other_images_than_it_is_told_of(
    stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", *CPU, "--classifier", stages / "advmix", "--out", tmp_path / "out"]
    line = refused(capsys, *command, "--color-std", "0.5")
    assert f"{stages / 'advmix'}: is evaluated on the images that it was made from; leave out --data" in line
    assert not (tmp_path / "out").exists()
    assert main([*map(str, command), "--train-images", "120", "--test-images", "40"]) == 0
