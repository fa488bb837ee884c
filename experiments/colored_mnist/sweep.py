"""How the search's settings were chosen: on training digits alone, in other colours, with seeds that no result uses.

`python -m experiments.colored_mnist.sweep --out results/sweep`. A third of the *training* digits is held out; each seed
has mean colours of its own. A setting's score is the mean of two accuracies that do not depend on any search: on
shuffled colours, and under every colour of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tyro
from torch import Tensor

from advmix.data.colored import ColoredDigits, GrayDigits
from advmix.data.digits import uniform_colors
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder
from advmix.latents import Latents
from advmix.metrics import accuracy, recolor_worst, share
from advmix.mixing import FINEST, SearchOptions
from advmix.pools import FittedModel
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.methods import BaselineOptions, make_recipe
from advmix.utils.config import Settings, to_dict
from advmix.utils.device import environment, make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder, read_json, write_json
from advmix.utils.progress import console
from advmix.utils.torch_tools import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SETTINGS = (
    *(replace(FINEST, radius=r, step_size=r / 2, step="sign") for r in (0.25, 0.5, 1.0, 1.5)),
    *(replace(FINEST, radius=r, step_size=r, step="sign") for r in (0.5, 1.0)),
    *(replace(FINEST, radius=r, step_size=4 * r, step="gradient") for r in (0.25, 0.5, 1.0)),
    replace(FINEST, radius=0.5, step_size=0.1, steps=7),
    replace(FINEST, radius=1.0, step_size=0.2, steps=7),
    replace(FINEST, radius=0.5, step_size=0.25, restarts=2),
    replace(FINEST, radius=0.0, step_size=0.0, steps=0, restarts=3),
)
"""The last one is the best of three random donors: what compute buys without a gradient."""


@dataclass(frozen=True)
class SweepConfig(Settings):
    """Try settings of Algorithm 1 on held-out training digits.

    Args:
        color_std: of the training colours.
        seeds: 100 and up; results use 0, 1, 2.
        out: folder for sweep.json; what is there already is not done again.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    color_std: float = 0.1
    seeds: tuple[int, ...] = (100, 101, 102)
    out: Path = Path("results/sweep")
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class HeldOutDigits(ColoredDigits):
    """Training digits alone, two thirds to train on and the rest to test on."""

    @cached_property
    def gray_train(self) -> GrayDigits:
        """The first two thirds."""
        return self._part(train=True)

    @cached_property
    def gray_test(self) -> GrayDigits:
        """The last third."""
        return self._part(train=False)

    def _part(self, train: bool) -> GrayDigits:
        whole = self._gray("train", self.config.train_images)
        cut = 2 * len(whole.labels) // 3
        part = slice(0, cut) if train else slice(cut, None)
        return whole[part]


def apart_colors(count: int, rng: torch.Generator) -> Tensor:
    """`(count, 3)` bright colours, each one as far as possible from those before it among 512 random ones."""
    pool = uniform_colors(512, rng)
    chosen = pool[:1]
    while len(chosen) < count:
        distance = torch.cdist(pool, chosen).min(dim=1).values
        chosen = torch.cat([chosen, pool[distance.argmax()][None]])
    return chosen


def run_sweep(config: SweepConfig) -> dict[str, Any]:
    """Every setting under every seed; writes `sweep.json` after each run."""
    fabric = make_fabric(config.device)
    path = config.out / "sweep.json"
    runs = _earlier_runs(path, config)
    for seed in config.seeds:
        data = HeldOutDigits(
            DataConfig(color_std=config.color_std), seed, apart_colors(10, generator(seed, "sweep", "means"))
        )
        methods = [("nominal", FINEST), ("randmix", FINEST)]
        wanted = [*methods, *(("advmix", setting) for setting in SETTINGS)]
        missing = [key for key in wanted if not any(_same(run, seed, *key) for run in runs)]
        if not missing:
            continue
        model, pool = _fit(data, seed, fabric)
        for method, setting in missing:
            runs.append(_run(method, setting, data, seed, model, pool, fabric))
            make_folder(path.parent, parents=True)
            write_json(path, _summary(config, runs))
    return _summary(config, runs)


def _earlier_runs(path: Path, config: SweepConfig) -> list[dict[str, Any]]:
    """What an earlier, stopped sweep of the same kind has done."""
    if not path.is_file():
        return []
    earlier = read_json(path)
    if earlier["config"]["color_std"] != config.color_std:
        raise UserError(f"{path}: a sweep at color_std {earlier['config']['color_std']}; choose another --out")
    runs: list[dict[str, Any]] = earlier["runs"]
    return runs


def _same(run: dict[str, Any], seed: int, method: str, setting: SearchOptions) -> bool:
    return bool(run["seed"] == seed and run["method"] == method and run["search"] == to_dict(setting))


def _fit(data: ColoredDigits, seed: int, fabric: Fabric) -> tuple[Autoencoder, Latents]:
    trainee = AutoencoderTrainee(data.train, FitOptions(), seed, fabric)
    Loop(f"seed {seed}: fit", FitOptions().steps(16)).train(trainee)
    model = trainee.model.requires_grad_(False).eval()
    with torch.no_grad():
        return model, model.encoder(data.train.batch(slice(None))[0].to(fabric.device))


def _run(
    method: str,
    setting: SearchOptions,
    data: ColoredDigits,
    seed: int,
    model: Autoencoder,
    pool: Latents,
    fabric: Fabric,
) -> dict[str, Any]:
    recipe = make_recipe(method, data, seed, setting, BaselineOptions(), FittedModel(model, pool, {}, Path()))
    trainee = ClassifierTrainee(recipe.network, recipe.objective, recipe.images, TrainOptions(), seed, fabric)
    Loop(f"seed {seed}: {method} {setting}", TrainOptions().steps(recipe.images)).train(trainee)
    unbiased = accuracy(recipe.network, data.shuffled, fabric.device)
    recolored = share(recolor_worst(recipe.network, data.gray_test, data.look, data.look.grid(), fabric.device))
    return {
        "method": method,
        "seed": seed,
        "search": to_dict(setting),
        "accuracy_shuffled": unbiased,
        "accuracy_recolor_worst": recolored,
        "score": (unbiased + recolored) / 2,
    }


def _summary(config: SweepConfig, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """All runs, and each setting's mean score, best first."""
    settings: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        settings.setdefault(f"{run['method']} {run['search']}", []).append(run)
    means = [
        {
            "method": group[0]["method"],
            "search": group[0]["search"],
            "seeds": len(group),
            "mean_score": sum(run["score"] for run in group) / len(group),
        }
        for group in settings.values()
    ]
    means.sort(key=lambda row: -row["mean_score"])
    return {"config": to_dict(config), "environment": environment(), "settings": means, "runs": runs}


def main() -> None:
    """Run the sweep and print the settings, best first."""
    results = run_sweep(tyro.cli(SweepConfig, config=(tyro.conf.OmitArgPrefixes,)))
    for row in results["settings"]:
        console.print(f"{row['mean_score']:.4f} {row['method']} {row['search'] if row['method'] == 'advmix' else ''}")


if __name__ == "__main__":
    main()
