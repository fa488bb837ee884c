"""A user's own images through the stages: fit, encode, train, inspect, by the command line alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from advmix.audit.inputs import audited_data
from advmix.classifiers.networks import conv_net, load_classifier
from advmix.cli import main, parse
from advmix.data.colored import ColoredDigits
from advmix.data.datasets import OwnImages, open_data, painted_digits
from advmix.data.photos.decode import PhotoShape
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import load_autoencoder
from advmix.pools import data_of
from advmix.utils.config import to_dict
from advmix.utils.errors import UserError
from pictures import digit, digit_label, encoded, write

DATA = ["--size", "16", "--channels", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small digits, a folder for each class."""
    files: dict[str, bytes | str] = {
        f"digit {digit_label(index)}/{index:04}.png": encoded(digit(index)) for index in range(120)
    }
    return write(tmp_path_factory.mktemp("own") / "images", files)


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What fit, encode and train wrote."""
    out = tmp_path_factory.mktemp("runs")
    fit, latents = str(out / "fit"), str(out / "latents")
    made = ["--generator", fit, "--latents", latents, "--device", "cpu"]
    assert main(["fit", "--data", str(folder), *DATA, "--fit-steps", "40", "--fit-batch", "16", "--out", fit]) == 0
    assert main(["encode", "--generator", fit, "--out", latents, "--device", "cpu"]) == 0
    for method in ("nominal", "advmix"):
        flags = [
            "--method",
            method,
            "--epochs",
            "2",
            "--batch",
            "16",
            "--flip",
            "--residual",
            "--out",
            str(out / method),
        ]
        assert main(["train", *made, *flags]) == 0
    return out


def test_stages_take_a_folder_of_images(runs: Path) -> None:
    model, metadata = load_autoencoder(runs / "fit")
    assert (model.generator.resolution, model.generator.channels) == (16, 1)
    assert metadata["data"]["photos"]["size"] == 16
    network, trained = load_classifier(runs / "advmix")
    assert trained["classes"] == [f"digit {index}" for index in range(10)]
    assert trained["image"] == [1, 16, 16]
    assert trained["setting"]["residual"]
    assert network(data_of(metadata, runs).train.batch(slice(0, 2))[0]).shape == (2, 10)


def test_inspect_takes_them_too(runs: Path, tmp_path: Path) -> None:
    command = ["inspect", "--generator", str(runs / "fit"), "--latents", str(runs / "latents"), "--device", "cpu"]
    flags = ["--reference", str(runs / "nominal"), "--images", "20", "--dimension-images", "0", "--resamples", "5"]
    assert main([*command, *flags, "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["layers"]) == 6


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "--method", "ceiling"], "method ceiling: only for painted digits"),
        (["inspect", "--unbiased", "train"], "--unbiased train: only for painted digits"),
    ],
)
def test_what_needs_painted_digits_says_so(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], words: str
) -> None:
    made = ["--generator", str(runs / "fit"), "--latents", str(runs / "latents"), "--device", "cpu"]
    assert main([*command, *made, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


def test_evaluate_is_about_painted_digits(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--classifier", str(runs / "nominal"), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "evaluate: only for painted digits" in said
    assert "use advmix audit" in said


def test_studies_of_digits_take_no_other_images(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--data", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "only for painted digits" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_that_changed_since_are_noticed(runs: Path, folder: Path, tmp_path: Path) -> None:
    """A generator of images that are not there any more is not used on others."""
    extra = folder / "digit 0" / "extra.png"
    extra.write_bytes(encoded(digit(0)))
    try:
        command = ["encode", "--generator", str(runs / "fit"), "--device", "cpu", "--out", str(tmp_path / "out")]
        assert main(command) == 2
    finally:
        extra.unlink()


def test_flags_without_data_change_the_generators_own(runs: Path, folder: Path, tmp_path: Path) -> None:
    encode, out = ["encode", "--generator", str(runs / "fit"), "--device", "cpu", "--out"], tmp_path / "out"
    assert main([*encode, str(out), "--limit", "30"]) == 0
    index = json.loads((out / "store.json").read_text())
    assert (index["data"]["data"], index["data"]["photos"]["limit"]) == (str(folder), 30)
    assert main(["encode", "--config", str(out / "config.json"), "--out", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "store.json").read_text())["data"] == index["data"]
    saved = json.loads((runs / "latents" / "config.json").read_text())
    assert saved["data"] == to_dict(DataConfig())


def test_audit_reads_the_generators_or_the_classifiers_images(runs: Path, folder: Path) -> None:
    mixing = ["--generator", str(runs / "fit"), "--latents", str(runs / "latents")]
    own = data_of(load_autoencoder(runs / "fit")[1], runs)
    for words in (mixing[:2], mixing, []):
        audit = ["audit", "--classifier", str(runs / "nominal"), *words]
        assert audited_data(parse(audit))[0].test.fingerprint == own.test.fingerprint
        few = audited_data(parse([*audit, "--limit", "7", "--holdout", "0.5"]))[0]
        assert (few.config.data, len(few.test), few.test.shape) == (str(folder), 7, own.test.shape)
    digits = audited_data(parse(["audit", "--classifier", str(runs / "nominal"), "--data", "digits"]))[0]
    assert isinstance(digits, ColoredDigits)


def test_predict_reads_the_classifiers_images(runs: Path, tmp_path: Path) -> None:
    words = ["predict", "--classifier", str(runs / "nominal"), "--limit", "7", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["images"] == 7


@pytest.mark.parametrize("labels", [[], ["--unlabelled"]])
def test_what_is_left_out_is_said_and_written_down(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: list[str]
) -> None:
    files: dict[str, bytes | str] = {f"digit {i % 10}/{i}.png": encoded(digit(i)) for i in range(20)}
    write(tmp_path / "data", {**files, "digit 3/[red].png": b"hello"})
    words = ["--data", str(tmp_path / "data"), "--skip-broken", "--holdout", "0", "--part", "train", *labels]
    assert main(["predict", "--classifier", str(runs / "nominal"), *words, "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["images"] == 20
    assert [image["name"] for image in results["broken"]] == ["digit 3/[red].png"]
    assert "1 of 21 images cannot be read: digit 3/[red].png (not an image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--size", "17"], "images of 17 pixels: fit takes 16, 32, 64; read them with --size 16 or 32"),
        (["--size", "8"], "with --size 16"),
        (["--size", "70"], "images of 70 pixels: fit takes a multiple of 4; read them with --size 68 or 72"),
        (["--size", "128", "--regime", "gan"], "with --size 64"),
    ],
)
def test_sizes_that_the_network_cannot_draw_are_refused_before_anything_is_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(["fit", "--data", str(folder), *words, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert line in printed.err
    assert "read images" not in printed.out
    assert not (tmp_path / "out").exists()


def test_predictions_hold_any_name(runs: Path, tmp_path: Path) -> None:
    names = ["a\rb.png", "c\n,d.png", 'say "e".png', "\N{CAT}$.png"]
    data = write(tmp_path / "data", {name: encoded(digit(index)) for index, name in enumerate(names)})
    words = ["predict", "--classifier", str(runs / "nominal"), "--data", str(data), "--unlabelled"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == sorted(names)


@pytest.mark.parametrize("command", ["audit", "predict"])
def test_where_nothing_says_which_images_they_must_be_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "factory_of_own_tests.py").write_text("from advmix.classifiers.networks import conv_net\n")
    torch.save(conv_net(10).state_dict(), tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    theirs = ["--classifier", "factory_of_own_tests:conv_net", "--classifier-args", '{"classes": 10}']
    assert main([command, *theirs, "--weights", "w.pth", "--limit", "5", "--device", "cpu", "--out", "out"]) == 2
    assert "name images with --data" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("own", "flags", "words"),
    [
        (DataConfig("."), DataConfig("", train_images=9), "--train-images: only for painted digits"),
        (
            DataConfig(),
            DataConfig("", photos=PhotoShape(limit=9)),
            "--limit: only for images of your own, but runs was made from digits",
        ),
    ],
)
def test_flags_for_images_of_another_kind_are_refused(own: DataConfig, flags: DataConfig, words: str) -> None:
    with pytest.raises(UserError, match=words):
        flags.over(own, Path("runs"))


def test_names_are_digits_and_paths_are_own_images(tmp_path: Path) -> None:
    assert isinstance(open_data(DataConfig("digits"), 0), ColoredDigits)
    assert isinstance(open_data(DataConfig(str(tmp_path)), 0), OwnImages)
    assert isinstance(open_data(DataConfig("torchvision:MNIST"), 0), OwnImages)
    with pytest.raises(UserError, match="recolour: only for painted digits, not for torchvision:MNIST"):
        painted_digits(OwnImages(DataConfig("torchvision:MNIST")), "recolour")
    with pytest.raises(UserError, match=r"--data mnits: unknown; choose from digits mnist .* or name a folder"):
        DataConfig("mnits")


def test_what_is_recognised_defaults_to_the_digit_on_painted_digits_alone(tmp_path: Path) -> None:
    assert DataConfig("mnist").target == "digit"
    assert DataConfig(str(tmp_path)).target is None
    options = DataConfig(str(tmp_path), data_dir=tmp_path, target="Smiling").photo_options()
    assert (options.target, options.data_dir, options.size) == ("Smiling", tmp_path, 64)
