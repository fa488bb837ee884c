"""What an audit found in the formats of others: a data set of FiftyOne, a model card."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, ModelCardData
from PIL import Image
from torch import nn

import advmix
from advmix.audit.results import AuditResult
from advmix.cli import main
from advmix.utils.errors import UserError
from test_audit_command import MARKUP, done, results_of, runs  # noqa: F401  (fixtures)
from test_export import table


def fiftyone_of(out: Path) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
    """Files, labels and predictions, held against the documented format: every image has a file and both."""
    paths, labels, predictions = (
        json.loads((out / f"{name}.json").read_text()) for name in ("data", "labels", "predictions")
    )
    keys = {Path(name).with_suffix("").as_posix() for name in paths}
    for whole in (labels, predictions):
        assert set(whole) == {"classes", "labels"}
        assert set(whole["labels"]) == keys
        for label in whole["labels"].values():
            assert set(label) <= {"label", "confidence", "attributes"}
            assert label["label"] in whole["classes"]
    for path in paths.values():
        Image.open(out / path).verify()
    return paths, labels["labels"], predictions["labels"]


def test_a_finished_audit_is_a_data_set_of_fiftyone(done: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "out"
    assert main(["export", "--audit", str(done), "--to", "fiftyone", "--out", str(out), "--device", "cpu"]) == 0
    paths, labels, predictions = fiftyone_of(out)
    rows = table(out)
    assert len(paths) == 2 * len(rows) == 2 * results_of(done)["images"]
    for row in rows:
        after, before = (row[column].removesuffix(".png") for column in ("filename", "original"))
        assert labels[after]["label"] == labels[before]["label"] == row["label"]
        assert labels[after]["attributes"]["fooled"] == (row["fooled"] == "yes")
        assert predictions[after]["label"] == row["prediction_after"]
        assert predictions[before]["confidence"] == float(row["probability_before"])
    assert MARKUP in {label["label"] for label in labels.values()}
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "variations.sha256"], cwd=out, check=True)
    assert checked.returncode == 0
    assert "labels.json" in (out / "variations.sha256").read_text()


@pytest.fixture(scope="module")
def result() -> AuditResult:
    """Of images in memory, which lie in no file."""
    pixels = torch.rand(200, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images = advmix.open_images((pixels, torch.arange(200) % 2), classes=("a", "b"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    search = advmix.Search(restarts=1, steps=1)
    reference = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    return advmix.audit_classifier(net, images, reference=reference, search=search, count=30, pictures=2)


def test_images_in_memory_are_one_too(result: AuditResult, tmp_path: Path) -> None:
    result.to_fiftyone(tmp_path / "out")
    paths, labels, _ = fiftyone_of(tmp_path / "out")
    assert len(paths) == 60
    assert {label["attributes"]["variant"] for label in labels.values()} == {"original", "worst-1"}
    with pytest.raises(UserError, match="another folder"):
        result.to_fiftyone(tmp_path / "out")


def test_a_model_card_is_read_by_the_hub_s_library(result: AuditResult, done: Path, tmp_path: Path) -> None:  # noqa: F811
    card = ModelCard(result.to_model_card())
    data = ModelCardData(**card.data.to_dict())
    found = {one.metric_name: one for one in data.eval_results or ()}
    part = result.results["classifiers"][0]["parts"][0]
    for name, key in (("As it is", "accuracy_clean"), ("Worst case", "accuracy_worst_case")):
        assert found[name].metric_value == round(part[key]["value"], 4)
        assert (found[name].metric_args or {})["low"] == round(part[key]["low"], 4)
    assert data.model_name == result.results["classifiers"][0]["name"]
    assert "95 % intervals" in card.text
    assert main(["export", "--audit", str(done), "--to", "model-card", "--out", str(tmp_path / "card")]) == 0
    written = ModelCard.load(tmp_path / "card" / "model_card.md")
    assert results_of(done)["classifiers"][0]["name"] == ModelCardData(**written.data.to_dict()).model_name
    assert written.text.strip().startswith("## Robustness")


def test_a_model_card_is_of_an_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["export", "--classifier", "x", "--out", str(tmp_path / "out"), "--to"]
    assert main([*flags, "model-card"]) == 2
    assert "--to model-card: name the --audit" in capsys.readouterr().err
    assert main([*flags, "csv"]) == 2
    assert "--to csv: unknown; choose from images fiftyone model-card" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
