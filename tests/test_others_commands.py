"""The commands that take a classifier, with one that advmix did not train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from advmix.classifiers.networks import load_classifier
from advmix.cli import main
from advmix.data.colored import ColoredDigits
from advmix.data.settings import DataConfig
from advmix.metrics import accuracy
from advmix.report.tables import schema

SIZE = ["--data", "digits", "--train-images", "80", "--test-images", "30"]
CPU = ["--device", "cpu"]
SHOP = """
from torch import nn
from advmix.classifiers.networks import conv_net

def net(classes=10):
    return conv_net(classes)

def blind():
    import torch
    class Blind(nn.Module):
        def forward(self, images):
            with torch.no_grad():
                return images.mean(dim=(2, 3)) @ torch.ones(3, 10)
    return Blind()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generator, latents and a classifier, hardly trained; and the classifier once more, as somebody else's."""
    runs = tmp_path_factory.mktemp("runs")
    for words in (
        ["fit", *SIZE, "--fit-steps", "20", "--out", runs / "fit"],
        ["encode", "--generator", runs / "fit", "--out", runs / "latents"],
        ["train", *SIZE, "--method", "ceiling", "--epochs", "3", "--out", runs / "ours"],
    ):
        assert main([*map(str, words), *CPU]) == 0
    network, _ = load_classifier(runs / "ours")
    torch.save({"state_dict": network.state_dict()}, runs / "theirs.pth")
    (runs / "shop_of_commands.py").write_text(SHOP)
    return runs


@pytest.fixture(autouse=True)
def inside(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)


THEIRS = ["shop_of_commands:net", "--weights", "theirs.pth"]
MIXING = ["--generator", "fit", "--latents", "latents"]


def run(command: str, out: Path, *words: str) -> dict[str, Any]:
    assert main([command, *words, *CPU, "--out", str(out)]) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


def test_evaluate_measures_anothers_classifier_like_ours(tmp_path: Path) -> None:
    search = [*MIXING, "--restarts", "2", "--steps", "1", "--worst-images", "10"]
    ours = run("evaluate", tmp_path / "ours", "--classifier", "ours", *search)["runs"][0]
    theirs = run("evaluate", tmp_path / "theirs", "--classifier", *THEIRS, *search)["runs"][0]
    assert {key for key in ours if ours[key] != theirs[key]} == {"method", "train_images", "train_seconds"}
    assert (theirs["method"], theirs["train_images"], theirs["train_seconds"]) == ("unknown", None, None)


def test_evaluate_without_generator_takes_the_data_of_the_flags(tmp_path: Path) -> None:
    measured = run("evaluate", tmp_path / "e", "--classifier", *THEIRS, *SIZE, "--worst-images", "5")["runs"][0]
    data = ColoredDigits(DataConfig(train_images=80, test_images=30), seed=0)
    network, _ = load_classifier(Path("ours"))
    assert measured["accuracy_shuffled"] == accuracy(network, data.shuffled, torch.device("cpu"))
    assert measured["accuracy_worst_case"] is None


def test_gradient_search_is_refused_without_gradients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--classifier", "shop_of_commands:blind", *MIXING, "--worst-images", "5", "--restarts", "2"]
    assert main(["evaluate", *words, *CPU, "--out", str(tmp_path / "e")]) == 2
    error = capsys.readouterr().err
    assert "--steps 0" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "e").exists()
    measured = run("evaluate", tmp_path / "e", *words, "--steps", "0")["runs"][0]
    assert measured["accuracy_worst_case"] is not None


def test_inspect_asks_anothers_classifier(tmp_path: Path) -> None:
    Path("theirs.json").write_text(json.dumps({"classifier": THEIRS[0], "weights": THEIRS[2]}))
    few = [*MIXING, "--images", "20", "--dimension-images", "0", "--resamples", "10"]
    ours = run("inspect", tmp_path / "ours", *few, "--reference", "ours")
    theirs = run("inspect", tmp_path / "theirs", *few, "--reference", "theirs.json", "--trust-code")
    assert ours["layers"] == theirs["layers"]
    assert theirs["reference"]["bias"] == "unknown"
    assert ours["reference"]["bias"] == "no"


def test_run_with_another_classifier_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("predict", tmp_path / "p", "--classifier", *THEIRS, *SIZE)
    changed = {name: weight + 0.1 for name, weight in load_classifier(Path("ours"))[0].state_dict().items()}
    torch.save(changed, "changed.pth")
    words = ["--classifier", THEIRS[0], "--weights", "changed.pth", *SIZE, "--resume"]
    assert main(["predict", *words, *CPU, "--out", str(tmp_path / "p")]) == 2
    assert "another classifier" in capsys.readouterr().err


def test_another_number_of_classes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--classifier", "shop_of_commands:net", "--classifier-args", '{"classes": 3}', *SIZE]
    for command in ("evaluate", "predict"):
        assert main([command, *words, *CPU, "--out", str(tmp_path / "e")]) == 2
        assert "has 3 classes, but the images have 10" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()
