"""What makes an audit dearer: time and memory against images, size, search, pool, classes, groups and processes.

python benchmarks/audit_scaling.py --out results/benchmarks

One number is changed at a time, from the smallest audit on; each audit is a process of its own, on images that are
decoded already, with classifiers that are trained already. It also draws audit_scaling.png.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from rich.filesize import decimal
from rich.table import Table
from scaling import make_images, run_command
from script import run, write_rows

from advmix.report.drawing import INK, METHODS, MUTED, TRACK, Canvas
from advmix.report.page import save_figures
from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.progress import console

BASE = {"images": 100, "size": 32, "candidates": 4, "pool": 100, "classes": 2, "groups": 1, "processes": 1}
"""Of the smallest audit."""

AXES: dict[str, tuple[int, ...]] = {
    "images": (100, 200, 400, 800),
    "size": (32, 64, 128),
    "candidates": (4, 9, 25, 81),
    "pool": (100, 400, 1600),
    "classes": (2, 8, 32),
    "groups": (1, 8, 32),
    "processes": (1, 2),
}
"""Values of each number; candidates are restarts x (steps + 1), as many restarts as steps and one more."""


@dataclass(frozen=True)
class AuditScalingConfig:
    """Time and memory of audits.

    Args:
        axes: numbers that are changed.
        count: images of the data set; a part of them is audited.
        generator: a ready-made one.
        memory: as `--memory` takes it.
        out: folder for audit_scaling.json and audit_scaling.png.
    """

    axes: tuple[str, ...] = tuple(AXES)
    count: int = 2400
    generator: str = "photo"
    memory: str = "2GB"
    out: Path = Path("results/benchmarks")

    def __post_init__(self) -> None:
        check_values(self, "count", least=400)
        for name in self.axes:
            if name not in AXES:
                raise UserError(f"--axes {name}: unknown; choose from {' '.join(AXES)}")


def points(axes: Sequence[str]) -> list[tuple[str, dict[str, int]]]:
    """What is audited: the number that is changed, and all numbers. The smallest audit once."""
    changed = [(name, {**BASE, name: value}) for name in axes for value in AXES[name][1:]]
    return [("base", dict(BASE)), *changed]


def write_table(images: Path, point: Mapping[str, int]) -> Path:
    """A table of all images: the class is what is on it, and a number where there are more than two; the group is a
    number.
    """
    path = images / f"{point['classes']}-{point['groups']}.csv"
    names = sorted(found.relative_to(images) for found in images.rglob("*.jpg"))
    parts, groups = point["classes"] // 2, point["groups"]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "class", "group"])
        for place, name in enumerate(names):
            rows.writerow([str(name), f"{name.parts[0]}-{place % parts}", f"g{place // parts % groups}"])
    return path


def audit_words(config: AuditScalingConfig, scratch: Path, point: Mapping[str, int]) -> dict[str, list[str]]:
    """The command lines before an audit, and its own, by what they do."""
    table = write_table(scratch / "images", point)
    data = ["--data", str(table), "--target", "class", "--size", str(point["size"]), "--holdout", "0.4"]
    shared = ["--memory", config.memory, "--device", "cpu"]
    networks = [scratch / f"{kind}-{table.stem}-{point['size']}" for kind in ("judged", "reference")]
    train = ["train", *data, *shared, "--method", "nominal", "--epochs", "1", "--resume"]
    words = {
        f"train {place}": [*train, "--seed", str(place), "--out", str(network)]
        for place, network in enumerate(networks)
    }
    restarts = round(point["candidates"] ** 0.5)
    search = ["--restarts", str(restarts), "--steps", str(restarts - 1), "--images", str(point["images"])]
    lent = ["--generator", config.generator, "--pool", "train", "--pool-images", str(point["pool"])]
    asked = ["--classifier", str(networks[0]), "--reference", str(networks[1]), "--group", "group"]
    machines = ["--devices", str(point["processes"])]
    out = ["--out", str(scratch / "-".join(map(str, ("audit", *point.values()))))]
    return words | {"audit": ["audit", *data, *shared, *search, *lent, *asked, *machines, *out]}


def measure_audits(config: AuditScalingConfig, scratch: Path) -> list[dict[str, Any]]:
    """A row for each audit; the smallest one is a row of every axis."""
    make_images(scratch / "images", config.count, max(AXES["size"]))
    found = [(axis, point, _measured(config, scratch, point)) for axis, point in points(config.axes)]
    rows = []
    for name in config.axes:
        rows += [{"axis": name, **point, **row} for axis, point, row in found if axis in (name, "base")]
    return rows


def _measured(config: AuditScalingConfig, scratch: Path, point: Mapping[str, int]) -> dict[str, Any]:
    """An audit, after what it needs."""
    found: dict[str, Any] = {}
    for words in audit_words(config, scratch, point).values():
        found = run_command(words, scratch / "cache")
    console.print(f"  {', '.join(f'{name} {value:,}' for name, value in point.items())}: {_seconds(found)}")
    return found


def _seconds(row: Mapping[str, Any]) -> str:
    return f"{row['cpu_seconds']:.0f} CPU s, {decimal(row['peak_bytes'])}"


def rows_of(rows: Sequence[dict[str, Any]], axis: str) -> list[dict[str, Any]]:
    """Of one axis, by its value."""
    return sorted((row for row in rows if row["axis"] == axis), key=lambda row: int(row[axis]))


def scaling_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """A panel for each axis: CPU seconds and peak of memory, both logarithmic; a straight line is what is proportional
    to the number.
    """
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    width, gap, left, head, height = 1.45, 0.3, 0.95, 0.5, 1.6
    canvas = Canvas(left + len(axes) * (width + gap), head + 2 * height + 1.0)
    kinds = (("cpu_seconds", 1.0, "CPU seconds"), ("peak_bytes", 1e6, "peak memory, MB"))
    for line, (key, unit, title) in enumerate(kinds):
        values = [row[key] / unit for row in rows]
        limits = 0.7 * min(values), 1.5 * max(values)
        for place, axis in enumerate(axes):
            found = rows_of(rows, axis)
            x, y = [row[axis] for row in found], [row[key] / unit for row in found]
            panel = canvas.axes(left + place * (width + gap), head + line * (height + 0.35), width, height)
            panel.set(xscale="log", yscale="log", ylim=limits, xlim=(0.8 * x[0], 1.25 * x[-1]))
            panel.plot(x, [y[0] * value / x[0] for value in x], color=TRACK, linewidth=1.5)
            panel.plot(x, y, "o-", markersize=4, linewidth=1.5, color=METHODS["advmix"].color)
            _ticks(panel, x, [] if place else _marks(limits))
            if not line:
                panel.set_title(axis, fontsize=9.5, color=INK)
            if not place:
                panel.set_ylabel(title, fontsize=9, color=INK)
    return canvas.figure


def _marks(limits: tuple[float, float]) -> list[float]:
    steps = [mantissa * 10**power for power in range(7) for mantissa in (1, 2, 5)]
    return [step for step in steps if limits[0] <= step <= limits[1]]


def _ticks(panel: Any, x: list[int], y: list[float]) -> None:
    panel.set_xticks(x)
    panel.set_yticks(y)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.tick_params(labelsize=7.5, colors=MUTED, length=0)
    panel.grid(color=TRACK, linewidth=0.7)
    panel.set_axisbelow(True)


def scaling_table(rows: Sequence[dict[str, Any]]) -> Table:
    """CPU seconds and peaks."""
    table = Table("number", "value", "CPU s", "peak")
    for axis in dict.fromkeys(row["axis"] for row in rows):
        for row in rows_of(rows, axis):
            table.add_row(axis, f"{row[axis]:,}", f"{row['cpu_seconds']:.1f}", decimal(row["peak_bytes"]))
    return table


def main() -> None:
    """Measure, print, write audit_scaling.json and draw."""
    config = tyro.cli(AuditScalingConfig)
    with tempfile.TemporaryDirectory(prefix="audit-scaling") as folder:
        rows = measure_audits(config, Path(folder))
    console.print(scaling_table(rows))
    write_rows(config.out, "audit_scaling", rows, generator=config.generator, memory=config.memory, count=config.count)
    save_figures({"audit_scaling": scaling_figure(rows)}, config.out)


if __name__ == "__main__":
    run(main)
