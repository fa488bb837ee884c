"""A bit flipped in every kind of file that is read back: refused in one line that names the file, or no difference."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advmix.utils.files import read_json
from faults.commands import Job, fresh
from faults.forks import Ended, run
from faults.tries import Tree, Tried, difference, tree


@dataclass(frozen=True)
class Target:
    """A file that a command reads.

    Attributes:
        file: `out/...` is the command's own, `inputs/...` what it reads.
        job: that reads it.
        half: whether the job was killed half way, and reads the file to go on.
        done: whether it was finished; otherwise it has not begun.
    """

    file: str
    job: str
    half: bool = False
    done: bool = False


SECONDS = ("seconds.json", "phases.json")
"""Files of which nothing but seconds comes: where they are damaged, these are unknown."""
TARGETS = (
    Target("inputs/fit/generator.safetensors", "train"),
    Target("inputs/fit/generator.safetensors", "encode"),
    Target("inputs/gan/generator.safetensors", "sample"),
    Target("inputs/gan/discriminator.safetensors", "encode features"),
    Target("inputs/latents/latents-00001.safetensors", "train"),
    Target("inputs/latents/latents-00001.safetensors", "audit"),
    Target("inputs/latents/store.json", "train"),
    Target("inputs/latents/store.json", "doctor"),
    Target("inputs/refined/config.json", "predict refined"),
    Target("inputs/latents/config.json", "doctor"),
    Target("inputs/nominal/classifier.safetensors", "predict"),
    Target("inputs/nominal/classifier.safetensors", "audit"),
    Target("inputs/nominal/seconds.json", "evaluate"),
    Target("inputs/fit/seconds.json", "evaluate"),
    Target("inputs/alone/reference/reference.safetensors", "doctor alone"),
    Target("inputs/alone/config.json", "doctor alone"),
    Target("inputs/audit/found.safetensors", "export audit"),
    Target("out/config.json", "train", half=True),
    Target("out/config.json", "audit", done=True),
    Target("out/checkpoint.pt", "train", half=True),
    Target("out/checkpoint.pt", "fit", half=True),
    Target("out/gan/checkpoint.pt", "fit gan", half=True),
    Target("out/phases.json", "predict", half=True),
    Target("out/shard-00001.safetensors", "predict", half=True),
    Target("out/latents-00001.safetensors", "encode", half=True),
    Target("out/latents-00001.safetensors", "encode", done=True),
    Target("out/store.json", "encode", half=True),
    Target("out/.chunks/00000000.safetensors", "audit", half=True),
    Target("out/.variations-00000.json", "export", half=True),
    Target("out/variations.csv", "export", done=True),
    Target("out/variations.sha256", "export", done=True),
    Target("out/results.json", "predict", done=True),
    Target("out/results.json", "audit", done=True),
    Target("out/results.json", "evaluate", done=True),
    Target("out/results.json", "inspect", done=True),
    Target("out/advmix/evaluation/gallery.safetensors", "demo", done=True),
    Target("out/fit/log.jsonl", "demo", done=True),
    Target("out/latents/seconds.json", "demo", done=True),
    Target("out/nominal/evaluation/results.json", "demo", done=True),
    Target("out/generator/generator.safetensors", "audit alone", half=True),
    Target("out/reference/reference.safetensors", "audit alone", half=True),
)


def flip(path: Path, rng: random.Random) -> str:
    """One bit of a file; returns which."""
    data = bytearray(path.read_bytes())
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"byte {place} of {len(data)}, bit {bit}"


def in_one_file(target: Target, known: dict[str, Job], work: Path, inputs: Path, count: int, seed: int) -> Tried:
    """Flip random bits in a file, one at a time, and let the command read it.

    Args:
        target: which file, and who reads it.
        known: the commands.
        work: folder to work in.
        inputs: what they read; as it was, afterwards.
        count: how many bits.
        seed: of the bits.
    """
    rng, job, here = random.Random(f"{seed} {target}"), known[target.job], fresh(work / "run")
    expected, whole_results = _prepare(target, job, work)
    path = (inputs.parent if target.file.startswith("inputs") else here) / target.file
    tried = Tried("flipped bit", f"{target.file} ({target.job}{', half' * target.half}{', done' * target.done})")
    for _ in range(count):
        shutil.rmtree(here)
        shutil.copytree(work / "before", here)
        whole = path.read_bytes()
        words = flip(path, rng)
        ended = run(job.line, here, work / "logs")
        if target.file.startswith("inputs"):
            path.write_bytes(whole)
        found = difference(tree(here), expected) if ended.code == 0 else ""
        if found == f"other bytes: {target.file}" and path.name in SECONDS:
            found = ""  # it stays as it is
        if found == "other bytes: out/results.json" and path.name in SECONDS:
            found = _beside_seconds(here / "out" / "results.json", whole_results)
        _judge(tried, f"{words}: ", path, ended, found)
    return tried


def _judge(tried: Tried, words: str, path: Path, ended: Ended, found: str) -> None:
    tried.count += 1
    if ended.is_refusal and path.name in ended.err:
        tried.note("refused")
    elif ended.code == 0 and not found:
        tried.note("seconds unknown" if path.name in SECONDS else "no effect")
    else:
        tried.failures.append(f"{words}exit code {ended.code} {ended.err[-600:]} {found}")


def _beside_seconds(path: Path, expected: Any) -> str:
    return "" if _without_seconds(read_json(path)) == _without_seconds(expected) else f"other numbers: {path.name}"


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seconds(part) for key, part in value.items() if key != "phases" and "seconds" not in key}
    return [_without_seconds(part) for part in value] if isinstance(value, list) else value


def _prepare(target: Target, job: Job, work: Path) -> tuple[Tree, Any]:
    """Bring the folder to where the file is read, copied to `before`; what the command makes of the whole file, and
    its results.
    """
    here = work / "run"
    whole = run(job.line, here, work / "logs")
    assert whole.code == 0, (job.name, whole.err)
    expected, results = tree(here), here / "out" / "results.json"
    numbers = read_json(results) if results.is_file() else None
    if target.half:
        _go_half(target, job, work, whole)
    elif not target.done:
        fresh(here)
    shutil.rmtree(work / "before", ignore_errors=True)
    shutil.copytree(here, work / "before")
    return expected, numbers


def _go_half(target: Target, job: Job, work: Path, whole: Ended) -> None:
    """Run the job until just after the file is there."""
    here = work / "run"
    writes = [number for number, words in enumerate(whole.operations) if words.startswith("os.rename")]
    for number in writes[1:]:
        fresh(here)
        run(job.line, here, work / "logs", kill_at=number + 2)
        if (here / target.file).is_file():
            return
    raise AssertionError(f"{job.name} never had {target.file}")
