"""`advmix demo`: from nothing to a classifier that no longer looks at colour, and a report that shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from advmix.config import to_dict
from advmix.data import ColoredDigits, DataConfig, ImageSet
from advmix.engine import environment, make_fabric
from advmix.errors import UserError
from advmix.files import atomic_write, read_json, write_json
from advmix.options import require
from advmix.progress import console
from advmix.report import render
from advmix.results import RESULTS, SCHEMA_VERSION, table
from advmix.runs import open_run
from advmix.stages.encode import EncodeConfig, run_encode
from advmix.stages.evaluate import EvaluateConfig, run_evaluate
from advmix.stages.fit import FitConfig, run_fit
from advmix.stages.train import TrainConfig, run_train
from advmix.studies.demo_report import draw
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.classify import TrainOptions
from advmix.training.methods import METHODS, BaselineOptions, SearchOptions, check_method


@dataclass(frozen=True)
class DemoConfig:
    """Colored-MNIST end to end: fit, encode, train every method, evaluate, report.

    Writes results.json, report.html, figures/, config.json and a folder for each stage, which the other commands can
    read.
    Run again with the same settings it goes on where it was stopped.

    Args:
        data: the digits and their colours.
        methods: which classifiers: nominal mixup linf randmix advmix, controls ceiling grayscale recolor.
        fit: how generator and encoder are trained.
        train: how every classifier is trained.
        search: Algorithm 1's settings in training.
        baseline: settings of the other methods.
        worst_restarts: restarts of the search for the worst case; its step and radius are the training's.
        worst_steps: its gradient steps per restart.
        worst_images: it is run on at most so many test images.
        seed: fixes everything.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    data: DataConfig = field(default_factory=DataConfig)
    methods: tuple[str, ...] = METHODS
    fit: FitOptions = field(default_factory=FitOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    baseline: BaselineOptions = field(default_factory=BaselineOptions)
    worst_restarts: int = 5
    worst_steps: int = 5
    worst_images: int = 1000
    seed: int = 0
    out: Path = Path("runs/demo")
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.methods:
            raise UserError("--methods: name at least one")
        for method in self.methods:
            check_method(method)
        if len(set(self.methods)) < len(self.methods):
            raise UserError(f"--methods {' '.join(self.methods)}: names one twice")
        require(self, "worst_restarts worst_images", least=1)
        require(self, "worst_steps", least=0)


def run_demo(config: DemoConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    images = _check(config)
    open_run(config.out, "demo", config, resume=True, inputs={"images": images.fingerprint})
    console.print(f"[bold]1 Learn the variations[/] from the biased training images alone (seed {config.seed})")
    common: dict[str, Any] = {"device": config.device, "resume": True}
    fitted, latents = config.out / "fit", config.out / "latents"
    run_fit(FitConfig(data=config.data, fit=config.fit, seed=config.seed, out=fitted, **common))
    split: dict[str, Any] = {"perp": config.search.perp, "perp_grid": config.search.perp_grid}
    run_encode(EncodeConfig(generator=fitted, out=latents, **split, **common))
    console.print(f"[bold]2 Train[/] {', '.join(config.methods)}, and [bold]3 evaluate[/] each")
    found = []
    for method in config.methods:
        _train(config, method, fitted, latents)
        found.append(_evaluate(config, method, fitted, latents))
    results = _gather(config, found)
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


def _check(config: DemoConfig) -> ImageSet:
    """Whatever is wrong with the settings is said before anything is written."""
    make_fabric(config.device)
    data = ColoredDigits(config.data, config.seed)
    for images in (data.train, data.shuffled):
        config.search.split(style_config(images).layers)
    return data.train


def _train(config: DemoConfig, method: str, fitted: Path, latents: Path) -> None:
    run_train(
        TrainConfig(
            method=method,
            generator=fitted,
            latents=latents,
            train=config.train,
            search=config.search,
            baseline=config.baseline,
            seed=config.seed,
            out=config.out / method,
            device=config.device,
            resume=True,
        )
    )


def _evaluate(config: DemoConfig, method: str, fitted: Path, latents: Path) -> dict[str, Any]:
    return run_evaluate(
        EvaluateConfig(
            classifier=config.out / method,
            generator=fitted,
            latents=latents,
            search=replace(config.search, restarts=config.worst_restarts, steps=config.worst_steps),
            worst_images=config.worst_images,
            seed=config.seed,
            out=config.out / method / "evaluation",
            device=config.device,
            resume=True,
        ),
        show=False,
    )


def _gather(config: DemoConfig, found: list[dict[str, Any]]) -> dict[str, Any]:
    runs = [run for results in found for run in results["runs"]]
    phases = {
        "fit": found[0]["generator"]["fit_seconds"],
        "encode": read_json(config.out / "latents" / "seconds.json")["encode_seconds"],
        **{f"train {run['method']}": run["train_seconds"] for run in runs},
        "evaluate": round(sum(results["phases"]["evaluate"] for results in found), 2),
    }
    return {
        "schema": SCHEMA_VERSION,
        "study": "demo",
        "config": {"command": "demo", **to_dict(config)},
        "environment": environment(),
        "generator": found[0]["generator"],
        "search": found[0]["search"],
        "phases": phases,
        "runs": runs,
    }
