"""The tables of `benchmarks/README.md`, from `results/benchmarks/NAME.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

from experiments.markdown_table import grid

Record = dict[str, Any]
Rows = Sequence[Record]


def machine_words(results: Record) -> str:
    """On what was measured."""
    facts, found = results.get("machine", {}), results["environment"]
    threads = found["cpu_threads"]
    words = [f"{threads} core{'s' if threads > 1 else ''}", found["gpu"] or facts.get("processor") or "a CPU"]
    if "bf16" in facts:
        words.append(f"{'with' if facts['bf16'] else 'without'} 16-bit arithmetic")
    return f"Measured on {', '.join(words)}; torch {found['torch']}."


def parts(results: Record) -> Iterator[str]:
    """Multiples of a nominal step and of the products, for each size."""
    for size in _values(results["rows"], "resolution"):
        rows = [row for row in results["rows"] if row["resolution"] == size]
        found = {(row["part"], row["setting"]): row for row in rows}
        settings = _values(rows, "setting")
        lines = []
        for part in _values(rows, "part"):
            cells = [found.get((part, setting), {}) for setting in settings]
            lines.append([part, *map(_times_both, cells)])
        yield f"**{size} pixels**, batches of {_batch(rows)}: nominal steps; in brackets, multiples of its products."
        yield grid(["", *settings], lines)


def _batch(rows: Rows) -> int:
    size: float = rows[0]["images_per_second"] * rows[0]["milliseconds"] / 1000
    return round(size)


def _times_both(row: Record) -> str:
    if not row:
        return "–"
    text = f"{row['times_nominal']:.2f}"
    return text if row["times_floor"] is None else f"{text} ({row['times_floor']:.2f})"


def steps(results: Record) -> Iterator[str]:
    """Whole steps beside their floors."""
    heads = ["pixels", "step", "nominal steps", "of its products", "search without prefix reuse"]
    lines = [
        [str(row["resolution"]), row["step"], *map(_times, (row[key] for key in STEP_KEYS))] for row in results["rows"]
    ]
    yield grid(heads, lines, left=2)


STEP_KEYS = ("times_nominal", "times_floor", "search_speedup_by_prefix")


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def augmentation(results: Record) -> Iterator[str]:
    """Multiples of a step alone, a column for each use."""
    rows = [row for row in results["rows"] if row["generator"]]
    found = {(row["generator"], row["use"]): row["times_step"] for row in rows}
    uses = _values(rows, "use")
    lines = [[name, *(_times(found.get((name, use))) for use in uses)] for name in _values(rows, "generator")]
    yield grid(["", *uses], lines)


def precision(results: Record) -> Iterator[str]:
    """Means over the seeds."""
    keys = ("accuracy_shuffled", "accuracy_worst_case")
    lines = []
    for name in _values(results["rows"], "precision"):
        rows = [row for row in results["rows"] if row["precision"] == name]
        lines.append([name, str(len(rows)), *(f"{100 * mean(row[key] for row in rows):.1f}" for key in keys)])
    yield grid(["precision", "seeds", "shuffled colours", "worst case"], lines)


def scaling(results: Record) -> Iterator[str]:
    """CPU seconds for a thousand images, and private memory, a column for each number of images."""
    rows = results["rows"]
    counts = _values(rows, "images")
    found = {(row["command"], row["images"]): row for row in rows}
    lines = [[name, *(_cost(found.get((name, count))) for count in counts)] for name in _values(rows, "command")]
    yield grid(["", *(f"{count:,} images" for count in counts)], lines)


def _cost(row: Record | None) -> str:
    if row is None:
        return "–"
    peak = row["peak_private_bytes"] or row["peak_bytes"]
    return f"{1000 * row['cpu_seconds'] / row['read']:.1f} s, {peak / 1e9:.1f} GB"


def peers(results: Record) -> Iterator[str]:
    """Images a second, augmentations and attacks."""
    rows = [row for row in results["rows"] if row["kind"] == "augmentation"]
    sizes = _values(rows, "size")
    found = {(row["name"], row["size"]): row["times_reference"] for row in rows}
    yield "Time for a random change of an image, as a multiple of RandomStyle's with `statistics`:"
    lines = [[name, *(_times(found.get((name, size))) for size in sizes)] for name in _values(rows, "name")]
    yield grid(["", *(f"{size} pixels" for size in sizes)], lines)
    attacks = [row for row in results["rows"] if row["kind"] == "attack"]
    yield f"Time for {results['steps']} gradient steps against a ResNet-18, as a multiple of the gradients alone:"
    yield grid(["", f"{attacks[0]['size']} pixels"], [[row["name"], _times(row["times_reference"])] for row in attacks])


def figure(results: Record) -> Iterator[str]:
    """No table: the figure beside it says it all."""
    yield from ()


BENCHMARKS: dict[str, Callable[[Record], Iterator[str]]] = {
    "parts": parts,
    "steps": steps,
    "augmentation": augmentation,
    "precision": precision,
    "scaling": scaling,
    "audit_scaling": figure,
    "peers": peers,
}
"""What shows each file's rows."""


def _values(rows: Rows, key: str) -> list[Any]:
    """In their order."""
    return list(dict.fromkeys(row[key] for row in rows))


def benchmark_blocks(name: str, results: Record) -> Iterator[str]:
    """What stands in the page for a benchmark.

    Raises:
        ValueError: no such benchmark.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmarks: no {name}; choose from {', '.join(BENCHMARKS)}")
    yield from BENCHMARKS[name](results)
    yield machine_words(results)
