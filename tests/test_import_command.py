"""`advmix import` as a user meets it: from a file of somebody else's to mixes of one's own images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import foreign_nvidia
import foreign_rosinality
from advmix.cli import main
from advmix.encoders.autoencoder import load_autoencoder
from advmix.encoders.network import NoEncoder
from advmix.encoders.store import LatentStore
from advmix.generators.stylegan2 import StyleGan2
from advmix.latents import Split
from advmix.pretrained.read import read_generator
from study_runs import ROOT

CPU = ["--device", "cpu"]
SHORT = ["--optimize-steps", "3"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`snapshot.pkl`, `photos/`, and what the commands made of them: `imported/`, `latents/`, `nominal/`."""
    folder = tmp_path_factory.mktemp("import")
    foreign_nvidia.write_snapshot(folder / "snapshot.pkl", foreign_nvidia.make_network())
    rng = np.random.default_rng(0)
    for label in ("dark", "light"):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(10):
            pixels = rng.uniform(0, 100, (20, 24, 3)) + (0 if label == "dark" else 150)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / label / f"{index}.png")
    photos, imported = str(folder / "photos"), str(folder / "imported")
    assert main(["import", str(folder / "snapshot.pkl"), *CPU, "--samples", "4", "--out", imported]) == 0
    encode = ["encode", "--generator", imported, "--encoder", "mean", "--data", photos, *SHORT, *CPU]
    assert main([*encode, "--out", str(folder / "latents")]) == 0
    nominal = ["train", "--method", "nominal", "--data", photos, "--size", "16", "--epochs", "1", *CPU]
    assert main([*nominal, "--out", str(folder / "nominal")]) == 0
    return folder


def both(work: Path) -> list[str]:
    return [*CPU, "--generator", str(work / "imported"), "--latents", str(work / "latents")]


def test_the_folder_holds_the_same_generator(work: Path) -> None:
    model, metadata = load_autoencoder(work / "imported")
    expected = read_generator(work / "snapshot.pkl")
    latents = expected.sample(3, torch.Generator().manual_seed(0))
    assert isinstance(model.generator, StyleGan2)
    assert torch.equal(model.generator(latents), expected(latents))
    assert torch.equal(model.generator.mean_style, expected.mean_style)
    assert isinstance(model.encoder, NoEncoder)
    assert metadata["imported"]["format"] == "stylegan2-ada"
    assert metadata["imported"]["file"] == "snapshot.pkl"


def test_samples_are_a_picture(work: Path) -> None:
    with Image.open(work / "imported" / "samples.png") as picture:
        assert picture.width == 4 * picture.height
        assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 100


def test_importing_again_is_said_to_be_done(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ["import", str(work / "snapshot.pkl"), *CPU, "--samples", "4", "--out", str(work / "imported")]
    assert main(again) == 2
    assert main([*again, "--resume"]) == 0
    assert "done already" in capsys.readouterr().out


def test_checkpoints_are_imported_too(tmp_path: Path) -> None:
    path = foreign_rosinality.write_checkpoint(tmp_path / "checkpoint.pt", foreign_rosinality.make_network())
    assert main(["import", str(path), *CPU, "--samples", "0", "--out", str(tmp_path / "out")]) == 0
    model, metadata = load_autoencoder(tmp_path / "out")
    latents = read_generator(path).sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(model.generator(latents), read_generator(path)(latents))
    assert metadata["imported"]["format"] == "rosinality"
    assert not (tmp_path / "out" / "samples.png").exists()


def test_what_was_guessed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"ema": foreign_rosinality.make_network().state_dict()}, tmp_path / "checkpoint.pt")
    command = ["import", str(tmp_path / "checkpoint.pt"), *CPU, "--samples", "0", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "checkpoint.pt: the generator in it is ema\n" in said
    assert "does not state the learning rate of its mapping network (lr_mlp): 0.01 is taken" in said


def test_own_images_are_read_in_the_generators_size_and_encoded_from_the_mean(work: Path) -> None:
    store = LatentStore.open(work / "latents")
    assert store.index["data"]["photos"]["size"] == 16
    assert store.latents.styles.shape == (16, 6, 6)  # a fifth is held out
    mean = load_autoencoder(work / "imported")[0].generator
    assert isinstance(mean, StyleGan2)
    moved = (store.latents.styles - mean.mean_style).abs()
    assert 0 < float(moved.max()) < 3 * 0.05 + 1e-4  # three steps of Adam with its rate from there
    assert float((store.latents.styles[0] - store.latents.styles[9]).abs().max()) > 0


def test_encoding_comes_nearer_to_the_images(work: Path, tmp_path: Path) -> None:
    from advmix.pools import data_of

    store = LatentStore.open(work / "latents")
    pixels = data_of(store.index, work / "latents").train.batch(slice(None))[0]
    model = load_autoencoder(work / "imported")[0]
    encode = ["encode", *CPU, "--generator", str(work / "imported"), "--encoder", "mean", "--optimize-steps", "40"]
    encode += ["--data", str(work / "photos"), "--mixing-weight", "0"]
    assert main([*encode, "--out", str(tmp_path / "w-plus")]) == 0
    assert main([*encode, "--one-style", "--out", str(tmp_path / "w")]) == 0
    errors = []
    for folder in (work / "latents", tmp_path / "w", tmp_path / "w-plus"):
        errors.append(float((model.generator(LatentStore.open(folder).latents) - pixels).square().mean()))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.8 * errors[0]
    styles = LatentStore.open(tmp_path / "w").latents.styles
    assert torch.equal(styles, styles[:, :1].expand_as(styles))


def test_later_commands_find_the_data_through_the_latents(work: Path, tmp_path: Path) -> None:
    randmix, judge = tmp_path / "randmix", ["--classifier", str(work / "nominal")]
    assert main(["train", "--method", "randmix", "--epochs", "1", *both(work), "--out", str(randmix)]) == 0
    assert main(["audit", *judge, *both(work), "--images", "4", "--out", str(tmp_path / "audit")]) == 0
    results = json.loads((tmp_path / "audit" / "results.json").read_text())
    assert results["generator"]["reconstruction_mse"] is None
    assert results["classifiers"][0]["parts"][0]["images"] == 4
    inspect = ["--reference", str(work / "nominal"), "--dimension-images", "0", "--out", str(tmp_path / "inspect")]
    assert main(["inspect", *both(work), *inspect]) == 0


def test_the_example_of_the_docs_runs(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(work)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "import.md").read_text(), re.DOTALL)
    exec(compile(example, "docs/import.md", "exec"), {})
    with Image.open(tmp_path / "mixes.png") as picture:
        assert picture.size == (8 * 18 + 2, 2 * 18 + 2)
        above, below = np.split(np.asarray(picture)[2:], [18])
        assert np.abs(above[:16].astype(int) - below[:16]).max() > 0


