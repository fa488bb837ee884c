from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from advmix.cli import main
from advmix.commands.changes import changes_words, strength_words
from advmix.named_changes import NAMED_CHANGES, changes_for
from advmix.report.tables import schema
from pictures import digit, digit_label, encoded, write
from trained import shared

CPU = ["--device", "cpu"]


@shared
def classifier(folder: Path) -> None:
    """`nominal/`, of the small digits."""
    words = ["--data", "digits", "--train-images", "300", "--test-images", "40", "--method", "nominal", "--epochs", "2"]
    assert main(["train", *words, *CPU, "--out", str(folder / "nominal")]) == 0


def results_of(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


def test_every_change_is_measured_and_drawn(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--classifier", str(classifier / "nominal"), "--part", "biased", "--images", "30", *CPU]
    assert main(["changes", *words, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    results = results_of(tmp_path / "out")
    assert results["study"] == "changes"
    assert results["images"] == 30
    rows = results["changes"]
    assert {row["name"] for row in rows} == set(NAMED_CHANGES)
    assert all(row["right"] == round(30 * results["accuracy_clean"]["value"]) for row in rows)
    assert all(len(row["strengths"]) == 5 for row in rows if row["name"] != "mirror")
    lines = [line.strip() for line in shown.splitlines()]
    for row in rows:
        line = next(line for line in lines if line.startswith(f"{row['name']} "))
        assert line.endswith(strength_words(row))
        assert f"{100 * row['strengths'][0]['accuracy']['value']:.0f} % at {row['strengths'][0]['strength']:g}" in line
    assert f"{results['accuracy_clean']['value']:.1%} of 30 images right as they are." in shown
    with Image.open(tmp_path / "out" / "changes.png") as picture:
        assert min(picture.size) > 1000


def test_accuracy_is_that_of_predict_and_a_seed_fixes_everything(classifier: Path, tmp_path: Path) -> None:
    words = ["--classifier", str(classifier / "nominal"), "--part", "biased", *CPU]
    for out in ("first", "second"):
        assert main(["changes", *words, "--images", "1000", "--out", str(tmp_path / out)]) == 0
    assert main(["predict", *words, "--out", str(tmp_path / "predict")]) == 0
    first, second = (results_of(tmp_path / out) for out in ("first", "second"))
    assert first["changes"] == second["changes"]
    assert first["accuracy_clean"]["value"] == results_of(tmp_path / "predict")["accuracy"]


def test_a_finished_run_is_shown_again(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "changes",
        "--classifier",
        str(classifier / "nominal"),
        "--images",
        "12",
        *CPU,
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 0
    table = capsys.readouterr().out.partition("accuracy")[2]
    monkeypatch.delattr("advmix.commands.changes.measure_changes")
    assert main([*words, "--resume"]) == 0
    assert capsys.readouterr().out.partition("accuracy")[2] == table
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err


def test_grey_images_of_your_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: dict[str, bytes | str] = {f"{digit_label(i)}/{i:04}.png": encoded(digit(i)) for i in range(100)}
    folder = write(tmp_path / "images", files)
    shape = ["--data", str(folder), "--size", "16", "--channels", "1"]
    assert main(["train", *shape, "--method", "nominal", "--epochs", "1", *CPU, "--out", str(tmp_path / "net")]) == 0
    words = ["changes", "--classifier", str(tmp_path / "net"), *CPU, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert {row["name"] for row in results_of(tmp_path / "out")["changes"]} == {one.name for one in changes_for(1)}
    capsys.readouterr()
    assert main([*words[:-1], str(tmp_path / "other"), "--part", "shuffled"]) == 2
    assert "--part shuffled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "0"], "--images 0"),
        (["--part", "everything"], "--part everything"),
        (["--classifier", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [] if "--classifier" in words else ["--classifier", str(tmp_path)]
    assert main(["changes", *named, *words, *CPU, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def row(strength: float | None, **changed: Any) -> dict[str, Any]:
    row = {"name": "darker", "unit": "stops", "neutral": 0, "right": 9, "strength_at_5_percent": strength}
    return row | {"strengths": [{"strength": one} for one in (0.5, 3)]} | changed


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (row(0.4213), "at 0.421"),
        (row(None), "> 3"),
        (row(None, neutral=10), "< 3"),
        (row(None, right=0), "–"),
        (row(1, strengths=[{"strength": 1}]), "yes"),
        (row(None, strengths=[{"strength": 1}]), "no"),
    ],
)
def test_the_last_column_says_how_much_it_takes(made: dict[str, Any], words: str) -> None:
    assert strength_words(made) == words


def test_the_last_line_names_what_flips_most_easily() -> None:
    results = {"accuracy_clean": {"value": 0.9}, "images": 10, "changes": [row(0.42), row(None)]}
    assert changes_words(results) == (
        "90.0% of 10 images right as they are. 5 % of the right answers flip most easily by: darker (0.42 stops)."
    )
    results["changes"] = [row(None)]
    assert changes_words(results).endswith("No change flips 5 % of the right answers.")
    results["changes"] = [row(None, right=0)]
    assert changes_words(results).endswith("No answer is right, so no change can flip one.")
