"""Work divided over processes: each takes the next job that nobody else is doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from advmix.engine import give_back_memory
from advmix.progress import console


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
