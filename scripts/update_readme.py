"""Write the README's tables from `results/`, between its markers, and copy its picture.

Run after results change; a test holds README and results together.
"""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
PICTURE = ROOT / "results" / "demo" / "digits-std0.1-seed0" / "figures" / "mixing.png"
COLUMNS = {
    "accuracy_biased": "biased",
    "accuracy_unbiased": "**shuffled**",
    "accuracy_uniform": "uniform",
    "accuracy_reconstruction": "reconstruction",
    "accuracy_worst_case": "worst case",
    "accuracy_recolor_worst": "worst recolouring",
}
NAMES = {"linf": "l_inf adversarial", "randmix": "RandMix", "advmix": "**AdvMix**"}


def load(folder: Path) -> list[dict[str, Any]]:
    """All runs of all demos below a folder, in the order of their names."""
    runs: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/results.json")):
        runs += json.loads(path.read_text())["runs"]
    return runs


def cell(values: list[float | None]) -> str:
    """Mean in percent, with the standard deviation over seeds where there are several."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{spread}"


def table(runs: list[dict[str, Any]]) -> list[str]:
    """Markdown rows, one per method, in the order in which methods first appear."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        cells = " | ".join(cell([run[key] for run in mine]) for key in COLUMNS)
        lines.append(f"| {NAMES.get(method, method)} | {cells} |")
    return lines


def section() -> str:
    """One table for each data set and colour spread under `results/demo`."""
    groups: dict[tuple[str, float, int], list[dict[str, Any]]] = {}
    for run in load(ROOT / "results" / "demo"):
        groups.setdefault((run["data"], run["color_std"], run["train_images"]), []).append(run)
    parts = []
    for (data, std, images), runs in groups.items():
        seeds = sorted({run["seed"] for run in runs})
        listed = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        searched = f"{runs[0]['worst_case_images']:,} of {runs[0]['test_images']:,} test images searched"
        title = f"**{data}**, {images:,} training images, colour std {std}, {listed}; {searched}:"
        parts += [title, "", *table(runs), ""]
    return "\n".join([BEGIN, "", *parts, END])


def updated(readme: str) -> str:
    """The README with its section written anew."""
    before, rest = readme.split(BEGIN)
    return before + section() + rest.split(END)[1]


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text()))
    (ROOT / "docs" / "images").mkdir(exist_ok=True)
    shutil.copyfile(PICTURE, ROOT / "docs" / "images" / "mixing.png")
