"""`advmix fit --regime gan` as a user meets it, and what must not change for those who do not use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from advmix.classifiers.networks import conv_net
from advmix.cli import main
from advmix.commands.fit import GanFit
from advmix.encoders.autoencoder import fingerprint, load_autoencoder
from advmix.generators.stylegan import StyleGan
from advmix.report.page import save_figures
from advmix.training.discriminator import load_discriminator
from advmix.utils.torch_tools import global_seed
from trained import shared

DATA = ["--train-images", "64", "--test-images", "20", "--device", "cpu"]
GAN = ["--regime", "gan", "--gan-steps", "3", "--gan-batch", "4", "--preview-every", "2"]
INVERT = ["--invert-steps", "3", "--invert-batch", "4"]
FIT = ["fit", *DATA, *GAN, *INVERT]


@shared
def fitted(folder: Path) -> None:
    """`fit/`, made in one go, judged by `judge/`."""
    judge = str(folder / "judge")
    assert main(["train", *DATA, "--method", "nominal", "--epochs", "1", "--out", judge]) == 0
    assert main([*FIT, "--features", judge, "--out", str(folder / "fit")]) == 0


def test_the_file_holds_generator_and_encoder_and_how_good_they_are(fitted: Path) -> None:
    model, metadata = load_autoencoder(fitted / "fit")
    assert isinstance(model.generator, StyleGan)
    assert float(model.generator.mean_style.abs().sum()) > 0
    assert metadata["regime"] == "gan"
    assert metadata["gan"]["gan_steps"] == 3
    assert metadata["frechet_distance"] > 0
    assert sum(metadata["class_shares"].values()) == pytest.approx(1)
    assert metadata["class_shares_real"].keys() == metadata["class_shares"].keys()


def test_a_discriminator_compares_images(fitted: Path, tmp_path: Path) -> None:
    """Where Algorithm 2 encodes, and where an autoencoder is trained."""
    compared = ["--features", str(fitted / "fit"), "--out"]
    fit = ["fit", *DATA, "--fit-steps", "2", "--perceptual-weight", "1", *compared, str(tmp_path / "fit")]
    encode = ["encode", "--generator", str(fitted / "fit"), "--encoder", "refine", "--optimize-steps", "1", *DATA[-2:]]
    assert main(fit) == main([*encode, *compared, str(tmp_path / "latents")]) == 0
    for run in ("fit", "latents"):
        inputs = json.loads((tmp_path / run / "config.json").read_text())["inputs"]
        assert inputs["features"] == fingerprint(load_discriminator(fitted / "fit"))


def test_a_generator_without_a_discriminator_compares_nothing(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(fitted / "fit" / "generator.safetensors", tmp_path)
    command = ["encode", "--generator", str(fitted / "fit"), "--encoder", "mean", "--features", str(tmp_path)]
    assert main([*command, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert f"--features {tmp_path}: has a generator but no discriminator.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_classes_are_counted_among_a_thousand_samples(fitted: Path) -> None:
    metadata = load_autoencoder(fitted / "fit")[1]
    assert metadata["class_shares_samples"] == 1000
    counts = [1000 * share for share in metadata["class_shares"].values()]
    assert counts == pytest.approx([round(count) for count in counts])


def test_a_generator_that_cannot_be_judged_is_not_lost(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    arguments = [*FIT, "--features", str(fitted / "judge"), "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr("advmix.commands.fit.measure_samples", stopped)
        assert main(arguments) == 130
    assert "frechet_distance" not in load_autoencoder(tmp_path)[1]
    assert main([*arguments, "--resume"]) == 0
    whole, late = (load_autoencoder(path)[1] for path in (fitted / "fit", tmp_path))
    assert late["class_shares"] == whole["class_shares"]
    assert late["frechet_distance"] == pytest.approx(whole["frechet_distance"])


def test_a_classifier_of_other_classes_compares_and_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, "--features", "test_fit_gan:of_three", "--out", str(tmp_path)]) == 0
    metadata = load_autoencoder(tmp_path)[1]
    assert metadata["frechet_distance"] > 0
    assert "class_shares" not in metadata
    said = capsys.readouterr().out
    assert "of other classes; samples are compared by its features, and not counted" in said
    assert "Fréchet distance" in said


def of_three() -> nn.Module:
    return conv_net(3)


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))


def test_anybodys_features_compare_images(tmp_path: Path) -> None:
    """Three classes are no hindrance here; the .json file says how images are normalised."""
    told = {"classifier": "test_fit_gan:of_three", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2]}
    (tmp_path / "features.json").write_text(json.dumps(told))
    few = [
        "fit",
        "--train-images",
        "32",
        "--fit-steps",
        "1",
        "--device",
        "cpu",
        "--perceptual-weight",
        "1",
        "--trust-code",
    ]
    inputs = []
    for name, features in (("plain", "test_fit_gan:of_three"), ("told", str(tmp_path / "features.json"))):
        with global_seed(0):
            assert main([*few, "--features", features, "--out", str(tmp_path / name)]) == 0
        inputs.append(json.loads((tmp_path / name / "config.json").read_text())["inputs"]["features"])
    plain, normalised = (load_file(tmp_path / name / "generator.safetensors") for name in ("plain", "told"))
    assert inputs[0] != inputs[1]
    assert any(not torch.equal(plain[name], normalised[name]) for name in plain)


def test_pictures_show_samples_and_their_mixes(fitted: Path) -> None:
    for name, shape in (("samples.png", 2.0), ("mixing.png", 1.0)):
        with Image.open(fitted / "fit" / name) as picture:
            assert picture.width > 400
            assert picture.width / picture.height == pytest.approx(shape, rel=0.3)


def test_logs_stay_and_checkpoints_go(fitted: Path) -> None:
    for part in ("gan", "encoder"):
        assert [path.name for path in (fitted / "fit" / part).iterdir()] == ["log.jsonl"]


def test_later_stages_work_on_it(fitted: Path, tmp_path: Path) -> None:
    fit, latents, out = str(fitted / "fit"), str(tmp_path / "latents"), str(tmp_path / "advmix")
    assert main(["encode", "--device", "cpu", "--generator", fit, "--out", latents]) == 0
    both = ["--device", "cpu", "--generator", fit, "--latents", latents]
    assert main(["train", *both, "--method", "advmix", "--epochs", "1", "--out", out]) == 0
    evaluation = tmp_path / "evaluation"
    assert main(["evaluate", *both, "--classifier", out, "--worst-images", "4", "--out", str(evaluation)]) == 0
    assert 0 <= json.loads((evaluation / "results.json").read_text())["runs"][0]["accuracy_worst_case"] <= 1
    few = ["--images", "8", "--dimension-images", "0", "--reference", str(fitted / "judge")]
    assert main(["inspect", *both, *few, "--out", str(tmp_path / "inspect")]) == 0
    layers = json.loads((tmp_path / "inspect" / "results.json").read_text())["layers"]
    assert [layer["resolution"] for layer in layers] == [4, 4, 8, 8, 16, 16]


@pytest.mark.parametrize("title", ["fit StyleGAN", "fit encoder"])
def test_stopped_run_ends_in_the_same_weights(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    """Stopped in the first or the second training, after one step of it; what judges it in the end comes in later."""
    loop_of = GanFit._loop

    def short(self: GanFit, name: str, folder: str, steps: int) -> object:
        loop = loop_of(self, name, folder, steps)
        if name == title:
            monkeypatch.setattr(loop, "_write_log", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        return loop

    arguments = [*FIT, "--checkpoint-seconds", "0", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(GanFit, "_loop", short)
        assert main(arguments) == 130
    assert not (tmp_path / "generator.safetensors").exists()
    assert main(arguments) == 2  # without --resume nothing is touched
    assert main([*arguments, "--features", str(fitted / "judge"), "--resume"]) == 0
    assert "frechet_distance" in load_autoencoder(tmp_path)[1]
    whole, resumed = (load_file(path / "generator.safetensors") for path in (fitted / "fit", tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_bf16_goes_all_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--precision", "bf16", "--out", str(tmp_path)]) == 0
    assert "Fréchet" not in capsys.readouterr().out  # no classifier is at hand
    tensors = load_file(tmp_path / "generator.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in tensors.values())


def test_two_processes_write_one_result(fitted: Path, tmp_path: Path) -> None:
    """Through both trainings and the judge's verdict, from the command line."""
    command = [sys.executable, "-m", "advmix", *FIT, "--out", str(tmp_path / "two"), "--devices", "2"]
    command += ["--features", str(fitted / "judge")]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True, timeout=180)
    model, metadata = load_autoencoder(tmp_path / "two")
    assert isinstance(model.generator, StyleGan)
    assert 0 < metadata["reconstruction_mse"] < 4
    assert metadata["frechet_distance"] > 0
    for training in ("gan", "encoder"):
        lines = (tmp_path / "two" / training / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [3]


def test_pictures_are_drawn_on_the_way_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def kept(figures: dict[str, Figure], out: Path) -> None:
        save_figures(figures, out)
        drawn.append((out / "samples.png").read_bytes())

    monkeypatch.setattr("advmix.commands.fit.save_figures", kept)
    assert main([*FIT, "--out", str(tmp_path)]) == 0  # a preview every two of three steps
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]


