"""Time and memory against the number of images: data, encode, an epoch of RandMix, an audit of a tenth.

python benchmarks/scaling.py --counts 2000 10000 --out results/benchmarks

The images are crops of two photographs that scikit-learn ships, turned and recoloured at random, stored as JPEG files.
Each command is a process of its own, with an empty cache of decoded images at first. Peaks are of its resident memory,
and of what of it is private: the rest are pages of files, such as the cache's, which the system takes back when it
needs them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image
from rich.filesize import decimal
from rich.table import Table
from script import run, write_rows
from sklearn.datasets import load_sample_images

from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.progress import console, track

AUDIT = "audit of a tenth"

SECONDS_BETWEEN = 0.05
"""Between two looks at a process."""


@dataclass(frozen=True)
class ScalingConfig:
    """Time and memory of commands on data sets of several sizes.

    Args:
        counts: numbers of images.
        size: of the images, in pixels.
        generator: a ready-made one.
        audited: images that are audited, at most; a tenth of all where that is less.
        memory: as `--memory` takes it, of every command.
        scratch: folder for images and results; a temporary one by default.
        out: folder for scaling.json.
    """

    counts: tuple[int, ...] = (2000, 10_000)
    size: int = 64
    generator: str = "statistics"
    audited: int = 10_000
    memory: str = "2GB"
    scratch: Path | None = None
    out: Path = Path("results/benchmarks")

    def __post_init__(self) -> None:
        check_values(self, "audited", least=1)
        check_values(self, "size", least=16)
        if not self.counts or min(self.counts) < 400:
            raise UserError("--counts: name numbers of images, each at least 400")


def make_images(folder: Path, count: int, size: int) -> None:
    """Write images `class/number.jpg`: square crops of a photograph each, in gains and offsets of their own."""
    photographs, rng = load_sample_images().images, np.random.default_rng(0)
    with track("make images", count) as advance:
        for number in range(count):
            label = number % len(photographs)
            whole = photographs[label]
            widest = min(whole.shape[:2])
            side = int(rng.integers(min(size, widest // 2), min(4 * size, widest)))
            top, left = (int(rng.integers(0, extent - side)) for extent in whole.shape[:2])
            crop = Image.fromarray(whole[top : top + side, left : left + side]).resize((size, size))
            pixels = np.asarray(crop) * rng.uniform(0.6, 1.4, 3) + rng.uniform(-30, 30, 3)
            path = folder / str(label) / f"{number:07}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
            advance(1, "")


def run_command(words: list[str], cache: Path) -> dict[str, Any]:
    """A command in a process of its own.

    Raises:
        UserError: it failed.
    """
    begun, private = time.perf_counter(), 0
    line = [sys.executable, "-m", "advmix", *words]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(line, stdout=said, stderr=said, env={**os.environ, "ADVMIX_CACHE": str(cache)})
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            private = max(private, _private_bytes(process.pid))
            time.sleep(SECONDS_BETWEEN)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise UserError(f"advmix {' '.join(words)}: {said.read()[-1000:].decode(errors='replace')}")
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "peak_private_bytes": private or None,
    }


def _private_bytes(process: int) -> int:
    """Resident and of no file; 0 where the system does not say it."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def audited(config: ScalingConfig, count: int) -> int:
    """How many of so many images are audited."""
    return min(config.audited, count // 10)


def commands(config: ScalingConfig, folder: Path, count: int) -> dict[str, list[str]]:
    """The command lines, by what they do."""
    images = ["--data", str(folder / "images"), "--size", str(config.size)]
    shared, made = ["--memory", config.memory, "--device", "cpu"], ["--generator", config.generator]
    pool = ["--pool", "train", "--pool-images", str(count)]
    preview = ["data", str(folder / "images"), "--size", str(config.size), "--no-shortcuts", "--memory", config.memory]
    train = ["train", *images, "--epochs", "1", *shared]
    search = ["--restarts", "2", "--steps", "2"]
    audit = ["audit", *images, *made, "--images", str(audited(config, count)), *search, *shared]
    classifiers = ["--classifier", str(folder / "train"), "--reference", str(folder / "reference")]
    return {
        "data, decoding": [*preview, "--out", str(folder / "data")],
        "data, from the cache": [*preview, "--out", str(folder / "again")],
        "encode": ["encode", *images, *made, *pool, *shared, "--out", str(folder / "latents")],
        "train, randmix": [*train, "--method", "randmix", *made, *pool, "--out", str(folder / "train")],
        "train, nominal": [*train, "--method", "nominal", "--seed", "1", "--out", str(folder / "reference")],
        AUDIT: [*audit, *classifiers, "--out", str(folder / "audit")],
    }


def measure_scaling(config: ScalingConfig, scratch: Path) -> list[dict[str, Any]]:
    """A row for each command and number of images."""
    rows = []
    for count in config.counts:
        folder = scratch / str(count)
        make_images(folder / "images", count, config.size)
        for name, words in commands(config, folder, count).items():
            row = {"images": count, "command": name, "read": audited(config, count) if name == AUDIT else count}
            rows.append({**row, **run_command(words, folder / "cache")})
            console.print(f"  {count:,} images, {name}: {rows[-1]['seconds']:.0f} s, {_peaks(rows[-1])}")
    return rows


def _peaks(row: dict[str, Any]) -> str:
    private = row["peak_private_bytes"]
    return decimal(row["peak_bytes"]) + ("" if private is None else f", {decimal(private)} of it private")


def scaling_table(rows: list[dict[str, Any]]) -> Table:
    """CPU seconds for a thousand images, and peaks."""
    table = Table("images", "command", "CPU s", "CPU s / 1,000", "peak")
    for row in rows:
        seconds = row["cpu_seconds"]
        shares = f"{seconds:.0f}", f"{1000 * seconds / row['read']:.1f}"
        table.add_row(f"{row['images']:,}", row["command"], *shares, _peaks(row))
    return table


def main() -> None:
    """Measure, print, and write scaling.json."""
    config = tyro.cli(ScalingConfig)
    with tempfile.TemporaryDirectory(prefix="scaling") as folder:
        rows = measure_scaling(config, config.scratch or Path(folder))
    console.print(scaling_table(rows))
    write_rows(config.out, "scaling", rows, size=config.size, generator=config.generator, memory=config.memory)


if __name__ == "__main__":
    run(main)
