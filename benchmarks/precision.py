"""What training in 16 bits costs in accuracy: AdvMix on the coloured digits in 32 bits and in bf16, seed by seed.

python benchmarks/precision.py --out results/benchmarks

One generator for all, fitted in 32 bits; every classifier is judged by the same search, in 32 bits.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table
from script import run, write_rows

from advmix.cli import main as advmix
from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.files import read_json
from advmix.utils.progress import console

FIGURES = ("accuracy_shuffled", "accuracy_worst_case")


@dataclass(frozen=True)
class PrecisionConfig:
    """Train and judge in both precisions.

    Args:
        seeds: of the classifiers.
        fit_steps: of the generator.
        epochs: of every classifier.
        images: on which the worst case is looked for.
        device: auto, cpu, cuda, cuda:N or mps.
        out: folder for precision.json.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    fit_steps: int = 600
    epochs: int = 15
    images: int = 500
    device: str = "auto"
    out: Path = Path("results/benchmarks")

    def __post_init__(self) -> None:
        check_values(self, "fit_steps epochs images", least=1)


def accuracies(config: PrecisionConfig, folder: Path) -> list[dict[str, Any]]:
    """A row for each precision and seed."""
    fit, latents = str(folder / "fit"), str(folder / "latents")
    _run(config, "fit", "--fit-steps", str(config.fit_steps), "--out", fit)
    _run(config, "encode", "--generator", fit, "--out", latents)
    rows = []
    for seed in config.seeds:
        for precision in ("32", "bf16"):
            net, judged = folder / f"{precision}-{seed}", folder / f"{precision}-{seed}-judged"
            mixed = ["--generator", fit, "--latents", latents]
            options = ["--method", "advmix", "--epochs", str(config.epochs), "--precision", precision]
            _run(config, "train", *mixed, *options, "--seed", str(seed), "--out", str(net))
            counted = ["--worst-images", str(config.images)]
            _run(config, "evaluate", "--classifier", str(net), *mixed, *counted, "--out", str(judged))
            run = read_json(judged / "results.json")["runs"][0]
            rows.append({"seed": seed, "precision": precision, **{name: run[name] for name in FIGURES}})
    return rows


def _run(config: PrecisionConfig, *words: str) -> None:
    if advmix([*words, "--device", config.device]):
        raise UserError(f"advmix {words[0]}: failed, see above")


def main() -> None:
    """Train, judge, print, write."""
    config = tyro.cli(PrecisionConfig)
    with tempfile.TemporaryDirectory() as folder:
        rows = accuracies(config, Path(folder))
    settings = {"fit_steps": config.fit_steps, "epochs": config.epochs, "images": config.images}
    write_rows(config.out, "precision", rows, **settings)
    table = Table("seed", "precision", *FIGURES)
    for row in rows:
        table.add_row(str(row["seed"]), row["precision"], *(f"{100 * row[name]:.1f}" for name in FIGURES))
    console.print(table)


if __name__ == "__main__":
    run(main)
