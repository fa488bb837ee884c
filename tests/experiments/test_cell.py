"""A cell makes each of its parts once; the study of cells divides, stops, goes on and gathers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from running import cli

from advmix.commands.demo import RunSettings
from advmix.data.settings import DataConfig
from advmix.mixing import FINEST, SearchOptions
from advmix.report.tables import comparable, schema
from advmix.training.autoencode import FitOptions
from advmix.training.classify import TrainOptions
from advmix.utils.errors import UserError
from advmix.utils.files import read_json, write_json
from experiments.cells import Cell, make_cell
from experiments.colored_mnist.study import COLOR_STDS, LNL_VARIANCES, ColoredMnistConfig, run_colored_mnist

SETTINGS = RunSettings(
    fit=FitOptions(fit_steps=20), train=TrainOptions(epochs=1), worst_images=20, worst_restarts=2, device="cpu"
)
DATA = DataConfig(train_images=150, test_images=40)
CPU = torch.device("cpu")
SMALL = ["--data", "digits", "--train-images", "150", "--test-images", "40", "--fit-steps", "20", "--epochs", "1"]
SMALL += ["--worst-images", "20", "--worst-restarts", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cells")


def study(cells: Path, out: Path, *arguments: str) -> dict[str, Any]:
    assert cli(["study", "colored-mnist", *SMALL, *arguments, "--cells", str(cells), "--out", str(out)]) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


def test_parts_are_made_once(tmp_path: Path) -> None:
    cell = Cell(tmp_path / "cell", DATA, 0, SETTINGS)
    assert not cell.is_fitted()
    first = cell.classifier("randmix", CPU)
    weights = cell.folder / "randmix" / "classifier.safetensors"
    written = weights.stat().st_mtime_ns
    again = Cell(tmp_path / "cell", DATA, 0, SETTINGS).classifier("randmix", CPU)
    assert weights.stat().st_mtime_ns == written
    image = torch.rand(2, 3, 16, 16)
    assert torch.equal(first(image), again(image))
    assert cell.is_fitted()
    assert not cell.is_evaluated("randmix")


def test_a_part_made_otherwise_is_refused(tmp_path: Path) -> None:
    Cell(tmp_path, DATA, 0, SETTINGS).fit()
    other = replace(SETTINGS, fit=FitOptions(fit_steps=21))
    with pytest.raises(UserError, match=r"holds another run .* choose another folder with --cells"):
        Cell(tmp_path, DATA, 0, other).fit()


def test_cells_are_named_by_what_they_hold() -> None:
    def name(data: DataConfig, search: SearchOptions | None = None) -> str:
        return make_cell(Path("c"), data, 3, replace(SETTINGS, search=search or FINEST)).name

    assert name(DataConfig("mnist")) == "mnist-std0.1-seed3"
    assert name(DataConfig("mnist", color_variance=0.025, train_images=60000)) == "mnist-60000-var0.025-seed3"
    assert name(DataConfig("mnist", look="wildlife", color_std=0.01)) == "mnist-wildlife-std0.01-seed3"
    assert name(DataConfig("mnist", target="color"), SearchOptions(perp=(0, 1))) == "mnist-std0.1-color-seed3 perp0.1"


def test_another_split_shares_the_generator(cells: Path) -> None:
    fine = make_cell(cells, DATA, 5, SETTINGS)
    coarse = make_cell(cells, DATA, 5, replace(SETTINGS, search=SearchOptions(perp=(0, 1, 2, 3))))
    assert fine.fitted == coarse.fitted
    assert fine.place("advmix") != coarse.place("advmix")
    fine.fit()
    coarse.fit()
    assert coarse.latents.is_dir()


def test_study_gathers_every_run_of_every_cell(cells: Path, tmp_path: Path) -> None:
    arguments = ["--color-std", "0.02", "0.1", "--seeds", "0", "1", "--methods", "nominal", "randmix"]
    results = study(cells, tmp_path / "out", *arguments)
    found = [(run["color_std"], run["seed"], run["method"]) for run in results["runs"]]
    assert found == [(std, seed, name) for std in (0.02, 0.1) for seed in (0, 1) for name in ("nominal", "randmix")]
    assert len({run["generator"] for run in results["runs"]}) == len(results["generators"]) == 4
    again = study(cells, tmp_path / "again", *arguments)
    assert again["runs"] == results["runs"]
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} >= {"mixing", "shuffled", "worst-case"}


def test_study_goes_on_where_it_was_killed(cells: Path, tmp_path: Path) -> None:
    """What one cell lacks is made, what the others have is left alone."""
    arguments = ["--color-std", "0.02", "--seeds", "7", "--methods", "nominal", "instnorm"]
    whole = study(cells, tmp_path / "whole", *arguments)
    cell = cells / "digits-150-std0.02-seed7"
    (cell / "instnorm" / "classifier.safetensors").unlink()
    (cell / "instnorm" / "evaluation" / "results.json").unlink()
    kept = (cell / "nominal" / "classifier.safetensors").stat().st_mtime_ns
    again = study(cells, tmp_path / "again", *arguments)

    def numbers(results: dict[str, Any]) -> list[dict[str, Any]]:
        return [{key: value for key, value in run.items() if key != "train_seconds"} for run in results["runs"]]

    assert numbers(again) == numbers(whole)
    assert (cell / "nominal" / "classifier.safetensors").stat().st_mtime_ns == kept


ELSEWHERE = ["--color-std", "0.1", "--seeds", "0"]


@pytest.fixture(scope="module")
def elsewhere(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two methods that was made on another machine."""
    out = tmp_path_factory.mktemp("elsewhere") / "out"
    study(cells, out, *ELSEWHERE, "--methods", "nominal", "randmix")
    return out


