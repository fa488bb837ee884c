"""Tables of README and docs from results, and the copying of results."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from advmix.mixing import FINEST, SearchOptions
from advmix.utils.config import to_dict
from advmix.utils.errors import UserError
from experiments.cli import parse
from experiments.colored_mnist.study import ColoredMnistConfig
from study_runs import ROOT, docs, study_runs


def keep(folder: Path, runs: list[dict[str, Any]], config: ColoredMnistConfig | None = None, **search: Any) -> None:
    folder.mkdir(parents=True)
    settings = {"command": "study colored-mnist", **to_dict(config or ColoredMnistConfig())}
    results = {"config": settings, "search": {**to_dict(FINEST), **search}, "runs": runs}
    (folder / "results.json").write_text(json.dumps(results))


def page(tmp_path: Path, section: str) -> str:
    text = f"before\n<!-- results: {section} -->\nold\n<!-- end of results -->\nafter"
    new: str = docs.updated(text, tmp_path / "docs", tmp_path)
    assert docs.updated(new, tmp_path / "docs", tmp_path) == new
    assert "old" not in new
    assert new.startswith("before\n<!-- results:")
    assert new.endswith("<!-- end of results -->\nafter")
    return new


def rows(text: str, first: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [line[1:] for line in lines if line[0] == first]


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    assert "*Not run yet.*" in page(tmp_path, "nothing shuffled")


def test_one_spread_has_a_column_per_test(tmp_path: Path) -> None:
    keep(tmp_path / "study", study_runs(["nominal", "advmix"], [0.1]))
    text = page(tmp_path, "study")
    assert rows(text, "Nominal") == [
        ["100.0 ± 0.0", "61.0 ± 1.4", "40.0 ± 0.0", "30.0 ± 0.0", "20.0 ± 0.0", "10.0 ± 0.0"]
    ]
    assert "12,000 training and 10,000 test images, colour std 0.1, seeds 0, 1" in text
    assert "1,000 of the test images" in text
    assert "†" not in text


def test_chosen_rows_stand_alone(tmp_path: Path) -> None:
    keep(tmp_path / "study", study_runs(["nominal", "linf", "advmix"], [0.1], look="wildlife"))
    text = page(tmp_path, "study methods=nominal,advmix shuffled")
    assert rows(text, "Nominal") == [["61.0 ± 1.4"]]
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][2:] == [
        "| Nominal",
        "| **AdvMix**",
    ]
    assert "†" not in text
    assert "Made by" not in text


def test_what_is_counted_comes_from_the_list_of_columns(tmp_path: Path) -> None:
    text = docs.updated("<!-- columns: page -->\nold\n<!-- end of columns -->", tmp_path, tmp_path)
    assert docs.updated(text, tmp_path, tmp_path) == text
    assert [line[0] for line in rows(text, "Worst case")] == ["`accuracy_worst_case`"]
    assert "old" not in text


def test_many_spreads_have_a_table_per_test(tmp_path: Path) -> None:
    keep(tmp_path / "study", study_runs(["nominal", "ceiling"], [0.3, 0.05, 0.1]))
    text = page(tmp_path, "study")
    assert rows(text, "std") == [["0.05", "0.1", "0.3"]] * 6
    assert rows(text, "*Ceiling*")[1] == ["56.0 ± 1.4", "61.0 ± 1.4", "81.0 ± 1.4"]
    only = page(tmp_path, "study shuffled worst-case")
    assert rows(only, "Nominal") == [rows(text, "Nominal")[1], ["20.0 ± 0.0"] * 3]


def test_a_zero_is_a_number_and_null_is_none(tmp_path: Path) -> None:
    runs = study_runs(["nominal"], [0.1], [0], accuracy_worst_case=0.0, accuracy_recolor_worst=None, target="color")
    keep(tmp_path / "study", runs)
    assert rows(page(tmp_path, "study"), "Nominal") == [["100.0", "60.0", "40.0", "30.0", "0.0"]]


def test_published_numbers_stand_beside_the_protocol_s(tmp_path: Path) -> None:
    keep(tmp_path / "lnl", study_runs(["advmix"], [0.02, 0.03, 0.05], unit="color_variance", train_images=60_000))
    text = page(tmp_path, "lnl")
    assert rows(text, "LNL †") == [["81.85", "91.37", "96.18"]]
    assert rows(text, "CGN †") == [["92.9", "–", "–"]]
    assert "not a strict comparison" in text
    assert "CVPR 2019" in text
    assert "†" not in page(tmp_path, "lnl worst-case")
    keep(tmp_path / "wild", study_runs(["advmix"], [0.1], look="wildlife"))
    assert rows(page(tmp_path, "wild"), "CGN †")[0][1] == "81.4"


def test_several_files_are_one_table_by_data(tmp_path: Path) -> None:
    for seed in (0, 1):
        runs = study_runs(["nominal"], [0.1], [seed], data="digits")
        del runs[0]["generator"]  # as in files that name it once for all
        keep(tmp_path / "demo" / f"seed{seed}", runs)
    keep(tmp_path / "demo" / "mnist", study_runs(["nominal"], [0.1], [0]))
    text = page(tmp_path, "demo shuffled")
    assert rows(text, "Nominal") == [["60.0"], ["61.0 ± 1.4"]]
    assert "Made by" not in text


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    runs = study_runs(["nominal", "advmix"], [0.1])
    runs[0]["generator"] = "f" * 16
    keep(tmp_path / "generators", runs)
    with pytest.raises(UserError, match="generator"):
        page(tmp_path, "generators")
    keep(tmp_path / "searches" / "a", study_runs(["nominal"], [0.1]))
    keep(tmp_path / "searches" / "b", study_runs(["advmix"], [0.1]), steps=50)
    with pytest.raises(ValueError, match="searched differently"):
        page(tmp_path, "searches")
    with pytest.raises(ValueError, match="no test called shuffeld"):
        page(tmp_path, "searches shuffeld")


def test_figures_are_linked_where_they_are(tmp_path: Path) -> None:
    keep(tmp_path / "study", study_runs(["nominal"], [0.1]))
    (tmp_path / "study" / "figures").mkdir()
    (tmp_path / "study" / "figures" / "data.png").touch()
    text = page(tmp_path, "study data.png shuffled.png")
    assert "](../study/figures/data.png)" in text
    assert "shuffled.png)" not in text
    assert not rows(text, "Nominal")
    assert rows(page(tmp_path, "study data.png all"), "Nominal")


@pytest.mark.parametrize(
    "config",
    [
        ColoredMnistConfig(data_dir=Path("$ADVMIX_DATA"), color_std=(0.02, 0.1), seeds=(5,), test_images=100),
        ColoredMnistConfig(protocol="lnl", methods=("nominal", "randmix-long"), out=Path("runs/with space")),
        ColoredMnistConfig(
            target="color", search=SearchOptions(perp=(0, 1), perp_grid=True, radius=None), worst_steps=9
        ),
    ],
)
def test_the_command_is_the_one_that_was_run(config: ColoredMnistConfig) -> None:
    words = shlex.split(docs.command({"command": "study colored-mnist", **to_dict(config)}))
    assert words[:3] == ["python", "-m", "experiments"]
    assert parse(words[3:]) == config
    assert docs.command({"command": "study colored-mnist", **to_dict(ColoredMnistConfig())}).count(" ") == 3


def copy(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "experiments" / "keep_results.sh"
    return subprocess.run(["bash", script, source, target], capture_output=True, text=True, check=False)


def test_results_are_kept_without_the_rest(tmp_path: Path) -> None:
    source, target = tmp_path / "run", tmp_path / "results" / "study"
    keep(source, study_runs(["nominal"], [0.1]))
    (source / "config.json").write_text("{}")
    (source / "inputs.json").write_text("{}")
    (source / "figures").mkdir()
    (source / "figures" / "data.png").touch()
    (target / "figures").mkdir(parents=True)
    (target / "figures" / "old.png").touch()
    assert copy(source, target).returncode == 0
    kept = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert kept == ["figures/data.png", "results.json"]


@pytest.mark.parametrize("folder", ["/somewhere/data", "../shared"])
def test_paths_of_a_machine_are_not_kept(tmp_path: Path, folder: str) -> None:
    source = tmp_path / "run"
    keep(source, study_runs(["nominal"], [0.1]), ColoredMnistConfig(data_dir=Path(folder)))
    (source / "config.json").write_text("{}")
    done = copy(source, tmp_path / "kept")
    assert done.returncode == 1
    assert folder in done.stderr
    assert not (tmp_path / "kept").exists()
