"""`advmix demo`: the main job on coloured digits, from nothing: fit, encode, train every method, evaluate, report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from advmix.classifiers.networks import FILE as CLASSIFIER
from advmix.commands.encode import run_encode
from advmix.commands.evaluate import GALLERY, EvaluateConfig, run_evaluate
from advmix.commands.fit import FitConfig, run_fit
from advmix.commands.train import TrainConfig, run_train
from advmix.data.colored import ColoredDigits
from advmix.data.datasets import open_data, painted_digits
from advmix.data.settings import DataConfig
from advmix.encoders.network import Encoder
from advmix.latents import Split
from advmix.mixing import FINEST, WORST_CASE, SearchOptions
from advmix.pools import FittedModel, data_of, load
from advmix.report.figures import VariationGallery, accuracy_chart, data_strip, mixing_grid, training_curves, variations
from advmix.report.page import render, save_figures
from advmix.report.tables import RESULTS, header, table
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.classify import TrainOptions
from advmix.training.encoding import EncodeConfig
from advmix.training.loop import read_log
from advmix.training.methods import METHODS, BaselineOptions, check_methods
from advmix.utils.config import Settings, check_values
from advmix.utils.device import open_device
from advmix.utils.files import atomic_write, read_tensors, write_json
from advmix.utils.progress import SECONDS_FILE, console, quietly, read_seconds
from advmix.utils.runs import open_run

GRID_ROWS, GRID_COLUMNS = 7, 9

COMPARED, EXPLORED_IMAGES = ("nominal", "advmix"), 100
"""Methods that are held side by side, image by image, on so many images."""

HINTS = {
    "colored": ("each class has\nits own colour", "colours drawn\nat random"),
    "color": ("each class has\nits own digit", "digits drawn\nat random"),
}
"""What the data strip says of training and test, by look; by target where that is the colour."""


def data_figure(data: ColoredDigits) -> Figure:
    """Six training and six shuffled test images of each class, among the first 200."""
    config = data.config
    hints = HINTS["color" if config.target == "color" else config.look]
    first = slice(0, 200)
    return data_strip(*data.train.batch(first), *data.shuffled.batch(first), data.train.classes, hints)


def mixing_figure(mixable: FittedModel, data: ColoredDigits, split: Split, encoder: Encoder | None = None) -> Figure:
    """Rows: test digits that the generator has never seen. Columns: the first training images.

    Args:
        mixable: generator and pool.
        data: the digits.
        split: which layers are `z⊥`.
        encoder: of the rows, the one that made the pool; default the network.
    """
    height, width = min(GRID_ROWS, len(data.shuffled)), min(GRID_COLUMNS, len(data.train))
    kept, _ = data.shuffled.batch(slice(0, height))
    lent, _ = data.train.batch(slice(0, width))
    device = mixable.pool.styles.device
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    with torch.no_grad():
        parallel = (encoder or mixable.model.encoder)(kept.to(device))
        mixes = mixable.model.generator(split.combine(parallel[rows], mixable.pool[:width][columns]))
    return mixing_grid(kept, lent, mixes, *roles(split, data.config.look))


def roles(split: Split, look: str) -> tuple[str, str]:
    """What `z∥` and `z⊥` are, in words, where the layers say it: coarse ones set the shape, fine ones the colour.

    Other looks have more than a colour: there the picture must tell what the layers hold.
    """
    fine, coarse = split.layers - 1 in split.perp, split.grid or 0 in split.perp
    if fine == coarse:
        return "z∥", "z⊥"
    shape, color = ("its shape", "its colour") if look == "colored" else ("its coarse layers", "its fine layers")
    return (f"{shape}, z∥", f"{color}, z⊥") if fine else (f"{color}, z∥", f"{shape}, z⊥")


def draw(out: Path, results: dict[str, Any], search: SearchOptions) -> dict[str, Figure]:
    """The figures of a demo run, written to its `figures/*.png` too."""
    mixable = load(out / "fit", out / "latents")
    data = painted_digits(data_of(mixable.metadata, out / "fit"), "demo")
    figures = {
        "data": data_figure(data),
        "mixing": mixing_figure(mixable, data, search.split(mixable.model.generator.layers)),
        "training": training_curves(_history(out / "fit", mixable.metadata)),
        "accuracy": accuracy_chart(results["runs"]),
    }
    for run in results["runs"]:
        figures[f"variations-{run['method']}"] = _variations_figure(out, run["method"], data.train.classes)
    save_figures(figures, out / "figures")
    return figures


def _variations_figure(out: Path, method: str, classes: tuple[str, ...]) -> Figure:
    tensors, _ = read_tensors(out / method / "evaluation" / GALLERY, "gallery")
    return variations(VariationGallery(method=method, classes=classes, **tensors))


def _history(fitted: Path, metadata: dict[str, Any]) -> list[dict[str, float]]:
    (digest,) = metadata["log_sha256"]
    return [{"step": line["step"], "mse": line["loss"]} for line in read_log(fitted / "log.jsonl", digest)]


@dataclass(frozen=True)
class RunSettings(Settings):
    """How generator and classifiers are trained and tested.

    Args:
        fit: how generator and encoder are trained.
        train: how every classifier is trained.
        search: Algorithm 1's settings in training.
        baseline: settings of the other methods.
        worst_restarts: restarts of the search for the worst case; its step and radius are the training's.
        worst_steps: its gradient steps per restart.
        worst_images: worst cases are looked for on at most so many test images.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    fit: FitOptions = field(default_factory=FitOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    search: SearchOptions = FINEST
    baseline: BaselineOptions = field(default_factory=BaselineOptions)
    worst_restarts: int = WORST_CASE.restarts
    worst_steps: int = WORST_CASE.steps
    worst_images: int = 1000
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "worst_restarts worst_images", least=1)
        check_values(self, "worst_steps", least=0)

    def evaluation(self) -> SearchOptions:
        """The search for the worst case."""
        return replace(self.search, restarts=self.worst_restarts, steps=self.worst_steps)