def test_runs_finished_elsewhere_are_not_made_again(elsewhere: Path, tmp_path: Path) -> None:
    theirs = read_json(elsewhere / "results.json")
    arguments = [*ELSEWHERE, "--methods", "randmix", "--finished", str(elsewhere)]
    results = study(tmp_path / "cells", tmp_path / "out", *arguments)
    assert results["runs"] == theirs["runs"][1:]
    assert results["generators"] == theirs["generators"]
    assert not (tmp_path / "cells").exists()
    assert not (tmp_path / "out" / "figures" / "mixing.png").exists()


def test_runs_from_elsewhere_stand_beside_our_own(cells: Path, elsewhere: Path, tmp_path: Path) -> None:
    arguments = [*ELSEWHERE, "--methods", "nominal", "instnorm", "--finished", str(elsewhere / "results.json")]
    results = study(cells, tmp_path / "out", *arguments)
    assert [run["method"] for run in results["runs"]] == ["nominal", "instnorm"]
    assert len(results["generators"]) == 1


def test_every_run_says_where_it_was_made(cells: Path, elsewhere: Path, tmp_path: Path) -> None:
    theirs = read_json(elsewhere / "results.json")
    theirs["environments"][0]["torch"] = "1.0"
    write_json(tmp_path / "results.json", theirs)
    arguments = [*ELSEWHERE, "--methods", "nominal", "instnorm", "--finished", str(tmp_path)]
    once = study(cells, tmp_path / "out", *arguments)
    arguments = [*ELSEWHERE, "--methods", "instnorm", "nominal", "--finished", str(tmp_path / "out")]
    for results in (once, study(cells, tmp_path / "again", *arguments)):
        made = {run["method"]: results["environments"][run["environment"]]["torch"] for run in results["runs"]}
        assert made == {"nominal": "1.0", "instnorm": results["environment"]["torch"]}
        assert len(results["environments"]) == 2