def test_finished_run_is_not_made_again(fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge, here = ["--features", str(fitted / "judge")], tmp_path / "fit"
    shutil.copytree(fitted / "fit", here)
    assert main([*FIT, *judge, "--out", str(here), "--resume"]) == 0
    assert "done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--regime", "vae"], "--regime vae: unknown; choose from autoencode gan"),
        (["--regime", "gan", "--compile"], "--compile: only with --regime autoencode"),
        (["--features", "there", "--perceptual-weight", "1"], "there: no such folder"),
        (["--regime", "gan", "--features", "test_fit_gan:linear"], "test_fit_gan:linear: no ReLU"),
        (["--features", "test_fit_gan:linear", "--perceptual-weight", "1"], "--features test_fit_gan:linear: no ReLU"),
        (["--perceptual-weight", "1"], "--perceptual-weight 1.0: goes together with --features"),
        (["--regime", "gan", "--devices", "0"], "--devices 0: must be at least 1"),
        (["--regime", "gan", "--precision", "16"], "--precision 16: unknown; choose from auto 32 bf16"),
        (["--regime", "gan", "--device", "mps", "--devices", "2"], "--device"),
        (["--regime", "gan", "--style-mixing", "2"], "--style-mixing 2.0: must be between 0 and 1"),
    ],
)
def test_bad_values_are_named(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *DATA, *arguments, "--out", str(tmp_path / "fit")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "fit").exists()
