"""`python -m experiments toy`: the paper's toy example, 200 points in the plane, where the true decoder is known.

`x1 ~ N(z⊥, √3)` with `z⊥` in {0, 10}, `x2 ~ N(z∥, 1)` with `z∥ = 20 y`. Our readings: √3 is the standard deviation
(as 1 is), and how `z⊥` goes together with `y` in training, which the description leaves open, is `--agreement`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advmix.classifiers.wrapper import Classifier
from advmix.mixing import SearchOptions
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.training.objectives import Batch, Mixing, Mixup, Nominal, Objective
from advmix.utils.config import Settings, check_values
from advmix.utils.device import one_thread, tune_cpu
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.progress import console, track
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import generator, global_seed
from experiments.toy.figures import Fitted, draw, toy_table
from experiments.toy.plane import PlaneDecoder, Points, encode, mixers, sample, to_images

METHODS = ("nominal", "mixup", "randmix", "advmix")
MODELS = ("mlp", "logistic")
SCALINGS = ("each", "common")
SHIFTS = tuple(range(0, 31, 2))
WORST_POINTS = 250


@dataclass(frozen=True)
class ToyConfig(Settings):
    """The paper's toy example: each method's samples, decision boundary, and accuracy where z⊥ turns against the label.

    Takes half a minute on one core; one that was stopped begins anew.

    Args:
        agreement: share of the training points whose z⊥ is the one that goes with their label, one setting each;
            0.5: z⊥ says nothing, 1: it gives the label away.
        models: `mlp` (two hidden layers of 32, ReLU), `logistic` (regression).
        scaling: of the classifiers' inputs: `each` coordinate by its own standard deviation, as usual, or both by a
            `common` one, which leaves the plane its shape: then x2, twice as wide, is the easier one to read.
        seeds: every one fixes the training points, first weights and all else that is random.
        points: in training.
        test_points: fresh ones, for every test.
        train_steps: of Adam, the same for every method.
        batch: points per step.
        lr: peak learning rate, one cycle; the default is the lowest of 0.01, 0.03 and 0.1 at which all default runs
            get all their training points right.
        clean_weight: weight of the clean points' loss beside that of the mixes, in [0, 1].
        mixup_alpha: of mixup's Beta distribution.
        search: Algorithm 1's settings; layer 0 is z∥, layer 1 is z⊥.
        out: folder for results and figures.
    """

    agreement: tuple[float, ...] = (0.5, 1.0)
    models: tuple[str, ...] = MODELS
    scaling: str = "each"
    seeds: tuple[int, ...] = (0, 1, 2)
    points: int = 200
    test_points: int = 1000
    train_steps: int = 100
    batch: int = 64
    lr: float = 0.03
    clean_weight: float = 0.5
    mixup_alpha: float = 1.0
    search: SearchOptions = field(default_factory=lambda: SearchOptions(perp=(1,)))
    out: Path = Path("runs/study/toy")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "points test_points", least=2)
        check_values(self, "train_steps batch", least=1)
        check_values(self, "lr mixup_alpha", above=0)
        check_values(self, "clean_weight", within=(0, 1))
        for share in self.agreement:
            if not 0 <= share <= 1:
                raise UserError(f"--agreement {share}: must be between 0 and 1")
        for model in self.models:
            if model not in MODELS:
                raise UserError(f"--models {model}: unknown; choose from {' '.join(MODELS)}")
        if self.scaling not in SCALINGS:
            raise UserError(f"--scaling {self.scaling}: unknown; choose from {' '.join(SCALINGS)}")
        for flag in ("agreement", "models", "seeds"):
            values = getattr(self, flag)
            if not values or len(set(values)) < len(values):
                raise UserError(f"--{flag} {' '.join(map(str, values))}: name at least one, and none twice")
        self.search.split(PlaneDecoder.layers)


@one_thread()
def run_toy(config: ToyConfig) -> dict[str, Any]:
    """Train and test everything; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    tune_cpu()
    claim_run(config.out, "study toy", config, resume=True, inputs={})
    begun = time.monotonic()
    fitted = list(_fit_all(config))
    trained = time.monotonic()
    runs = [run | _tests(config, found) for run, found in fitted]
    tested = time.monotonic()
    figures = draw([found for _, found in fitted], runs, SHIFTS, config.search, config.mixup_alpha)
    save_figures(figures, config.out / "figures")
    results = {
        **header("study toy", config),
        "phases": {
            "train": round(trained - begun, 2),
            "test": round(tested - trained, 2),
            "report": round(time.monotonic() - tested, 2),
        },
        "shifts": list(SHIFTS),
        "runs": runs,
    }
    write_json(config.out / RESULTS, results)
    console.print(toy_table(runs))
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


