"""Training steps as multiples of a nominal one, each beside its floor, all timed in one run.

python benchmarks/steps.py --out results/benchmarks

The floor of a step is the time of the convolutions and matrix products that it cannot avoid, each timed alone in the
memory format that the step uses: nothing for normalisation, activations, the optimiser or Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.table import Table
from script import run, write_rows
from timing import Work, in_turn, layers_of, measure
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net
from advmix.generators.base import Generator, State
from advmix.generators.style import StyleConfig, StyleGenerator
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, Mixer, RandMix
from advmix.training.autoencode import WIDTHS
from advmix.training.objectives import Batch, Mixing, Nominal, Objective
from advmix.utils.device import make_fabric
from advmix.utils.progress import console


@dataclass(frozen=True)
class BenchmarkConfig:
    """Time one step of each method on the studies' classifier (conv_net, widths 32, 64, 128).

    Args:
        resolutions: image sizes in pixels, 16 or 32.
        batch: images per step.
        rounds: how often everything is timed; the median counts.
        device: auto, cpu, cuda, cuda:N or mps.
        out: folder for steps.json.
    """

    resolutions: tuple[int, ...] = (16, 32)
    batch: int = 64
    rounds: int = 15
    device: str = "auto"
    out: Path = Path("results/benchmarks")


class WithoutPrefix(Generator):
    """The same generator for a search that does not reuse the prefix: every candidate is decoded from the start."""

    def __init__(self, inner: StyleGenerator) -> None:
        super().__init__()
        self.inner = inner
        self.resolution, self.channels, self.layers = inner.resolution, inner.channels, inner.layers

    def prefix(self, latents: Latents, split: Split) -> State:
        return State(latents.styles, latents, split)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        return self.inner.decode_signed(state.split.with_perp(state.latents, perp))


@dataclass(frozen=True)
class Bench:
    """Networks and data of one resolution."""

    generator: StyleGenerator
    split: Split
    classifier: nn.Module
    pool: Latents
    batch: Batch

    @classmethod
    def make(cls, resolution: int, size: int, device: torch.device) -> Bench:
        torch.manual_seed(0)
        config = StyleConfig(resolution=resolution, widths=WIDTHS[resolution])
        generator = StyleGenerator(config).to(device).requires_grad_(False).eval()
        pool = Latents(torch.randn(1024, config.layers, config.style_dim, device=device))
        images = torch.rand(size, 3, resolution, resolution, device=device).contiguous(
            memory_format=torch.channels_last
        )
        batch = Batch(images, torch.randint(10, (size,), device=device), torch.arange(size))
        return cls(generator, Split.fine(config.layers, 2), conv_net(10).to(device), pool, batch)

    def objectives(self) -> dict[str, Objective]:
        """The timed steps."""
        settings: dict[str, Any] = {"step_size": 0.25, "radius": 0.5}
        bare = WithoutPrefix(self.generator)
        mixers: dict[str, Mixer] = {
            "randmix": RandMix(self.generator, self.split),
            "advmix K=2": AdvMix(self.generator, self.split, steps=2, **settings),
            "advmix K=7": AdvMix(self.generator, self.split, steps=7, **settings),
            "advmix K=2, no prefix reuse": AdvMix(bare, self.split, steps=2, **settings),
            "advmix K=7, no prefix reuse": AdvMix(bare, self.split, steps=7, **settings),
        }
        return {"nominal": Nominal(), **{name: Mixing(mixer, self.pool) for name, mixer in mixers.items()}}

    def works(self) -> dict[str, Work]:
        """Everything that is timed, by name: whole steps, searches alone, and the parts of the floors."""
        works: dict[str, Work] = {}
        for name, objective in self.objectives().items():
            works[f"step {name}"] = self._step(objective)
            if isinstance(objective, Mixing) and isinstance(objective.mixer, AdvMix):
                works[f"search {name}"] = self._search(objective.mixer)
        return works | self._floor_parts()

    def _step(self, objective: Objective) -> Work:
        optimizer = torch.optim.Adam(self.classifier.parameters())
        rng = torch.Generator().manual_seed(0)

        def step() -> None:
            self.classifier.train()
            optimizer.zero_grad()
            objective(self.classifier, self.batch, rng).backward()
            optimizer.step()

        return step

    def _search(self, mixer: Mixer) -> Work:
        own = self.pool[self.batch.index.to(self.pool.styles.device)]
        return lambda: mixer(self.classifier, own, self.batch.labels, self.pool, exclude=self.batch.index)

    def _floor_parts(self) -> dict[str, Work]:
        own = self.pool[: len(self.batch.labels)]
        perp = self.split.perp_of(own)
        state = self.generator.prefix(own, self.split)
        prefix = layers_of(self.generator, lambda: self.generator.prefix(own, self.split))
        render = layers_of(self.generator, lambda: self.generator.render(state, perp))
        judge = layers_of(self.classifier, lambda: self.classifier(self.batch.images))
        return {
            "floor prefix": in_turn([layer.forward for layer in prefix]),
            "floor render": in_turn([layer.forward for layer in render]),
            "floor render backward": in_turn([layer.backward(True, False) for layer in render]),
            "floor classifier": in_turn([layer.forward for layer in judge]),
            "floor classifier backward": in_turn([layer.backward(True, False) for layer in judge]),
            "floor training": in_turn([layer.backward(place > 0, True) for place, layer in enumerate(judge)]),
        }


def floor(parts: dict[str, float], copies: int, steps: int | None) -> float:
    """Seconds that a step cannot avoid: `copies` trained batches, and a search of `steps` (None: no mixing at all)."""
    training = copies * (parts["classifier"] + parts["training"])
    if steps is None:
        return training
    if steps == 0:
        return training + parts["prefix"] + parts["render"]
    candidate = parts["render"] + parts["classifier"]
    backward = parts["render backward"] + parts["classifier backward"]
    return training + parts["prefix"] + (steps + 1) * candidate + steps * backward


def report(resolution: int, seconds: dict[str, float]) -> list[dict[str, Any]]:
    """One row for each step: multiples of nominal, of the floor, and of the search without prefix reuse."""
    parts = {name.removeprefix("floor "): value for name, value in seconds.items() if name.startswith("floor ")}
    rows = []
    for name, copies, steps in (("nominal", 1, None), ("randmix", 2, 0), ("advmix K=2", 2, 2), ("advmix K=7", 2, 7)):
        step, least = seconds[f"step {name}"], floor(parts, copies, steps)
        row = {
            "resolution": resolution,
            "step": name,
            "milliseconds": 1000 * step,
            "times_nominal": step / seconds["step nominal"],
            "floor_times_nominal": least / seconds["step nominal"],
            "times_floor": step / least,
            "search_speedup_by_prefix": None,
        }
        if f"search {name}" in seconds:
            row["search_speedup_by_prefix"] = seconds[f"search {name}, no prefix reuse"] / seconds[f"search {name}"]
        rows.append(row)
    return rows


def main() -> None:
    """Time, print, write."""
    config = tyro.cli(BenchmarkConfig)
    fabric = make_fabric(config.device)
    rows: list[dict[str, Any]] = []
    timings = {}
    for resolution in config.resolutions:
        bench = Bench.make(resolution, config.batch, fabric.device)
        timings[str(resolution)] = measure(bench.works(), config.rounds, fabric.device)
        rows += report(resolution, timings[str(resolution)])
    settings = {"classifier": "conv_net", "batch": config.batch, "rounds": config.rounds, "seconds": timings}
    write_rows(config.out, "steps", rows, **settings)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value or "–") for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    run(main)
