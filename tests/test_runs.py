from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from advmix.commands.cache import CacheConfig
from advmix.commands.fit import FitConfig
from advmix.data.settings import DataConfig
from advmix.report.page import save_figures
from advmix.training.encoding import EncodeConfig
from advmix.utils import config as configs
from advmix.utils.errors import UserError
from advmix.utils.files import TEMPORARY, make_folder, write_json
from advmix.utils.runs import claim_run, open_run
from forked import SERVER, start

INPUTS: dict[str, str | None] = {"images": "0123456789abcdef", "generator": None}


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    claim_run(tmp_path / "run", "fit", FitConfig(), resume=False, inputs=INPUTS)
    return tmp_path / "run"


def test_new_folder_is_claimed(claimed: Path) -> None:
    assert configs.load(claimed / "config.json", "fit", FitConfig) == FitConfig()


def test_empty_folder_is_claimed(tmp_path: Path) -> None:
    claim_run(tmp_path, "fit", FitConfig(), resume=False, inputs=INPUTS)
    assert (tmp_path / "config.json").is_file()


def test_same_run_needs_resume(claimed: Path) -> None:
    with pytest.raises(UserError, match="holds this run already; go on with --resume"):
        claim_run(claimed, "fit", FitConfig(), resume=False, inputs=INPUTS)
    claim_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS)


def test_run_may_go_on_elsewhere_and_on_another_device(claimed: Path) -> None:
    config = FitConfig(out=Path("moved"), device="cpu", resume=True)
    claim_run(claimed, "fit", config, resume=True, inputs=INPUTS)
    assert configs.load(claimed / "config.json", "fit", FitConfig) == config


@pytest.mark.parametrize("resume", [True, False])
def test_other_settings_are_refused_by_their_name(claimed: Path, resume: bool) -> None:
    with pytest.raises(UserError, match=r"another run \(seed 0 there, 5 here\)"):
        claim_run(claimed, "fit", FitConfig(seed=5), resume, inputs=INPUTS)
    other = replace(FitConfig(), data=DataConfig(color_std=0.5))
    with pytest.raises(UserError, match=r"another run \(data color_std 0\.1 there, 0\.5 here\)"):
        claim_run(claimed, "fit", other, resume, inputs=INPUTS)


def test_a_judge_may_come_in_later_but_is_not_exchanged(claimed: Path) -> None:
    def go_on(**judges: str) -> str:
        return claim_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS, judges=judges)

    assert go_on() == go_on(features="0" * 16)
    with pytest.raises(UserError, match="began with another features"):
        go_on(features="f" * 16)


def test_an_input_that_one_session_does_not_name_stays_known(claimed: Path) -> None:
    claim_run(claimed, "fit", FitConfig(), resume=True, inputs={"generator": None})
    with pytest.raises(UserError, match="began with another images"):
        claim_run(claimed, "fit", FitConfig(), resume=True, inputs={**INPUTS, "images": "f" * 16})


def test_other_inputs_are_refused_and_other_paths_are_not(claimed: Path) -> None:
    with pytest.raises(UserError, match="began with another images"):
        claim_run(claimed, "fit", FitConfig(), resume=True, inputs={**INPUTS, "images": "f" * 16})
    encoded = claimed.parent / "latents"
    claim_run(encoded, "encode", EncodeConfig(generator=Path("a/fit")), resume=False, inputs=INPUTS)
    claim_run(encoded, "encode", EncodeConfig(generator=Path("b/fit")), resume=True, inputs=INPUTS)


def test_the_name_of_a_run_changes_with_its_inputs(tmp_path: Path) -> None:
    first = claim_run(tmp_path / "a", "fit", FitConfig(), resume=False, inputs=INPUTS)
    other = claim_run(tmp_path / "b", "fit", FitConfig(), resume=False, inputs={**INPUTS, "generator": "f" * 16})
    assert first != other


def test_other_command_is_refused(claimed: Path) -> None:
    with pytest.raises(UserError, match="command 'fit' there, 'train' here"):
        claim_run(claimed, "train", FitConfig(), resume=True, inputs=INPUTS)
    with pytest.raises(UserError, match="command 'fit' there, 'cache' here"):  # whatever else differs
        claim_run(claimed, "cache", CacheConfig(), resume=True, inputs=INPUTS)


def test_refused_run_changes_nothing(claimed: Path) -> None:
    before = (claimed / "config.json").read_bytes()
    with pytest.raises(UserError):
        claim_run(claimed, "fit", FitConfig(seed=5), resume=True, inputs=INPUTS)
    assert (claimed / "config.json").read_bytes() == before


def test_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty and not a run of advmix"):
        claim_run(tmp_path, "fit", FitConfig(), resume=True, inputs=INPUTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a folder"):
        claim_run(tmp_path / "file", "fit", FitConfig(), resume=False, inputs=INPUTS)


@pytest.mark.parametrize("content", ["{", "[]", "5"])
def test_config_that_cannot_be_read_is_refused(claimed: Path, content: str) -> None:
    (claimed / "config.json").write_text(content)
    with pytest.raises(UserError, match="run"):
        claim_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS)
    assert (claimed / "config.json").read_text() == content


