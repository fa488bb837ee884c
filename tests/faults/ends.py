"""Signals, two processes in one folder, a folder that is removed, a full disk, little memory, odd terminals."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from advmix.utils.progress import console
from faults.commands import Job, fresh
from faults.forks import Ended, run, start
from faults.kills import go_on, undisturbed
from faults.tries import Tree, Tried, difference, tree

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STARTED = 0.03
"""Seconds in which a fork has begun its command."""
ENCODINGS = ("cp1252", "ascii")
NARROW = 20


def interrupted(job: Job, work: Path, count: int, seed: int) -> Tried:
    """A signal at a random moment: its exit code and one line; then the same run goes on to the same result."""
    rng = random.Random(f"{seed} {job.name} signal")
    _, expected = undisturbed(job, work)
    lasts, tried = _lasts(job, work), Tried("signal", job.name)
    for turn in range(count):
        number = SIGNALS[turn % len(SIGNALS)]
        running = start(job.line, fresh(work / "run"), work / "logs")
        time.sleep(rng.uniform(STARTED, max(lasts, 2 * STARTED)))
        os.kill(running.pid, number)
        ended = running.end()
        words = f"{number.name}: exit code {ended.code}: {ended.err[-600:]}"
        if ended.code == 128 + number and ended.err.startswith("advmix: interrupted") and ended.err.count("\n") == 1:
            tried.note(number.name)
        elif ended.code in (0, -number):
            tried.note("came too late" if ended.code == 0 else "came too early")
        else:
            tried.failures.append(words)
        go_on(tried, job, work, expected, words)
    return tried


def hung_up(job: Job, work: Path) -> Tried:
    """SIGHUP under `nohup` changes nothing."""
    _, expected = undisturbed(job, work)
    tried = Tried("SIGHUP under nohup", job.name)
    running = start(
        job.line,
        fresh(work / "run"),
        work / "logs",
        before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    time.sleep(STARTED)
    os.kill(running.pid, signal.SIGHUP)
    _compare(tried, running.end(), work, expected, "nohup")
    return tried


def two_starts(job: Job, work: Path, count: int) -> Tried:
    """Two processes at the same moment in one folder: one comes in, the other is refused in one line."""
    _, expected = undisturbed(job, work)
    tried = Tried("two starts at once", job.name)
    line = [word for word in job.line if word != "--resume"]
    config_free = {name: digest for name, digest in expected.items() if name != "out/config.json"}
    for _ in range(count):
        here = fresh(work / "run")
        ended = [one.end() for one in [start(line, here, work / f"logs{number}") for number in range(2)]]
        tried.count += 1
        codes = sorted(one.code for one in ended)
        refused = [one for one in ended if one.is_refusal and re.search("in use by process|holds this run", one.err)]
        found = {name: digest for name, digest in tree(here).items() if name != "out/config.json"}
        if codes != [0, 2] or len(refused) != 1 or difference(found, config_free):
            said = [one.err[-300:] for one in ended]
            tried.failures.append(f"exit codes {codes}: {said} {difference(found, config_free)}")
    return tried


def resumed_beside(job: Job, work: Path, count: int) -> Tried:
    """`--resume` while the first process is still at it is refused, and the first one does not notice."""
    _, expected = undisturbed(job, work)
    tried = Tried("--resume beside the first", job.name)
    for _ in range(count):
        here = fresh(work / "run")
        first = start(job.line, here, work / "logs")
        _wait_for(here / "out" / "config.json")
        second = start(job.line, here, work / "logs2").end()
        words = f"exit code {second.code}: {second.err[-300:]}"
        if not second.is_refusal or "in use by process" not in second.err:
            tried.failures.append(words)
        _compare(tried, first.end(), work, expected, words)
    return tried


def removed(job: Job, work: Path, count: int, seed: int) -> Tried:
    """The folder goes away while a command runs: an error, and it is not made again."""
    rng = random.Random(f"{seed} {job.name} removed")
    _, whole = undisturbed(job, work)
    expected = {name.removeprefix("out/"): digest for name, digest in whole.items() if name != "out"}
    lasts, tried = _lasts(job, work), Tried("folder removed", job.name)
    for _ in range(count):
        here = fresh(work / "run")
        running = start(job.line, here, work / "logs")
        _wait_for(here / "out" / "config.json")
        time.sleep(rng.uniform(0, lasts))
        shutil.rmtree(work / "gone", ignore_errors=True)
        (here / "out").rename(work / "gone")
        ended = running.end()
        tried.count += 1
        if (here / "out").exists() or not (ended.code == 0 or ended.is_refusal):
            tried.failures.append(f"exit code {ended.code}, {tree(here)}: {ended.err[-600:]}")
        elif ended.code == 0 and (found := difference(_but_lock(work / "gone"), expected)):
            tried.failures.append(f"exit code 0, though it had not ended: {found}")
        else:
            tried.note("came too late" if ended.code == 0 else "refused")
    return tried


def _but_lock(folder: Path) -> Tree:
    """In the very last moment a run no longer minds where its folder is."""
    return {name: digest for name, digest in tree(folder).items() if name != ".lock"}


def full_disk(job: Job, work: Path, every: int = 1) -> Tried:
    """No space left from one change on: one line; with space again, the same run goes on to the same result."""
    ended, expected = undisturbed(job, work)
    tried = Tried("full disk", job.name)
    for place in range(0, len(ended.operations), every):
        if ended.operations[place].startswith(("os.remove", "os.rmdir", "os.truncate")):
            continue
        full = run(job.line, fresh(work / "run"), work / "logs", full_at=place)
        words = f"from {ended.operations[place]} (change {place}) on: exit code {full.code}: {full.err[-600:]}"
        if full.code == 0 and "phases.json" not in words:
            tried.note("nothing was written any more")
        elif not full.is_refusal:
            tried.failures.append(words)
        go_on(tried, job, work, expected, words)
    return tried


def large_files(job: Job, work: Path) -> Tried:
    """A limit on the size of files, which the system itself enforces in the middle of a write."""
    _, expected = undisturbed(job, work)
    tried = Tried("file size limit", job.name)
    for size in (2_000, 8_000, 32_000, 128_000):

        def limit(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        limited = run(job.line, fresh(work / "run"), work / "logs", before=limit)
        if limited.code != 0 and not limited.is_refusal:
            tried.failures.append(f"{size} bytes: exit code {limited.code}: {limited.err[-600:]}")
        go_on(tried, job, work, expected, f"{size} bytes")
    return tried


def little_memory(job: Job, work: Path) -> Tried:
    """A limit on memory: one line, and the run goes on where there is enough."""
    _, expected = undisturbed(job, work)
    tried = Tried("memory limit", job.name)
    for more in (1, 4, 16, 64):

        def limit(more: int = more) -> None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size = pages * resource.getpagesize() + more * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (size, size))

        limited = run(job.line, fresh(work / "run"), work / "logs", before=limit)
        if limited.code != 0 and not limited.is_refusal:
            tried.failures.append(f"{more} MiB: exit code {limited.code}: {limited.err[-900:]}")
        tried.note("enough" if limited.code == 0 else "refused")
        go_on(tried, job, work, expected, f"{more} MiB")
    return tried


def terminals(job: Job, work: Path) -> Tried:
    """Old encodings, a narrow terminal, an output that takes nothing: the result is the same, no number is missing."""
    whole, expected = undisturbed(job, work)
    tried = Tried("terminal", job.name)
    for encoding in ENCODINGS:
        ended = run(job.line, fresh(work / "run"), work / "logs", encoding=encoding)
        _compare(tried, ended, work, expected, encoding)
    narrow = run(job.line, fresh(work / "run"), work / "logs", before=_narrow)
    _compare(tried, narrow, work, expected, f"{NARROW} columns")
    if missing := _numbers(whole) - _numbers(narrow):
        tried.failures.append(f"{NARROW} columns: no {' '.join(missing)} in {narrow.out[-900:]}")
    ended = run(job.line, fresh(work / "run"), work / "logs", before=_full_output)
    tried.count += 1
    if not ended.is_refusal and ended.code != 0:
        tried.failures.append(f"/dev/full: exit code {ended.code}: {ended.err[-600:]}")
    go_on(tried, job, work, expected, "/dev/full")
    return tried


def _numbers(ended: Ended) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", ended.out))


def _narrow() -> None:
    console.width = NARROW


def _full_output() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _lasts(job: Job, work: Path) -> float:
    """Seconds of an undisturbed run."""
    begun = time.monotonic()
    run(job.line, fresh(work / "run"), work / "logs")
    return time.monotonic() - begun


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.001)


def _compare(tried: Tried, ended: Ended, work: Path, expected: Tree, words: str) -> None:
    tried.count += 1
    if ended.code != 0:
        tried.failures.append(f"{words}: exit code {ended.code}: {ended.err[-600:]}")
    elif found := difference(tree(work / "run"), expected):
        tried.failures.append(f"{words}: {found}")
