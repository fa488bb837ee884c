from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from advmix import config as configs
from advmix.data import DataConfig
from advmix.errors import UserError
from advmix.runs import open_run
from advmix.stages.encode import EncodeConfig
from advmix.stages.fit import FitConfig

INPUTS: dict[str, str | None] = {"images": "0123456789abcdef", "generator": None}


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    open_run(tmp_path / "run", "fit", FitConfig(), resume=False, inputs=INPUTS)
    return tmp_path / "run"


def test_new_folder_is_claimed(claimed: Path) -> None:
    assert configs.load(claimed / "config.json", "fit", FitConfig) == FitConfig()


def test_empty_folder_is_claimed(tmp_path: Path) -> None:
    open_run(tmp_path, "fit", FitConfig(), resume=False, inputs=INPUTS)
    assert (tmp_path / "config.json").is_file()


def test_same_run_needs_resume(claimed: Path) -> None:
    with pytest.raises(UserError, match="holds this run already; go on with --resume"):
        open_run(claimed, "fit", FitConfig(), resume=False, inputs=INPUTS)
    open_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS)


def test_run_may_go_on_elsewhere_and_on_another_device(claimed: Path) -> None:
    config = FitConfig(out=Path("moved"), device="cpu", resume=True)
    open_run(claimed, "fit", config, resume=True, inputs=INPUTS)
    assert configs.load(claimed / "config.json", "fit", FitConfig) == config


@pytest.mark.parametrize("resume", [True, False])
def test_other_settings_are_refused_by_their_name(claimed: Path, resume: bool) -> None:
    with pytest.raises(UserError, match=r"another run \(seed 0 there, 5 here\)"):
        open_run(claimed, "fit", FitConfig(seed=5), resume, inputs=INPUTS)
    other = replace(FitConfig(), data=DataConfig(color_std=0.5))
    with pytest.raises(UserError, match=r"another run \(data color_std 0\.1 there, 0\.5 here\)"):
        open_run(claimed, "fit", other, resume, inputs=INPUTS)


def test_a_judge_may_come_in_later_but_is_not_exchanged(claimed: Path) -> None:
    def go_on(**judges: str) -> str:
        return open_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS, judges=judges)

    assert go_on() == go_on(features="0" * 16)
    with pytest.raises(UserError, match="began with another features"):
        go_on(features="f" * 16)


def test_an_input_that_one_session_does_not_name_stays_known(claimed: Path) -> None:
    open_run(claimed, "fit", FitConfig(), resume=True, inputs={"generator": None})
    with pytest.raises(UserError, match="began with another images"):
        open_run(claimed, "fit", FitConfig(), resume=True, inputs={**INPUTS, "images": "f" * 16})


def test_run_of_an_older_version_goes_on_unless_a_younger_setting_was_changed(claimed: Path) -> None:
    old = json.loads((claimed / "config.json").read_text())
    del old["data"]["look"], old["fit"]["fit_lr"]
    (claimed / "config.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"another run \(data look 'colored' there, 'wildlife' here\)"):
        open_run(claimed, "fit", FitConfig(data=DataConfig(look="wildlife")), resume=True, inputs=INPUTS)
    open_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS)
    assert configs.load(claimed / "config.json", "fit", FitConfig) == FitConfig()


def test_other_inputs_are_refused_and_other_paths_are_not(claimed: Path) -> None:
    with pytest.raises(UserError, match="began with another images"):
        open_run(claimed, "fit", FitConfig(), resume=True, inputs={**INPUTS, "images": "f" * 16})
    encoded = claimed.parent / "latents"
    open_run(encoded, "encode", EncodeConfig(generator=Path("a/fit")), resume=False, inputs=INPUTS)
    open_run(encoded, "encode", EncodeConfig(generator=Path("b/fit")), resume=True, inputs=INPUTS)


def test_the_name_of_a_run_changes_with_its_inputs(tmp_path: Path) -> None:
    first = open_run(tmp_path / "a", "fit", FitConfig(), resume=False, inputs=INPUTS)
    other = open_run(tmp_path / "b", "fit", FitConfig(), resume=False, inputs={**INPUTS, "generator": "f" * 16})
    assert first != other


def test_other_command_is_refused(claimed: Path) -> None:
    with pytest.raises(UserError, match="command 'fit' there, 'train' here"):
        open_run(claimed, "train", FitConfig(), resume=True, inputs=INPUTS)


def test_refused_run_changes_nothing(claimed: Path) -> None:
    before = (claimed / "config.json").read_bytes()
    with pytest.raises(UserError):
        open_run(claimed, "fit", FitConfig(seed=5), resume=True, inputs=INPUTS)
    assert (claimed / "config.json").read_bytes() == before


def test_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty and not a run of advmix"):
        open_run(tmp_path, "fit", FitConfig(), resume=True, inputs=INPUTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a folder"):
        open_run(tmp_path / "file", "fit", FitConfig(), resume=False, inputs=INPUTS)


@pytest.mark.parametrize("content", ["{", "[]", "5"])
def test_config_that_cannot_be_read_is_refused(claimed: Path, content: str) -> None:
    (claimed / "config.json").write_text(content)
    with pytest.raises(UserError, match="run"):
        open_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS)
    assert (claimed / "config.json").read_text() == content


def test_what_an_older_version_did_not_write_down_is_not_held_against_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    open_run(folder, "fit", FitConfig(), resume=False, inputs={"images": "a"})
    open_run(folder, "fit", FitConfig(), resume=True, inputs={"images": "a", "latents": "b"})
    with pytest.raises(UserError, match="another latents"):
        open_run(folder, "fit", FitConfig(), resume=True, inputs={"images": "a", "latents": "c"})
