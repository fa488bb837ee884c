"""SIGKILL at every change on disk of every command, and at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from faults.commands import Job, fresh
from faults.forks import Ended, run, start
from faults.tries import Tree, Tried, difference, left_over, tree

AGAIN = "run again"


def undisturbed(job: Job, work: Path) -> tuple[Ended, Tree]:
    """A run from an empty folder to its end, twice: both leave the same bytes, and nothing that it worked with."""
    trees = []
    for _ in range(2):
        ended = run(job.line, fresh(work / "run"), work / "logs")
        assert ended.code == 0, (job.name, ended.err)
        trees.append(tree(work / "run"))
    assert not difference(*trees), (job.name, difference(*trees))
    assert not left_over(work / "run"), (job.name, left_over(work / "run"))
    return ended, trees[0]


def at_every_change(job: Job, work: Path, every: int = 1) -> Tried:
    """Die before each change, run the same again, compare every byte.

    Args:
        job: the command.
        work: folder to work in.
        every: of so many changes, one.
    """
    ended, expected = undisturbed(job, work)
    tried = Tried("kill at a write", job.name, notes={"changes": len(ended.operations)})
    for place in range(0, len(ended.operations), every):
        killed = run(job.line, fresh(work / "run"), work / "logs", kill_at=place)
        assert killed.code == -signal.SIGKILL, (job.name, place, killed)
        go_on(tried, job, work, expected, f"before {ended.operations[place]} (change {place})")
    return tried


def at_random_moments(job: Job, work: Path, count: int, seed: int) -> Tried:
    """The same at moments that are drawn evenly over the run's time."""
    rng = random.Random(f"{seed} {job.name}")
    _, expected = undisturbed(job, work)
    begun = time.monotonic()
    run(job.line, fresh(work / "run"), work / "logs")
    lasts = time.monotonic() - begun
    tried = Tried("kill at a random moment", job.name)
    for _ in range(count):
        moment = rng.uniform(0, lasts)
        running = start(job.line, fresh(work / "run"), work / "logs")
        time.sleep(moment)
        os.kill(running.pid, signal.SIGKILL)  # it is ours until it is waited for
        tried.note("killed" if running.end().code == -signal.SIGKILL else "had ended")
        go_on(tried, job, work, expected, f"after {moment:.3f} of {lasts:.3f} s")
    return tried


def go_on(tried: Tried, job: Job, work: Path, expected: Tree, words: str) -> None:
    """Run the same once more, undisturbed: every byte is as it should be."""
    tried.count += 1
    again = run(job.line, work / "run", work / "logs")
    if again.code != 0:
        tried.failures.append(f"{words}: {AGAIN}, exit code {again.code}: {again.err[-600:]}")
    elif found := difference(tree(work / "run"), expected):
        tried.failures.append(f"{words}: {found}")


def total(tried: Iterable[Tried]) -> int:
    """How many faults there were."""
    return sum(one.count for one in tried)
