"""Work divided over processes: each takes the next job that nobody else is doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from advmix.report.tables import RESULTS, Run, color_spread
from advmix.utils.config import to_dict
from advmix.utils.device import give_back_memory
from advmix.utils.errors import UserError
from advmix.utils.files import read_json
from advmix.utils.progress import console
from advmix.utils.runs import RESUMABLE_FIELDS, first_difference


@dataclass(frozen=True)
class Job:
    """Something to do once.

    Args:
        title: what a person sees.
        lock: a file; who holds its lock does the job. The lock ends with the process, however it ends.
        is_ready: whether it can begin.
        is_done: whether it has been done, by anybody.
        do: do it, or go on with it where it was stopped.
    """

    title: str
    lock: Path
    is_ready: Callable[[], bool]
    is_done: Callable[[], bool]
    do: Callable[[], object]


def work(jobs: Sequence[Job], wait_seconds: float = 2.0) -> None:
    """Do every job that is not done and not being done elsewhere; return when all are done.

    The same call may run in any number of processes, on any machines that share the folders.
    """
    pending = [job for job in jobs if not job.is_done()]
    waiting = False
    while pending:
        taken = next((job for job in pending if job.is_ready() and _attempt(job, jobs)), None)
        pending = [job for job in pending if not job.is_done()]
        if taken is not None:
            waiting = False
        elif pending:
            if not waiting:
                console.print(f"  waiting for other processes: {len(pending)} to go, next {pending[0].title}")
            waiting = True
            time.sleep(wait_seconds)


def _attempt(job: Job, jobs: Sequence[Job]) -> bool:
    """Do the job unless somebody else is doing it; whether anything was done."""
    job.lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.lock, timeout=0):
            if job.is_done():
                return False
            console.print(f"[bold]{jobs.index(job) + 1} of {len(jobs)}[/] {job.title}")
            job.do()
            give_back_memory()
            return True
    except Timeout:
        return False


MAY_DIFFER = ("color_std", "color_variance", "methods", "seeds", "data_dir", *RESUMABLE_FIELDS)

"""Settings of a study that say which runs it consists of, or how it is done: not what a run is."""


@dataclass(frozen=True)
class Finished:
    """Runs of one `results.json`.

    Attributes:
        results: all that the file holds.
    """

    results: dict[str, Any]

    def of(self, spread: float, seed: int) -> list[Run]:
        """The runs of a cell."""
        return [run for run in self.results["runs"] if (color_spread(run), run["seed"]) == (spread, seed)]

    def find(self, spread: float, seed: int, method: str) -> Run | None:
        """A run, or None."""
        return next((run for run in self.of(spread, seed) if run["method"] == method), None)

    def generator(self, run: Run) -> dict[str, Any]:
        """What the file says about the generator behind a run."""
        found: dict[str, Any] = next(
            generator for generator in self.results["generators"] if generator["fingerprint"] == run["generator"]
        )
        return found

    def environment(self, run: Run) -> dict[str, Any]:
        """Where a run was made."""
        found: dict[str, Any] = self.results["environments"][run["environment"]]
        return found


def read_finished(paths: Sequence[Path], command: str, config: Any) -> list[Finished]:
    """Files, or folders with a `results.json`, of a study with the settings of `config`.

    Raises:
        UserError: another study, or a setting that differs, by name.
    """
    return [Finished(_read(path / RESULTS if path.is_dir() else path, command, config)) for path in paths]


def _read(path: Path, command: str, config: Any) -> dict[str, Any]:
    results: dict[str, Any] = read_json(path)
    given = results.get("config", {}) if isinstance(results, dict) else {}
    if given.get("command") != command:
        raise UserError(
            f"--finished {path}: not the {RESULTS} of python -m experiments {command.removeprefix('study ')}"
        )
    wanted = to_dict(config)
    for key in wanted:
        if key not in MAY_DIFFER and given.get(key) != wanted[key]:
            words = f"{key} {first_difference(given.get(key), wanted[key])}"
            raise UserError(f"--finished {path}: made with other settings ({words}); give the same")
    return results
