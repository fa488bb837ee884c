"""What only real processes show: Ctrl-C during imports, closed outputs, one of two ranks that dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

import advmix
from faults.commands import Job, fresh
from faults.tries import Tried

RANKS_END = 30.0
"""Seconds after which all ranks have ended when one is gone."""


def start(words: Sequence[object], folder: Path) -> subprocess.Popen[str]:
    """`python -m advmix WORDS` in a folder, with both outputs kept."""
    source = str(Path(advmix.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "advmix", *map(str, words)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted_imports(work: Path, count: int, seed: int) -> Tried:
    """Ctrl-C at a random moment of the first seconds: never a traceback."""
    rng = random.Random(f"{seed} imports")
    tried = Tried("Ctrl-C in the first seconds", "fit")
    for _ in range(count):
        moment = rng.uniform(0.15, 4)
        process = start(["fit", "--train-images", "40", "--out", "out", "--device", "cpu"], fresh(work / "run"))
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        tried.count += 1
        if process.returncode != 130 or err.count("\n") != 1:
            tried.failures.append(f"after {moment:.2f} s: exit code {process.returncode}: {err[-900:]}")
    return tried


def rank_dies(job: Job, work: Path, count: int, seed: int, result: str) -> Tried:
    """SIGKILL to one of two ranks: the other ends in one line, and the run goes on to the same tensors.

    Args:
        job: of `--devices 2`.
        work: folder to work in.
        count: how often; the first and the second rank take turns.
        seed: of the moments.
        result: file whose tensors are compared.
    """
    rng, line = random.Random(f"{seed} ranks"), [*job.line, "--devices", "2"]
    begun = time.monotonic()
    whole = start(line, fresh(work / "run"))
    _, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    expected, lasts = load_file(work / "run" / "out" / result), time.monotonic() - begun
    tried = Tried("a rank dies", job.name)
    for turn in range(count):
        here = fresh(work / "run")
        process = start(line, here)
        _wait_for_claim(here, process)
        time.sleep(rng.uniform(0, lasts / 3))
        ranks = [process.pid, *_children(process.pid)]
        victim = ranks[turn % 2] if len(ranks) > 1 else process.pid
        os.kill(victim, signal.SIGKILL)
        words = f"rank {turn % 2}"
        late = _end_all(process, ranks, victim)
        _, err = process.communicate(timeout=60)
        if late:
            tried.failures.append(f"{words}: still there after {RANKS_END:.0f} s")
        if "Traceback" in err or (not err.startswith("advmix: ") and process.returncode not in (0, -signal.SIGKILL)):
            tried.failures.append(f"{words}: exit code {process.returncode}: {err[-1500:]}")
        tried.note(f"{words}, exit code {process.returncode}")
        again = start(line, here)
        _, err = again.communicate(timeout=300)
        tried.count += 1
        if again.returncode != 0:
            tried.failures.append(f"{words}, again: exit code {again.returncode}: {err[-900:]}")
            continue
        found = load_file(here / "out" / result)
        if any(not found[name].equal(tensor) for name, tensor in expected.items()):
            tried.failures.append(f"{words}: other tensors in {result}")
    return tried


def _wait_for_claim(here: Path, process: subprocess.Popen[str]) -> None:
    while not (here / "out" / "config.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _end_all(process: subprocess.Popen[str], ranks: list[int], victim: int) -> bool:
    """Wait for all ranks; whether some had to be killed."""
    until, late = time.monotonic() + RANKS_END, False
    for pid in ranks:
        while pid != victim and _is_alive(pid, process):
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                late = True
            time.sleep(0.05)
    return late


def _is_alive(pid: int, process: subprocess.Popen[str]) -> bool:
    process.poll()  # so that it is no zombie
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
