"""`advmix demo`: from nothing to a classifier that no longer looks at colour, and a report that shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advmix.data import DataConfig
from advmix.files import atomic_write, write_json
from advmix.progress import console
from advmix.report import render
from advmix.results import RESULTS, header, table
from advmix.runs import open_run
from advmix.studies.cell import Cell, CellSettings
from advmix.studies.demo_report import draw
from advmix.training.methods import METHODS, check_methods


@dataclass(frozen=True)
class DemoConfig(CellSettings):
    """Colored-MNIST end to end: fit, encode, train every method, evaluate, report.

    Writes results.json, report.html, figures/, config.json and a folder for each stage, which the other commands can
    read.
    Run again with the same settings it goes on where it was stopped.

    Args:
        data: the digits and their colours.
        methods: which classifiers: nominal mixup linf randmix advmix, controls ceiling recolor jitter permute
            grayscale instnorm nominal-long randmix-long randmix-best.
        seed: fixes everything.
        out: folder for what is written.
    """

    data: DataConfig = field(default_factory=DataConfig)
    methods: tuple[str, ...] = METHODS
    seed: int = 0
    out: Path = Path("runs/demo")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_methods(self.methods)


def run_demo(config: DemoConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    cell = Cell(config.out, config.data, config.seed, config, flag="--out")
    images = cell.check().train
    with open_run(config.out, "demo", config, resume=True, inputs={"images": images.fingerprint}):
        console.print(f"[bold]1 Learn the variations[/] from the biased training images alone (seed {config.seed})")
        cell.fit()
        console.print(f"[bold]2 Train[/] {', '.join(config.methods)}, and [bold]3 evaluate[/] each")
        found = []
        for method in config.methods:
            cell.train(method)
            found.append(cell.evaluate(method))
        results = _gather(config, cell, found)
        console.print("[bold]4 Report[/]")
        begun = time.monotonic()
        figures = draw(config.out, results, config.search)
        results["phases"]["report"] = round(time.monotonic() - begun, 2)
        write_json(config.out / RESULTS, results)
        atomic_write(config.out / "report.html", render(results, figures).encode())
        console.print(table(results["runs"]))
        phases = results["phases"]
        spent = ", ".join(f"{name} {seconds:.0f}" for name, seconds in phases.items())
        console.print(f"Seconds: {spent}; {sum(phases.values()):.0f} together")
        console.print(f"Look at {config.out / 'report.html'} (numbers: {config.out / RESULTS})")
    return results


def _gather(config: DemoConfig, cell: Cell, found: list[dict[str, Any]]) -> dict[str, Any]:
    runs = [run for results in found for run in results["runs"]]
    phases = {
        "fit": found[0]["generator"]["fit_seconds"],
        "encode": cell.encode_seconds(),
        **{f"train {run['method']}": run["train_seconds"] for run in runs},
        "evaluate": round(sum(results["phases"]["evaluate"] for results in found), 2),
    }
    return {
        **header("demo", config),
        "generator": found[0]["generator"],
        "search": found[0]["search"],
        "phases": phases,
        "runs": runs,
    }