def test_another_generator_is_refused_before_anything_is_trained(
    cells: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = read_json(elsewhere / "results.json")
    for entry, key in ((theirs["generators"][0], "fingerprint"), *((run, "generator") for run in theirs["runs"])):
        entry[key] = "0" * 16
    write_json(tmp_path / "results.json", theirs)
    arguments = ["--methods", "nominal", "grayscale", "--finished", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli(["study", "colored-mnist", *SMALL, *ELSEWHERE, *arguments, "--cells", str(cells)]) == 2
    assert f"made with generator {'0' * 16}, but" in capsys.readouterr().err
    assert not (cells / "digits-150-std0.1-seed0" / "grayscale").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "2"], r"made with other settings \(train epochs 1 there, 2 here\); give the same"),
        (["--look", "wildlife"], r"\(look 'colored' there, 'wildlife' here\)"),
    ],
)
def test_runs_made_otherwise_are_refused(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    command = ["study", "colored-mnist", *SMALL, *arguments, "--finished", str(elsewhere)]
    assert cli([*command, "--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_results_of_another_command_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "results.json", {"config": {"command": "demo"}})
    assert cli(["study", "colored-mnist", *SMALL, "--finished", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "not the results.json of python -m experiments colored-mnist" in capsys.readouterr().err


@pytest.mark.parametrize("look", ["double-colored", "wildlife"])
def test_study_of_a_harder_look(cells: Path, tmp_path: Path, look: str) -> None:
    results = study(
        cells, tmp_path / "out", "--look", look, "--color-std", "0.01", "--seeds", "0", "--methods", "recolor"
    )
    assert results["runs"][0]["look"] == look
    assert results["runs"][0]["accuracy_recolor_worst"] is not None


def test_study_of_the_reversed_task(cells: Path, tmp_path: Path) -> None:
    arguments = ["--target", "color", "--perp", "0", "1", "2", "3", "--color-std", "0.1", "--seeds", "0"]
    results = study(cells, tmp_path / "out", *arguments, "--methods", "nominal", "advmix")
    nominal, advmix = results["runs"]
    assert nominal["target"] == "color"
    assert nominal["accuracy_recolor_worst"] is None
    assert advmix["setting"]["perp"] == [0, 1, 2, 3]


def test_study_under_the_variance_protocol(cells: Path, tmp_path: Path) -> None:
    arguments = ["--protocol", "lnl", "--color-variance", "0.02", "--seeds", "0", "--methods", "nominal"]
    run = study(cells, tmp_path / "out", *arguments)["runs"][0]
    assert run["color_variance"] == 0.02
    assert "color_std" not in run


def test_protocols_have_their_spreads_and_sizes() -> None:
    assert [data.color_std for data in ColoredMnistConfig().data_configs()] == list(COLOR_STDS)
    lnl = ColoredMnistConfig(protocol="lnl").data_configs()
    assert [data.color_variance for data in lnl] == list(LNL_VARIANCES)
    assert {data.train_images for data in lnl} == {60_000}


def test_worst_cases_under_different_generators_are_not_mixed(cells: Path, tmp_path: Path) -> None:
    runs = study(cells, tmp_path / "out", "--color-std", "0.1", "--seeds", "0", "--methods", "nominal", "randmix")[
        "runs"
    ]
    comparable(runs)
    for key, value in (("generator", "0" * 16), ("worst_case_images", 21)):
        with pytest.raises(UserError, match=f"with {key} {value}.*compare only under one generator"):
            comparable([runs[0], {**runs[1], key: value}])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "paper"], "--protocol paper: unknown"),
        (["--protocol", "lnl", "--color-std", "0.1"], "--color-std: not under --protocol lnl"),
        (["--color-variance", "0.02"], "--color-variance: not under --protocol std"),
        (["--seeds", "1", "1"], "--seeds 1 1"),
        (["--methods", "advmx"], "'advmx': unknown"),
        (["--look", "plain"], "--look plain: unknown"),
        (["--color-std", "-1"], "--color-std -1"),
        (["--perp", "9"], "--perp 9: outside"),
    ],
)
def test_bad_settings_of_the_study_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert cli(["study", "colored-mnist", *SMALL, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_saved_study_runs_again(cells: Path, tmp_path: Path) -> None:
    arguments = ["--color-std", "0.1", "--seeds", "0", "--methods", "nominal"]
    first = study(cells, tmp_path / "one", *arguments)
    saved = tmp_path / "one" / "results.json"
    assert cli(["study", "colored-mnist", "--config", str(saved), "--out", str(tmp_path / "two")]) == 0
    assert json.loads((tmp_path / "two" / "results.json").read_text())["runs"] == first["runs"]


def test_the_python_api_returns_what_it_writes(cells: Path, tmp_path: Path) -> None:
    config = ColoredMnistConfig(
        data="digits",
        train_images=150,
        test_images=40,
        color_std=(0.1,),
        seeds=(0,),
        methods=("nominal",),
        fit=SETTINGS.fit,
        train=SETTINGS.train,
        worst_images=20,
        worst_restarts=2,
        device="cpu",
        cells=cells,
        out=tmp_path / "out",
    )
    assert run_colored_mnist(config) == read_json(tmp_path / "out" / "results.json")