@dataclass(frozen=True)
class DemoConfig(RunSettings):
    """Colored-MNIST end to end: fit, encode, train every method, evaluate, report.

    Writes results.json, report.html, figures/, config.json and a folder for each stage, which the other commands can
    read. Of nominal training and AdvMix, audit/explore.html shows every image side by side.
    Run again with the same settings it goes on where it was stopped.

    Args:
        data: the digits and their colours.
        methods: which classifiers: nominal mixup linf randmix advmix, controls ceiling jitter grayscale
            instnorm.
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
    digits = painted_digits(open_data(config.data, config.seed), "demo")
    for images in (digits.train, digits.shuffled):  # too many test images, a layer outside: said before all else
        config.search.split(style_config(images, config.fit).layers)
    open_device(config.device)
    inputs = {"images": digits.train.fingerprint}
    with open_run(config.out, "demo", config, resume=True, inputs=inputs):
        console.print(f"[bold]1 Learn the variations[/] from the biased training images alone (seed {config.seed})")
        with quietly((config.out / "latents" / SECONDS_FILE).is_file()):
            _fit(config)
        console.print(f"[bold]2 Train[/] {', '.join(config.methods)}, and [bold]3 evaluate[/] each")
        found = [_train_and_evaluate(config, method) for method in config.methods]
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
        if set(COMPARED) <= set(config.methods):
            _explore(config)
    return results


def _explore(config: DemoConfig) -> None:
    """Nominal training against AdvMix, image by image."""
    from advmix.audit.run import run_audit
    from advmix.audit.settings import AuditConfig

    out = config.out / "audit"
    made: dict[str, Any] = {"generator": config.out / "fit", "latents": config.out / "latents"}
    how: dict[str, Any] = {"search": config.evaluation(), "seed": config.seed, "device": config.device, "resume": True}
    compare = tuple(str(config.out / method) for method in COMPARED)
    images = max(2, min(EXPLORED_IMAGES, config.worst_images))
    with quietly():
        run_audit(AuditConfig(compare=compare, name=COMPARED, **made, reference="none", images=images, **how, out=out))
    console.print(f"Nominal training against AdvMix, image by image: {out / 'explore.html'}", markup=False)
    console.print("The same of your own photographs: advmix audit --classifier FILE --data FOLDER", markup=False)


def _fit(config: DemoConfig) -> None:
    """Generator and encoder from the biased images alone, and the latents of these."""
    common: dict[str, Any] = {"device": config.device, "resume": True}
    run_fit(FitConfig(data=config.data, fit=config.fit, seed=config.seed, out=config.out / "fit", **common))
    split: dict[str, Any] = {"perp": config.search.perp, "perp_grid": config.search.perp_grid}
    run_encode(EncodeConfig(generator=config.out / "fit", out=config.out / "latents", **split, **common))


def _train_and_evaluate(config: DemoConfig, method: str) -> dict[str, Any]:
    """A classifier, and what `results.json` of its evaluation holds."""
    out = config.out / method
    made: dict[str, Any] = {"generator": config.out / "fit", "latents": config.out / "latents"}
    common: dict[str, Any] = {**made, "seed": config.seed, "device": config.device, "resume": True}
    settings: dict[str, Any] = {"train": config.train, "search": config.search, "baseline": config.baseline}
    with quietly((out / CLASSIFIER).is_file()):
        run_train(TrainConfig(method=method, **settings, out=out, **common))
    tested: dict[str, Any] = {"search": config.evaluation(), "worst_images": config.worst_images}
    return run_evaluate(EvaluateConfig(classifier=str(out), **tested, out=out / "evaluation", **common), show=False)


def _gather(config: DemoConfig, found: list[dict[str, Any]]) -> dict[str, Any]:
    runs = [run for results in found for run in results["runs"]]
    phases = {
        "fit": found[0]["generator"]["fit_seconds"],
        "encode": read_seconds(config.out / "latents").get("encode_seconds", 0.0),
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
