"""What a random style costs: a training step of ResNet-18 with it, as a multiple of the step alone.

python benchmarks/augmentation.py --out results/benchmarks

With the styles of 2,000 images: half of a batch is changed, as by default, or all of it; or half of the images one by
one, as workers of a loader do it, but in the process of the loop. Beside them a step on the images of
`AdversarialStyle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.table import Table
from script import run, write_rows
from timing import Work, measure
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import resnet18

from advmix.latents import Latents
from advmix.transforms import AdversarialStyle, RandomStyle, open_styles
from advmix.utils.config import check_values
from advmix.utils.device import make_fabric
from advmix.utils.progress import console

POOL = 2000


@dataclass(frozen=True)
class AugmentationConfig:
    """Time a step with and without styles.

    Args:
        generators: `statistics`, `statistics:KIND`, `photo` or folders of generators.
        size: of the images, in pixels.
        batch: images per step.
        rounds: how often everything is timed; the median counts.
        device: auto, cpu, cuda, cuda:N or mps.
        out: folder for augmentation.json.
    """

    generators: tuple[str, ...] = ("statistics", "photo")
    size: int = 64
    batch: int = 64
    rounds: int = 9
    device: str = "auto"
    out: Path = Path("results/benchmarks")

    def __post_init__(self) -> None:
        check_values(self, "batch rounds", least=1)
        check_values(self, "size", least=16)


class Training:
    """A network, its optimiser, and one batch."""

    def __init__(self, config: AugmentationConfig, device: torch.device) -> None:
        torch.manual_seed(0)
        self.images = torch.rand(config.batch, 3, config.size, config.size, device=device)
        self.labels = torch.randint(10, (config.batch,), device=device)
        self.network = resnet18(num_classes=10).to(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 1e-3)

    def works(self, generators: tuple[str, ...]) -> dict[tuple[str, str], Work]:
        """What is timed, by generator and use."""
        works: dict[tuple[str, str], Work] = {("", "step"): lambda: self.step(self.images)}
        for name in generators:
            works |= {(name, use): work for use, work in self._with(name).items()}
        return works

    def _with(self, generator: str) -> dict[str, Work]:
        few = open_styles(self.images.cpu(), generator).pool
        assert few is not None
        pool = Latents(few.styles[torch.randint(len(few), (POOL,))])
        half, whole = (RandomStyle(p, pool, generator=generator) for p in (0.5, 1.0))
        worst = AdversarialStyle(pool, generator)
        return {
            "half of the batch": lambda: self.step(half(self.images)),
            "all of the batch": lambda: self.step(whole(self.images)),
            "one by one": lambda: self.step(torch.stack([half(image) for image in self.images])),
            "adversarial": lambda: self.step(worst(self.network, self.images, self.labels)),
        }

    def step(self, images: Tensor) -> None:
        """One training step."""
        self.optimizer.zero_grad()
        F.cross_entropy(self.network(images), self.labels).backward()
        self.optimizer.step()


def rows_of(seconds: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """One row for each generator and use."""
    plain = seconds["", "step"]
    return [
        {"generator": name, "use": use, "milliseconds": 1000 * value, "times_step": value / plain}
        for (name, use), value in seconds.items()
    ]


def main() -> None:
    """Time, print, write."""
    config = tyro.cli(AugmentationConfig)
    device = make_fabric(config.device).device
    rows = rows_of(measure(Training(config, device).works(config.generators), config.rounds, device))
    settings = {"classifier": "resnet18", "size": config.size, "batch": config.batch, "pool": POOL}
    write_rows(config.out, "augmentation", rows, **settings, rounds=config.rounds)
    table = Table("generator", "use", "ms", "steps")
    for row in rows:
        table.add_row(row["generator"], row["use"], f"{row['milliseconds']:.0f}", f"{row['times_step']:.2f}")
    console.print(table)


if __name__ == "__main__":
    run(main)
