"""`python -m experiments marginalize` on small real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from running import main

from advmix import Marginalized
from advmix.data.settings import DataConfig
from advmix.metrics import accuracy
from advmix.report.tables import schema
from advmix.training.autoencode import FitOptions
from advmix.training.classify import TrainOptions
from experiments.marginalize.study import MarginalizeConfig

WORDS = ["--data", "digits", "--train-images", "80", "--test-images", "30", "--fit-steps", "20", "--epochs", "2"]
WORDS += ["--device", "cpu", "--methods", "nominal", "ceiling", "--samples", "1", "3", "--seeds", "0"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def study(folder: Path, *more: str) -> dict[str, Any]:
    words = ["study", "marginalize", *WORDS, "--cells", str(folder / "cells"), "--out", str(folder / "out"), *more]
    assert main(words) == 0
    results: dict[str, Any] = json.loads((folder / "out" / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


def test_numbers_are_those_of_the_classifiers_themselves(folder: Path) -> None:
    results = study(folder)
    settings = MarginalizeConfig(
        fit=FitOptions(fit_steps=20),
        train=TrainOptions(epochs=2),
        data="digits",
        train_images=80,
        test_images=30,
        cells=folder / "cells",
    )
    cell = settings.cell(0, settings.data_config())
    mixable, data = cell.mixable(CPU), cell.check()
    assert data.config == DataConfig(data_dir=settings.data_dir, train_images=80, test_images=30)
    model, split = mixable.model, settings.search.split(mixable.model.generator.layers)
    found = {
        (run["method"], run["test"], run["prediction"], run["samples"]): run["accuracy"] for run in results["runs"]
    }
    assert len(found) == len(results["runs"]) == 2 * 3 * (1 + 1 + 2)
    for method in ("nominal", "ceiling"):
        network = cell.classifier(method, CPU)
        for samples in (1, 3):
            robust = Marginalized(network, model.generator, model.encoder, split, mixable.pool, samples, seed=0)
            assert found[method, "uniform", "marginalized", samples] == accuracy(robust, data.uniform, CPU)
        assert found[method, "shuffled", "plain", 0] == accuracy(network, data.shuffled, CPU)
    assert [row["samples"] for row in results["costs"][0]["marginalized"]] == [1, 3]


def test_study_is_made_once_and_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = study(folder)
    measured = folder / "out" / "seeds" / "0.json"
    written = measured.stat().st_mtime_ns
    assert study(folder)["runs"] == first["runs"]
    assert measured.stat().st_mtime_ns == written
    assert (folder / "out" / "figures" / "marginalize.png").is_file()
    assert "mean over 3 z⊥" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--samples", "4", "1"], "--samples 4 1"),
        (["--samples", "0"], "--samples 0"),
        (["--methods", "none"], "'none'"),
    ],
)
def test_bad_input_is_one_line(more: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "marginalize", "--data", "digits", *more, "--out", str(tmp_path / "out")]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
