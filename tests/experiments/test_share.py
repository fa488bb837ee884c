"""Work divided over processes: everything once, nothing twice, nothing forgotten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from experiments.jobs import Job, work

WORKER = """
import sys, time
from pathlib import Path
from experiments.jobs import Job, work
folder, me = Path(sys.argv[1]), sys.argv[2]

def job(name, needs=()):
    def do():
        time.sleep(0.05)
        with (folder / name).open("a") as file:
            file.write(me)
    ready = lambda: all((folder / need).is_file() for need in needs)
    return Job(name, folder / f".{name}.lock", ready, (folder / name).is_file, do)

work([job("a"), *(job(f"a{i}", ["a"]) for i in range(4)), job("b"), *(job(f"b{i}", ["b"]) for i in range(4))], 0.01)
"""


def touch(path: Path, log: list[str], needs: tuple[Path, ...] = ()) -> Job:
    def do() -> None:
        log.append(path.name)
        path.touch()

    return Job(path.name, path.with_suffix(".lock"), lambda: all(need.exists() for need in needs), path.exists, do)


def test_jobs_wait_for_what_they_need(tmp_path: Path) -> None:
    log: list[str] = []
    first = touch(tmp_path / "first", log)
    second = touch(tmp_path / "second", log, (tmp_path / "first",))
    work([second, first])
    assert log == ["first", "second"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    log: list[str] = []
    (tmp_path / "old").touch()
    work([touch(tmp_path / "old", log), touch(tmp_path / "new", log)])
    assert log == ["new"]


def test_a_job_that_fails_gives_its_lock_back(tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    job = Job("bad", tmp_path / "bad.lock", lambda: True, lambda: False, fail)
    with pytest.raises(ZeroDivisionError):
        work([job])
    with FileLock(tmp_path / "bad.lock", timeout=0):
        pass


def test_processes_share_the_work(tmp_path: Path) -> None:
    """Every job exactly once, by one of three processes."""
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), name]) for name in "xyz"]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    done = {path.name: path.read_text() for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert set(done) == {"a", "b", *(f"{letter}{index}" for letter in "ab" for index in range(4))}
    assert all(len(by) == 1 for by in done.values())
