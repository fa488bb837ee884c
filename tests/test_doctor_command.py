"""`advmix doctor` on folders of real runs: a good generator, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import trained
from advmix.classifiers.settings import ClassifierOptions
from advmix.cli import main
from advmix.doctor.inputs import find_runs
from advmix.encoders.autoencoder import Autoencoder, save_autoencoder
from advmix.training.autoencode import FitOptions, style_config
from advmix.utils.config import to_dict
from advmix.utils.files import make_folder
from advmix.utils.torch_tools import global_seed
from study_runs import ROOT

SMALL = ["--images", "80", "--search-images", "20", "--device", "cpu"]

GOOD = ROOT / "results" / "gan-digits"
"""A generator that was trained for a quarter of an hour; its weights are committed."""


def doctor(out: Path, *words: str | Path) -> dict[str, Any]:
    assert main(["doctor", *map(str, words), *SMALL, "--out", str(out)]) == 0
    return results_of(out)


def results_of(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((out / "doctor.json").read_text())
    return results


def verdicts(results: dict[str, Any]) -> dict[str, str]:
    return {finding["check"]: finding["verdict"] for finding in results["findings"]}


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("doctor") / "run"
    return doctor(
        out,
        trained.fitted(),
        trained.latents(),
        trained.classifier("nominal"),
        "--reference",
        trained.classifier("ceiling"),
    )


def test_every_question_is_answered(examined: dict[str, Any]) -> None:
    found = verdicts(examined)
    assert list(found) == [
        *("encoding", "pool", "split", "label survival", "leakage"),
        *("reconstruction", "gradient", "saturation", "worst case"),
    ]
    assert all(finding["remedy"] for finding in examined["findings"] if finding["verdict"] != "ok")
    for check in ("pool", "split", "gradient", "saturation"):
        assert found[check] == "ok", check
    worst = examined["findings"][-1]
    assert worst["numbers"]["accuracy_worst_case"] < 0.1
    assert [bool(finding["subject"]) for finding in examined["findings"]] == [False] * 5 + [True] * 4
    assert worst["subject"].startswith("nominal")


def test_a_good_generator_is_fine(tmp_path: Path) -> None:
    found = verdicts(doctor(tmp_path, GOOD))
    assert (found["encoding"], found["split"]) == ("ok", "ok")


def test_same_seed_same_findings_and_sources_are_looked_up(
    examined: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = doctor(tmp_path / "again", trained.classifier("nominal"), "--reference", trained.classifier("ceiling"))
    assert again["findings"] == examined["findings"]
    assert "label survival" in capsys.readouterr().out
    saved = tmp_path / "again" / "config.json"
    assert main(["doctor", "--config", str(saved)]) == 0
    assert json.loads((tmp_path / "again" / "doctor.json").read_text())["findings"] == again["findings"]


def test_the_wrong_split_is_bad(tmp_path: Path) -> None:
    found = doctor(tmp_path, GOOD, "--reference", trained.good_classifier("ceiling"), "--perp", *"0123")
    assert found["examined"]["search"]["perp"] == [0, 1, 2, 3]
    assert verdicts(found)["label survival"] == "bad"
    assert verdicts(found)["leakage"] == "bad"


def test_a_biased_reference_is_not_asked(tmp_path: Path) -> None:
    found = verdicts(doctor(tmp_path, trained.latents(), "--reference", trained.classifier("nominal")))
    assert (found["label survival"], found["leakage"]) == ("not known", "doubtful")


def test_an_unfitted_generator_is_bad(tmp_path: Path) -> None:
    """Nothing but the generator is named: the pool is a sample that is encoded now."""
    data = trained.images()
    with global_seed(0):
        model = Autoencoder(style_config(data.train, FitOptions()))
    metadata = {"data": to_dict(data.config), "data_seed": data.seed, "data_fingerprint": data.train.fingerprint}
    save_autoencoder(make_folder(tmp_path / "fit"), model, {**metadata, "fit_seconds": 0.0, "reconstruction_mse": 1.0})
    (tmp_path / "fit" / "config.json").write_text((trained.fitted() / "config.json").read_text())
    found = verdicts(doctor(tmp_path / "out", tmp_path / "fit"))
    assert found["encoding"] == "bad"
    assert "pool" not in found


def test_a_tiny_pool_is_bad(tmp_path: Path) -> None:
    small = ["--train-images", "30", "--test-images", "30", "--fit-steps", "5", "--device", "cpu"]
    assert main(["fit", *small, "--out", str(tmp_path / "runs" / "fit")]) == 0
    latents = ["--out", str(tmp_path / "runs" / "latents"), "--device", "cpu"]
    assert main(["encode", "--generator", str(tmp_path / "runs" / "fit"), *latents]) == 0
    found = doctor(tmp_path / "out", tmp_path / "runs")
    assert verdicts(found)["pool"] == "bad"
    assert found["examined"]["latents"] == str(tmp_path / "runs" / "latents")


def test_latents_of_an_optimisation_are_examined(tmp_path: Path) -> None:
    """Unseen images are then encoded by it, too: only a few."""
    slow = ["--encoder", "refine", "--optimize-steps", "2", "--device", "cpu", "--out", str(tmp_path / "latents")]
    assert main(["encode", "--generator", str(trained.fitted()), *slow]) == 0
    found = doctor(tmp_path / "out", tmp_path / "latents")
    assert found["findings"][0]["numbers"]["images"] == 64


def test_the_search_is_that_of_the_run_nearest_to_the_worst_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.hasten_reference(monkeypatch)
    training = ["--method", "advmix", "--epochs", "1", "--steps", "1", "--perp", "-1", "--residual"]
    learned, audited = tmp_path / "advmix", tmp_path / "audit"
    assert main(["train", *training, *trained.mixing(), "--out", str(learned)]) == 0
    runs = find_runs([learned])
    assert (runs.search.perp, runs.search.restarts, runs.search.steps) == ((-1,), 5, 5)
    assert (runs.residual, runs.classifiers) == (True, (ClassifierOptions(str(learned)),))
    audit = ["--images", "40", "--restarts", "1", "--steps", "1", "--resamples", "50", "--no-residual"]
    assert main(["audit", "--classifier", str(learned), *audit, *trained.mixing(), "--out", str(audited)]) == 0
    runs = find_runs([audited, learned])
    assert (runs.search.perp, runs.search.restarts, runs.search.steps) == ((), 1, 1)
    assert (runs.residual, runs.classifiers) == (False, (ClassifierOptions(str(learned)),))
    assert find_runs([trained.classifier("nominal")]).search.perp == ()
    assert find_runs([trained.classifier("nominal")]).reference is None
    assert runs.reference == str(audited / "reference")  # the audit trained one
    found = doctor(tmp_path / "out", audited)
    assert found["examined"]["reference"] == runs.reference
    assert "No reference" not in found["findings"][3]["why"]


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text((trained.fitted() / "config.json").read_text())
    colors = tmp_path / "colors"
    flags = ["--method", "nominal", "--epochs", "1", "--train-images", "40", "--target", "color", "--device", "cpu"]
    assert main(["train", *flags, "--out", str(colors)]) == 0
    for words, message in (
        ([tmp_path / "nothing"], "nothing: no such folder"),
        ([tmp_path / "empty"], "empty: not written by fit"),
        ([trained.fitted(), tmp_path / "other"], "several fit folders"),
        ([trained.fitted(), colors], "tells red green blue ... apart"),
        ([trained.fitted(), "--perp", "9"], "--perp 9: outside the network"),
        ([trained.fitted(), "--images", "1"], "--images 1: must be at least 2"),
    ):
        assert main(["doctor", *map(str, words), "--out", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
