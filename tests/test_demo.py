"""The main job, small: its files, and the same numbers from the same seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advmix.cli import main
from advmix.data.digits import PAINTINGS
from advmix.data.settings import SOURCES, TARGETS
from advmix.report.tables import schema
from trained import made

SMALL = ["--train-images", "200", "--test-images", "60", "--fit-steps", "40", "--fit-batch", "16", "--epochs", "1"]
SMALL += ["--worst-images", "20", "--worst-restarts", "2", "--worst-steps", "1", "--device", "cpu", "--seed", "3"]
CONTROLS = ["--methods", "nominal", "advmix", "jitter"]


def results_of(out: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((out / "results.json").read_text())
    return parsed


def numbers(out: Path) -> list[dict[str, Any]]:
    """What a run measured, without its seconds."""
    return [{key: run[key] for key in run if key != "train_seconds"} for run in results_of(out)["runs"]]


@pytest.fixture(scope="module")
def demo() -> Path:
    return made("demo", *SMALL, *CONTROLS)


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures, which take longer than the rest."""
    monkeypatch.setattr("advmix.commands.demo.draw", lambda *_: {})


def test_results_follow_the_schema(demo: Path) -> None:
    results = results_of(demo)
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(results, schema())
    assert [run["method"] for run in results["runs"]] == CONTROLS[1:]
    assert results["runs"][0]["train_images"] == 200
    assert results["runs"][0]["worst_case_images"] == 20


def test_a_run_has_every_key_of_the_schema(demo: Path) -> None:
    known = schema()["$defs"]["run"]["properties"].keys()
    for run in results_of(demo)["runs"]:
        assert run.keys() == known - {"color_variance", "environment"}


def test_the_schema_knows_all_data() -> None:
    known = schema()["$defs"]["run"]["properties"]
    assert set(known["data"]["enum"]) == set(SOURCES)
    assert set(known["look"]["enum"]) >= set(PAINTINGS)
    assert known["target"]["enum"] == list(TARGETS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"accuracy_shuffled": 97.4},
        {"color_variance": 0.02},
        {"worst_case_images": None},
        {"method": 3},
        {"target": "color", "accuracy_recolor_worst": 0.5},
        {"generator": "mine"},
    ],
)
def test_the_schema_refuses(demo: Path, wrong: dict[str, Any]) -> None:
    results = results_of(demo)
    results["runs"][0].update(wrong)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(results, schema())


def test_the_schema_wants_a_colour_spread(demo: Path) -> None:
    results = results_of(demo)
    del results["runs"][0]["color_std"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(results, schema())
    results["runs"][0]["color_variance"] = 0.02
    jsonschema.validate(results, schema())


def test_the_schema_leaves_other_studies_their_keys(demo: Path) -> None:
    results = results_of(demo)
    results["runs"] = [{"points": 200}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(results, schema())
    jsonschema.validate({**results, "study": "toy"}, schema())


def test_everything_is_written(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    assert "data:image/png;base64" in page
    assert {path.stem for path in (demo / "figures").iterdir()} >= {"data", "mixing", "accuracy", "variations-advmix"}
    assert json.loads((demo / "config.json").read_text())["seed"] == 3
    explorer = (demo / "audit" / "explore.html").read_text()
    assert '"classifiers":["nominal","advmix"]' in explorer


@pytest.mark.usefixtures("_undrawn")
def test_same_seed_same_numbers_and_the_saved_config_runs_it_again(demo: Path, tmp_path: Path) -> None:
    again, few = tmp_path / "again", ["--methods", "nominal", "advmix"]
    assert main(["demo", "--config", str(demo / "config.json"), *few, "--out", str(again)]) == 0
    assert numbers(again) == [run for run in numbers(demo) if run["method"] in few]


@pytest.mark.usefixtures("_undrawn")
def test_another_seed_gives_other_numbers(demo: Path, tmp_path: Path) -> None:
    assert main(["demo", *SMALL[:-1], "4", "--methods", "nominal", "--out", str(tmp_path / "other")]) == 0
    assert numbers(tmp_path / "other")[0] != {**numbers(demo)[0], "seed": 4}


@pytest.mark.usefixtures("_undrawn")
def test_a_stopped_demo_that_was_moved_goes_on_where_it_was(demo: Path, tmp_path: Path) -> None:
    """Without its last stage's result it does that stage again, alone, and ends in the same numbers."""
    moved = tmp_path / "moved"
    shutil.copytree(demo, moved)
    (moved / "advmix" / "classifier.safetensors").unlink()
    (moved / "advmix" / "evaluation" / "results.json").unlink()
    kept = (moved / "fit" / "generator.safetensors").stat().st_mtime_ns
    assert main(["demo", *SMALL, *CONTROLS, "--out", str(moved)]) == 0
    assert numbers(moved) == numbers(demo)
    assert (moved / "fit" / "generator.safetensors").stat().st_mtime_ns == kept


def test_a_demo_of_very_few_images(tmp_path: Path) -> None:
    few = ["--train-images", "6", "--test-images", "3", "--fit-steps", "2", "--epochs", "1", "--device", "cpu"]
    assert main(["demo", *few, "--methods", "nominal", "--out", str(tmp_path / "few")]) == 0
    assert results_of(tmp_path / "few")["runs"][0]["test_images"] == 3
