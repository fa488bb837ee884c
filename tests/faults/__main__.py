"""`python -m faults`: try everything, or a part of it, and say what became of it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from advmix.export import run as export
from advmix.utils.device import environment
from faults import commands, ends, flips, kills, processes
from faults.commands import Job
from faults.forks import preload
from faults.tries import Tried

LONG = "encode refine", "train", "audit", "fit", "fit gan", "fit invert", "inspect", "demo", "evaluate", "predict mixed"
FULL = ("encode", "predict", "export", "audit", "data", "train", "sample")
REMOVED = ("fit", "encode", "audit", "export", "sample", "predict", "demo")
QUICK = {
    "kills": ("encode",),
    "flips": ("encode", "train"),
    "signals": ("train",),
    "starts": ("encode",),
    "removed": ("encode",),
    "terminals": ("data",),
}
"""What the tests try."""
Try = Callable[[], Tried]


def everything(options: argparse.Namespace, inputs: Path, work: Path) -> Iterator[tuple[str, str, Try]]:
    """What can be tried: its part, the command's name, and how."""
    known, seed = commands.jobs(inputs), options.seed
    training = [job for job in known.values() if job.trains]
    for job in known.values():
        yield "kills", job.name, partial(kills.at_every_change, job, work, options.every)
    for job in training:
        count = -(-options.moments // len(training))
        yield "moments", job.name, partial(kills.at_random_moments, job, work, count, seed)
    for target in flips.TARGETS:
        yield (
            "flips",
            target.job,
            partial(flips.in_one_file, target, known, work, inputs, options.flips, seed),
        )
    yield from _ends(options, known, work)
    yield from _processes(options, known, work)


def _ends(options: argparse.Namespace, known: dict[str, Job], work: Path) -> Iterator[tuple[str, str, Try]]:
    seed = options.seed
    for name in LONG:
        yield "signals", name, partial(ends.interrupted, known[name], work, 6, seed)
        yield "signals", name, partial(ends.hung_up, known[name], work)
        yield "memory", name, partial(ends.little_memory, known[name], work)
    yield "starts", "encode", partial(ends.two_starts, known["encode"], work, options.starts)
    for name in ("fit", "audit"):
        yield "starts", name, partial(ends.resumed_beside, known[name], work, 5)
    for name in REMOVED:
        yield "removed", name, partial(ends.removed, known[name], work, 8, seed)
    for name in FULL:
        yield "disk", name, partial(ends.full_disk, known[name], work, options.every)
        yield "disk", name, partial(ends.large_files, known[name], work)
    for job in known.values():
        yield "terminals", job.name, partial(ends.terminals, job, work)


def _processes(options: argparse.Namespace, known: dict[str, Job], work: Path) -> Iterator[tuple[str, str, Try]]:
    yield "imports", "fit", partial(processes.interrupted_imports, work, options.imports, options.seed)
    slow = {
        "audit": (["--images", "20", "--restarts", "40", "--steps", "10"], "found.safetensors"),
        "fit gan": (["--gan-steps", "30"], "generator.safetensors"),
        "train": (["--epochs", "12"], "classifier.safetensors"),
    }
    for name, (flags, result) in slow.items():
        job = replace(known[name], words=_with(known[name].words, flags))
        yield "ranks", name, partial(processes.rank_dies, job, work, 4, options.seed, result)


def _with(words: Sequence[str], flags: Sequence[str]) -> tuple[str, ...]:
    """The words with other values of some flags."""
    changed = list(words)
    for flag, value in zip(flags[::2], flags[1::2], strict=True):
        changed[changed.index(flag) + 1] = value
    return tuple(changed)


def table(tried: Sequence[Tried]) -> str:
    """As Markdown, a row for each kind of fault."""
    lines = ["| fault | places | tries | went wrong |", "| --- | ---: | ---: | ---: |"]
    for kind in dict.fromkeys(one.kind for one in tried):
        those = [one for one in tried if one.kind == kind]
        failed = sum(len(one.failures) for one in those)
        lines.append(f"| {kind} | {len(those)} | {kills.total(those):,} | {failed} |")
    return "\n".join(lines)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m faults", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="parts: kills moments flips signals memory starts ...")
    parser.add_argument("--commands", nargs="+", default=[], help="commands, 'fit gan' for example")
    parser.add_argument("--quick", action="store_true", help="what the tests try")
    parser.add_argument("--every", type=int, default=1, help="of so many writes, one is tried")
    parser.add_argument("--moments", type=int, default=100, help="random moments, over all commands")
    parser.add_argument("--flips", type=int, default=6, help="flipped bits in each file")
    parser.add_argument("--starts", type=int, default=50, help="pairs of processes that start at once")
    parser.add_argument("--imports", type=int, default=10, help="interruptions in the first seconds")
    parser.add_argument("--seed", type=int, default=0, help="of moments and bits")
    parser.add_argument("--inputs", nargs="+", default=commands.PARTS, help="parts of the inputs that are made")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Try it; 1 where something went wrong."""
    os.environ.setdefault("ADVMIX_CACHE", "none")  # nothing is written into anybody's home
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell ignores it for what runs in the background
    options, begun, tried = parse(words), time.time(), list[Tried]()
    preload()
    export.WRITTEN_TOGETHER = 2  # several parts of a few images
    with tempfile.TemporaryDirectory(prefix="faults", dir=_memory()) as folder:
        inputs, work = Path(folder) / "inputs", Path(folder) / "work"
        commands.make_inputs(inputs, tuple(options.inputs))
        for part, name, attempt in everything(options, inputs, work):
            if _is_wanted(options, part, name):
                tried.append(attempt())
                _say(tried[-1])
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(_record(words, tried, time.time() - begun), indent=1) + "\n")
    print(table(tried))
    return int(any(one.failures for one in tried))


def _is_wanted(options: argparse.Namespace, part: str, name: str) -> bool:
    if options.quick:
        return name in QUICK.get(part, ())
    return (not options.only or part in options.only) and (not options.commands or name in options.commands)


def _memory() -> str | None:
    """Where files cost least."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _say(one: Tried) -> None:
    notes = ", ".join(f"{name} {count}" for name, count in one.notes.items())
    print(f"{one.kind}: {one.place}: {one.count} tries ({notes}), {len(one.failures)} went wrong", flush=True)
    for words in one.failures:
        print("   ", words.replace("\n", " | "), flush=True)


def _record(words: Sequence[str], tried: Sequence[Tried], seconds: float) -> dict[str, Any]:
    return {
        "command": shlex.join(["python", "-m", "faults", *words]),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "environment": environment(),
        "tried": [one.to_dict() for one in tried],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