def _fit_all(config: ToyConfig) -> Iterator[tuple[dict[str, Any], Fitted]]:
    keys = list(product(config.agreement, config.models, METHODS, config.seeds))
    with track("train", len(keys)) as advance:
        for agreement, model, method, seed in keys:
            points = sample(config.points, agreement, generator(seed, "toy", "train"))
            begun = time.monotonic()
            network = fit(config, model, method, points, seed)
            run = {"method": method, "model": model, "agreement": agreement, "seed": seed}
            run["train_seconds"] = round(time.monotonic() - begun, 2)
            advance(1, f"{model}, {method}")
            yield run, Fitted(method, model, agreement, seed, points, network)


def fit(config: ToyConfig, model: str, method: str, points: Points, seed: int) -> nn.Module:
    """A classifier of points-as-images, trained by a method with Adam, one cycle; in eval mode.

    Raises:
        UserError: the loss is not finite.
    """
    network, objective = make_network(model, points, seed, config.scaling), make_objective(config, method, points)
    images, batch = to_images(points.plane), min(config.batch, len(points))
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=max(config.train_steps, 2))
    for step in range(config.train_steps):
        rng = generator(seed, "toy", "step", step)
        index = torch.randperm(len(points), generator=rng)[:batch]
        loss = objective(network.train(), Batch(images[index], points.labels[index], index), rng)
        if not torch.isfinite(loss):
            raise UserError(
                f"--lr {config.lr}: the loss of {method} is not finite at step {step}; choose a smaller one"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return network.eval()


def make_network(model: str, points: Points, seed: int, scaling: str = "each") -> Classifier:
    """`mlp` or `logistic`, behind a scaling by the training points."""
    images = to_images(points.plane)
    with global_seed(seed):
        if model == "logistic":
            network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
        else:
            hidden = [nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]
            network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(32, 2))
    std = images.std(dim=(0, 2, 3))
    if scaling == "common":
        std = std.square().mean().sqrt().expand(2)
    return Classifier(network, images.mean(dim=(0, 2, 3)).tolist(), std.tolist())


def make_objective(config: ToyConfig, method: str, points: Points) -> Objective:
    """What each step minimises: the same objectives as everywhere else, over the true decoder."""
    if method in ("randmix", "advmix"):
        return Mixing(mixers(config.search)[method], encode(to_images(points.plane)), config.clean_weight)
    return Mixup(2, config.mixup_alpha) if method == "mixup" else Nominal()


def _tests(config: ToyConfig, found: Fitted) -> dict[str, Any]:
    """Accuracies on fresh points, the same ones for every method of a seed."""

    def fresh(agreement: float) -> Points:
        return sample(config.test_points, agreement, generator(found.seed, "toy", "test"))

    as_trained = fresh(found.agreement)
    return {
        "accuracy_train": accuracy(found.network, found.points),
        "accuracy_biased": accuracy(found.network, as_trained),
        "accuracy_unbiased": accuracy(found.network, fresh(0.5)),
        "accuracy_reversed": accuracy(found.network, fresh(1 - found.agreement)),
        "accuracy_worst_pool": worst_over_pool(found.network, as_trained[:WORST_POINTS], found.points),
        "accuracy_shifted": [accuracy(found.network, as_trained.shifted(shift)) for shift in SHIFTS],
    }


@torch.no_grad()
def accuracy(network: nn.Module, points: Points) -> float:
    """Share of right answers, in [0, 1]."""
    return float((network(to_images(points.plane)).argmax(dim=1) == points.labels).double().mean())


@torch.no_grad()
def worst_over_pool(network: nn.Module, points: Points, pool: Points) -> float:
    """Share of points that are right under *every* `x1` of the pool: the semantic adversarial risk over D⊥, exact."""
    plane = points.plane[:, None].repeat(1, len(pool), 1)
    plane[..., 0] = pool.plane[:, 0]
    answers = network(to_images(plane.flatten(0, 1))).argmax(dim=1).view(len(points), -1)
    return float((answers == points.labels[:, None]).all(dim=1).double().mean())
