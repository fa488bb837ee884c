"""`advmix data`: what it counts, draws and prints."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advmix.cli import main
from advmix.commands.data import PreviewConfig
from advmix.utils.config import load
from advmix.utils.files import write_json
from pictures import digit_files, digit_label, digit_table, write

COUNT = 40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Digits with a group whose name looks like rich's markup, one broken file and one without a label."""
    table = digit_table(COUNT, ",kind,even", lambda i: f",{'[red]' if i % 3 else 'x'},{1 - digit_label(i) % 2}")
    extra = {"[bold]no.png": b"hello", "stray.png": b""}
    return write(tmp_path / "data", {**digit_files(COUNT), **extra, "labels.csv": table + "[bold]no.png,3,x,0\n"})


def run(data: Path, out: Path, *options: str) -> dict[str, Any]:
    assert main(["data", str(data), "--size", "16", "--out", str(out), *options]) == 0
    found: dict[str, Any] = json.loads((out / "data.json").read_text())
    return found


def test_numbers_are_those_of_the_data(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(data, tmp_path / "out", "--target", "even", "--group", "kind", "--holdout", "0")
    expected = Counter((["not even", "even"][1 - digit_label(i) % 2], "[red]" if i % 3 else "x") for i in range(COUNT))
    groups = found["splits"]["train"]["groups"]
    assert {(name, group): count for name, row in groups.items() for group, count in row.items()} == expected
    assert found["splits"]["train"]["classes"]["even"] == expected["even", "x"] + expected["even", "[red]"]
    assert (found["images"], found["unlabelled"], found["shape"]) == (COUNT, 1, [3, 16, 16])
    assert (found["sizes"], found["modes"]) == ([[8, 8, COUNT]], {"L": COUNT})
    assert [image["name"] for image in found["broken"]] == ["[bold]no.png"]
    printed = capsys.readouterr().out
    assert "[bold]no.png" in printed
    assert "[red]" in printed
    assert "--skip-broken" in printed
    assert f"{COUNT} images in 2 classes" in printed


@pytest.mark.parametrize(("every", "remark"), [(3, False), (8, True)])
def test_classes_of_unlike_size_are_remarked_upon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], every: int, remark: bool
) -> None:
    table = digit_table(COUNT, ",rare", lambda index: f",{int(index % every == 0)}")
    uneven = write(tmp_path / "uneven", {**digit_files(COUNT), "labels.csv": table})
    found = run(uneven, tmp_path / "out", "--target", "rare", "--holdout", "0")
    rarest, commonest = sorted(found["splits"]["train"]["classes"].values())
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"unlike size in train ({rarest} to {commonest} images): train --balance draws them alike" in said
    ) == remark


def sheet(folder: Path) -> np.ndarray:
    """`(H, W)`, grey."""
    with Image.open(folder / "preview.png") as image:
        return np.asarray(image.convert("L"))


def test_the_sheet_shows_the_images(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "two", "--target", "even")
    run(data, tmp_path / "ten", "--target", "label", "--channels", "1", "--columns", "4")
    two, ten = sheet(tmp_path / "two"), sheet(tmp_path / "ten")
    assert len(ten) > 3 * len(two)
    assert ten.shape[1] < two.shape[1]
    assert (two < 20).mean() > 0.1  # the digits' black


def test_only_pairs_that_occur_are_written(tmp_path: Path) -> None:
    table = digit_table(COUNT, ",own,even", lambda index: f",{index},{1 - digit_label(index) % 2}")
    place = write(tmp_path / "many", {**digit_files(COUNT), "labels.csv": table})
    found = run(place, tmp_path / "out", "--target", "even", "--group", "own", "--holdout", "0")
    rows = found["splits"]["train"]["groups"]
    assert len(found["groups"]) == COUNT
    assert sum(len(row) for row in rows.values()) == COUNT
    assert {count for row in rows.values() for count in row.values()} == {1}


def test_too_many_groups_are_summed_up(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = digit_table(COUNT, ",number", lambda index: f",{index}")
    single = write(tmp_path / "single", {**digit_files(COUNT), "labels.csv": table})
    run(data, tmp_path / "plain", "--target", "label", "--columns", "4")
    capsys.readouterr()
    run(single, tmp_path / "many", "--target", "label", "--columns", "4", "--group", "number", "--holdout", "0")
    assert {str(COUNT - 6), "others"} <= set(capsys.readouterr().out.split())
    assert len(sheet(tmp_path / "many")) == len(sheet(tmp_path / "plain"))  # a row for each class, not each group


def test_a_preview_gives_way_to_another_but_nothing_else_does(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, tmp_path / "out", "--target", "label")
    assert run(data, tmp_path / "out", "--target", "even")["classes"] == ["not even", "even"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    assert main(["data", str(data), "--target", "even", "--out", str(tmp_path / "mine")]) == 2
    assert "not empty" in capsys.readouterr().err
    write_json(tmp_path / "out" / "config.json", {"command": "fit", "inputs": {}})
    assert main(["data", str(data), "--target", "even", "--out", str(tmp_path / "out")]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_the_saved_config_runs_again(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "out", "--target", "even", "--group", "kind", "--seed", "4")
    config = tmp_path / "out" / "config.json"
    assert main(["data", "--config", str(config), "--out", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "data.json").read_text()) == first
    assert (tmp_path / "again" / "preview.png").read_bytes() == (tmp_path / "out" / "preview.png").read_bytes()
    assert load(config, "data", PreviewConfig).photos.group == ("kind",)


def test_bad_input_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        ([str(tmp_path / "none")], "no such file or folder"),
        ([str(data), "--target", "even", "--group", "knd"], "did you mean kind?"),
        ([str(data), "--target", "odd"], "--target odd"),
        ([str(data), "--crop", "round"], "--crop round"),
        ([str(data), "--columns", "0"], "--columns 0"),
        ([], "PATH"),
    ):
        capsys.readouterr()
        assert main(["data", *arguments, "--out", str(tmp_path / "out")]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert words in lines[0]
    assert not (tmp_path / "out").exists()
