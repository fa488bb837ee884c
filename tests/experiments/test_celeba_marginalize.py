"""`python -m experiments celeba-marginalize`, on patches of photographs that stand for faces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from running import main, parse
from test_celeba import SMALL, folder, photos

from advmix import Marginalized
from advmix.data.photos.load import Photos
from advmix.encoders.network import encoded
from advmix.metrics import accuracy
from advmix.report.tables import schema
from experiments.faces.averaging import FaceMarginalizeConfig
from experiments.faces.cell import ALL, Bench
from experiments.faces.dataset import divide, tinted

__all__ = ["folder", "photos"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def words(folder: Path, place: Path, *more: str) -> list[str]:
    command = ["study", "celeba-marginalize", "--data", str(folder), *SMALL, "--cells", str(place / "cells")]
    return [*command, "--seeds", "0", "--samples", "1", "2", "--methods", "nominal", "randmix", *more]


def study(command: list[str]) -> dict[str, Any]:
    assert main(command) == 0
    config = parse(command)
    results: dict[str, Any] = json.loads((config.out / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


def by_key(results: Mapping[str, Any]) -> dict[tuple[str, str, str, int], float]:
    keys = ("method", "test", "prediction", "samples")
    return {tuple(run[key] for key in keys): run["accuracy"] for run in results["runs"]}


def test_numbers_are_those_of_the_classifiers_on_tinted_faces(
    folder: Path, photos: Photos, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(folder, place, "--tint", "0.5", "--out", str(place / "tinted"))
    found, config = by_key(study(command)), parse(command)
    assert isinstance(config, FaceMarginalizeConfig)
    assert len(found) == 2 * 2 * (1 + 1 + 2)
    assert "mean over 2 z⊥" in capsys.readouterr().out
    assert (place / "tinted" / "figures" / "marginalize.png").is_file()
    plain, faces = (divide(photos, 24, "select", tint, seed=0) for tint in (0.0, 0.5))
    bench = Bench(config.celeba(), 0, faces)
    model, _ = bench.generator(ALL)
    pool, split = encoded(faces.labelled, model.encoder), config.search.split(model.generator.layers)
    tests = {"biased": tinted(plain.judged, plain.judged.labels, 0.5), "shuffled": faces.judged}
    for method in ("nominal", "randmix"):
        network, _ = bench.classifier(method)
        for name, images in tests.items():
            robust = Marginalized(network, model.generator, model.encoder, split, pool, 2, seed=0, residual=True)
            assert found[method, name, "marginalized", 2] == accuracy(robust, images, CPU)
            assert found[method, name, "plain", 0] == accuracy(network, images, CPU)


def test_natural_faces_are_one_test_and_measured_once(folder: Path, place: Path) -> None:
    command = words(folder, place, "--images", "4", "--out", str(place / "natural"))
    first = study(command)
    assert {run["test"] for run in first["runs"]} == {"natural"}
    measured = place / "natural" / "seeds" / "0.json"
    written = measured.stat().st_mtime_ns
    assert study(command)["runs"] == first["runs"]
    assert measured.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("more", "line"),
    [(["--samples", "2", "1"], "--samples 2 1"), (["--methods", "advmix"], "nominal must be among them")],
)
def test_bad_input_is_one_line(more: list[str], line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "celeba-marginalize", "--data", str(folder), *more]) == 2
    assert line in capsys.readouterr().err