def test_an_input_that_the_first_session_did_not_name_may_come_in(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim_run(folder, "fit", FitConfig(), resume=False, inputs={"images": "a"})
    claim_run(folder, "fit", FitConfig(), resume=True, inputs={"images": "a", "latents": "b"})
    with pytest.raises(UserError, match="another latents"):
        claim_run(folder, "fit", FitConfig(), resume=True, inputs={"images": "a", "latents": "c"})


def opened(out: Path, resume: bool = True) -> AbstractContextManager[str]:
    return open_run(out, "fit", FitConfig(), resume, INPUTS)


def test_what_a_killed_process_left_before_it_claimed_is_no_obstacle_and_goes(tmp_path: Path) -> None:
    for name in (".lock", f".0123456789abcdef{TEMPORARY}"):
        (tmp_path / name).write_text("99999999")
    with opened(tmp_path, resume=False):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "config.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_that_ends_takes_away_what_it_worked_with_and_leaves_other_runs_alone(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    with opened(tmp_path):
        claim_run(inner, "fit", FitConfig(), resume=True, inputs=INPUTS)
        make_folder(tmp_path / ".chunks")
        make_folder(tmp_path / "gan")
        for path in (tmp_path, inner, tmp_path / "gan", tmp_path / ".chunks"):
            (path / "checkpoint.pt").write_text("")
        (inner / "result").write_text("")
        with opened(tmp_path):
            pass
        assert (tmp_path / ".chunks").is_dir()
        raise_in(inner)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "config.json",
        "inner/checkpoint.pt",
        "inner/config.json",
        "inner/result",
    ]


def raise_in(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(folder):
        raise KeyboardInterrupt
    assert (folder / "checkpoint.pt").is_file()


def hold(folder: Path, held: Event) -> None:
    with opened(folder):
        held.set()
        time.sleep(600)


def test_two_processes_do_not_write_into_one_folder_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    held = SERVER.Event()
    other = start(hold, tmp_path / "run", held)
    assert held.wait(60)
    with pytest.raises(UserError, match=f"in use by process {other.pid}"), opened(tmp_path / "run"):
        pass
    other.kill()
    other.join()
    with opened(tmp_path / "run"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "n" * 300, "/".join(["n" * 200] * 6), "a\x1b[2Jb"])
def test_a_path_that_is_none_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^--out .*; choose") as refusal, opened(tmp_path / name):
        pass
    assert str(refusal.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_inputs_is_not_taken_for_a_run(claimed: Path) -> None:
    write_json(claimed / "config.json", {"command": "fit", **configs.to_dict(FitConfig())})
    with pytest.raises(UserError, match="not the config of a run"):
        claim_run(claimed, "fit", FitConfig(), resume=True, inputs=INPUTS)


@pytest.mark.parametrize("name", ["chunks", "gan", "reference", "shard-1.safetensors", "phases.json", "checkpoint.pt"])
def test_a_class_may_be_called_as_what_a_run_works_with(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / "run"):
        make_folder(tmp_path / "run" / name)
        (tmp_path / "run" / name / "1.png").write_text("a variation")
    assert (tmp_path / "run" / name / "1.png").read_text() == "a variation"


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_is_refused_before_it_wrote_anything_leaves_nothing(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "run"
    if there:
        out.mkdir()
    with pytest.raises(UserError, match="no such layer"):
        fail_in(out, "no such layer")
    assert out.exists() == there
    assert not there or list(out.iterdir()) == []


def fail_in(folder: Path, words: str) -> None:
    with opened(folder):
        raise UserError(words)


def test_a_run_that_fails_later_keeps_what_it_has(tmp_path: Path, claimed: Path) -> None:
    with pytest.raises(UserError, match="full"):
        fail_in(claimed, "full")
    assert (claimed / "config.json").is_file()
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="full"):
        write_and_fail(tmp_path / "other")
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["checkpoint.pt", "config.json"]


def write_and_fail(folder: Path) -> None:
    with opened(folder):
        (folder / "checkpoint.pt").write_text("an hour's work")
        raise UserError("full")


def test_a_folder_that_goes_away_while_it_is_tidied_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patterns() -> Iterator[str]:
        (tmp_path / "run").rename(tmp_path / "gone")
        yield "phases.json"

    def run() -> None:
        with opened(tmp_path / "run"):
            (tmp_path / "run" / "phases.json").write_text("{}")
            monkeypatch.setattr("advmix.utils.runs.WORKING", patterns())

    with pytest.raises(UserError, match="removed or exchanged while the run went on"):
        run()
    assert (tmp_path / "gone" / "phases.json").is_file()


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_is_removed_meanwhile_is_an_error_and_its_next_owner_keeps_it(
    tmp_path: Path, again: bool
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="removed or exchanged while the run went on"):
        lose(out, again)
    assert out.exists() == again
    assert not again or [path.name for path in out.iterdir()] == [".lock"]


def a_stage_of_it(out: Path) -> None:
    with opened(out / "stage"):
        pass


@pytest.mark.parametrize("write", [a_stage_of_it, lambda out: save_figures({"samples": Figure()}, out)])
def test_a_folder_that_was_removed_is_not_made_again(tmp_path: Path, write: Callable[[Path], None]) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="the folder is not there"):
        lose_and_write(out, write)
    assert not out.exists()


def lose_and_write(out: Path, write: Callable[[Path], None]) -> None:
    with opened(out):
        shutil.rmtree(out)
        write(out)


def lose(out: Path, again: bool) -> None:
    with opened(out):
        shutil.rmtree(out)
        if again:
            out.mkdir()
            (out / ".lock").write_text("1")