def test_an_encoder_network_can_be_trained(work: Path, tmp_path: Path) -> None:
    invert = ["fit", *CPU, "--regime", "invert", "--generator", str(work / "imported"), "--invert-steps", "3"]
    out = str(tmp_path / "inverted")
    assert main([*invert, "--data", str(work / "photos"), "--invert-batch", "4", "--out", out]) == 0
    model, metadata = load_autoencoder(Path(out))
    assert model.has_encoder
    assert metadata["imported"]["file"] == "snapshot.pkl"
    assert metadata["fingerprint"] == load_autoencoder(work / "imported")[1]["fingerprint"]
    assert metadata["reconstruction_mse"] > 0
    assert main(["encode", *CPU, "--generator", out, "--out", str(tmp_path / "latents")]) == 0
    latents = LatentStore.open(tmp_path / "latents").latents
    split = Split.fine(6, 2)
    assert model.generator(split.combine(latents[:2], latents[2:4])).shape == (2, 3, 16, 16)


def test_first_guesses_of_a_network_lie_around_the_mean(work: Path, tmp_path: Path) -> None:
    invert = ["fit", *CPU, "--regime", "invert", "--generator", str(work / "imported"), "--invert-steps", "1"]
    more = ["--invert-lr", "1e-9", "--data", str(work / "photos"), "--out", str(tmp_path / "out")]
    assert main([*invert, *more]) == 0
    model = load_autoencoder(tmp_path / "out")[0]
    assert isinstance(model.generator, StyleGan2)
    bias = model.get_parameter("encoder.styles.bias").view(6, 6)
    torch.testing.assert_close(bias, model.generator.mean_style.expand(6, -1), rtol=0, atol=1e-6)


def test_a_fitted_generator_encodes_its_own_images_or_others(work: Path, tmp_path: Path) -> None:
    own, fit = tmp_path / "own", str(tmp_path / "fit")
    shutil.copytree(work / "photos", own)
    assert main(["fit", *CPU, "--data", str(own), "--size", "16", "--fit-steps", "2", "--out", fit]) == 0
    encode = ["encode", *CPU, "--generator", fit]
    assert main([*encode, "--out", str(tmp_path / "a")]) == 0
    shutil.rmtree(own)
    assert main([*encode, "--data", str(work / "photos"), "--limit", "5", "--out", str(tmp_path / "b")]) == 0
    assert main([*encode, "--out", str(tmp_path / "c")]) == 2
    found = [LatentStore.open(tmp_path / name) for name in ("a", "b")]
    assert [store.index["data"]["data"] for store in found] == [str(own), str(work / "photos")]
    assert [len(store) for store in found] == [16, 5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encode", "--data", "photos"], "imported: the generator has no encoder network; use advmix encode --encoder"),
        (["encode", "--data", "photos", "--encoder", "refine"], "the generator has no encoder network"),
        (["encode", "--data", "mnist", "--encoder", "mean"], "mnist"),
        (["encode", "--data", "nowhere/there", "--encoder", "mean"], "nowhere/there"),
        (["fit", "--regime", "invert"], "--regime invert and --generator go together"),
        (["fit", "--generator", "imported"], "--regime invert and --generator go together"),
        (["import", "snapshot.pkl", "--label", "1"], "snapshot.pkl: knows no classes"),
        (["import", "snapshot.pkl", "--samples", "-1"], "--samples -1: must be at least 0"),
        (["import", "snapshot.pkl", "--mapping-lr", "0.1"], "snapshot.pkl: states the learning rate of its mapping"),
        (["import", "snapshot.pkl", "--mapping-lr", "0"], "--mapping-lr 0.0: must be more than 0"),
        (["import", "missing.pkl"], "missing.pkl: no such file"),
        (["import", "photos"], "photos: a folder; name the file in it, a .pkl or .pt"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: list[str],
    words: str,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(work)
    generator = ["--generator", "imported"] if arguments[0] == "encode" else []
    assert main([*arguments, *generator, *CPU, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("advmix: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_images_of_another_size_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", foreign_nvidia.make_network(8))
    imported = str(tmp_path / "imported")
    assert main(["import", str(path), *CPU, "--samples", "0", "--out", imported]) == 0
    encode = ["encode", "--generator", imported, "--encoder", "mean", *CPU, "--out", str(tmp_path / "latents")]
    assert main(encode) == 2
    assert "does not say what data it was made from; name them with --data" in capsys.readouterr().err
    assert main([*encode, "--data", "digits"]) == 2
    assert "images of 16x16 pixels in 3 channels, but the generator draws 8x8" in capsys.readouterr().err
