"""`advmix study augmentations`: what usual augmentations, pixel attacks and mixing do to the same images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from advmix.audit.evaluate import share
from advmix.data import ColoredDigits
from advmix.engine import make_fabric
from advmix.files import write_json
from advmix.modes import evaluating
from advmix.options import require
from advmix.progress import console, track
from advmix.report import save_figures
from advmix.report.augmentations import Augmented, augmentations_page
from advmix.results import RESULTS, header
from advmix.runs import claim_run
from advmix.stages.evaluate import generator_summary
from advmix.studies.augmenters import AUGMENTERS, Scene
from advmix.studies.cell import Cell
from advmix.studies.settings import REFERENCE, OneSpreadSettings, check_seeds
from advmix.training.methods import check_method


@dataclass(frozen=True)
class AugmentationsConfig(OneSpreadSettings):
    """What mixup, CutMix, random erasing, AugMix, l_inf, RandMix and AdvMix do to the same images, on one page.

    The images are the first test digits, coloured as in training. Goes on where it was stopped.

    Args:
        seeds: every one fixes a training set and all that is trained on it; pictures are of the first.
        attacked: method whose classifier l_inf and AdvMix attack.
        images: shown.
        measured: images behind the numbers.
        out: folder for numbers and figure.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    attacked: str = "nominal"
    images: int = 6
    measured: int = 500
    out: Path = Path("runs/study/augmentations")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method(self.attacked)
        require(self, "images", least=1)
        require(self, "measured", least=2)
        check_seeds(self.seeds)


def run_augmentations(config: AugmentationsConfig) -> dict[str, Any]:
    """Make the parts of the cells that are not there, augment, measure, draw; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    device = make_fabric(config.device).device
    cells = [config.cell(seed, config.data_config()) for seed in config.seeds]
    digits = [cell.check() for cell in cells]
    inputs = {cell.name: data.train.fingerprint for cell, data in zip(cells, digits, strict=True)}
    claim_run(config.out, "study augmentations", config, resume=True, inputs=inputs)
    done = [_one_seed(config, cell, data, device) for cell, data in zip(cells, digits, strict=True)]
    runs = [run for _, _, run in done]
    scene, augmented, _ = done[0]
    save_figures({"augmentations": _page(config, scene, augmented, runs)}, config.out / "figures")
    results = {**header("study augmentations", config), "runs": runs}
    write_json(config.out / RESULTS, results)
    console.print(f"Look at {config.out / 'figures' / 'augmentations.png'} (numbers: {config.out / RESULTS})")
    return results


def _one_seed(
    config: AugmentationsConfig, cell: Cell, data: ColoredDigits, device: torch.device
) -> tuple[Scene, dict[str, Tensor], dict[str, Any]]:
    """Scene, augmented images by name, and an entry of `runs`."""
    begun = time.monotonic()
    scene = make_scene(config, cell, data, device)
    reference = cell.classifier(REFERENCE, device)
    made = time.monotonic()
    augmented = augment(scene)
    return (
        scene,
        augmented,
        {
            "seed": cell.seed,
            "generator": generator_summary(scene.mixable.metadata),
            **measure(scene, augmented, reference),
            "phases": {"parts": round(made - begun, 2), "augment": round(time.monotonic() - made, 2)},
        },
    )


def _page(
    config: AugmentationsConfig, scene: Scene, augmented: Mapping[str, Tensor], runs: Sequence[Mapping[str, Any]]
) -> Figure:
    """The first images of the first seed; the numbers are means over the seeds."""
    shown = min(config.images, len(scene.labels))
    keys = ("pixel_change", "label_kept", "attacked_right")
    rows = [
        Augmented(name, images[:shown], *(fmean(run["augmentations"][name][key] for run in runs) for key in keys))
        for name, images in augmented.items()
    ]
    classes = [scene.classes[label] for label in scene.labels[:shown].tolist()]
    attacked_right = fmean(run["attacked_right"] for run in runs)
    return augmentations_page(scene.images[:shown], classes, rows, config.attacked, attacked_right)


def make_scene(config: AugmentationsConfig, cell: Cell, data: ColoredDigits, device: torch.device) -> Scene:
    """The first test digits, and all that augmentations need."""
    count = min(max(config.images, config.measured), len(data.biased))
    images, labels = data.biased.batch(slice(0, count))
    return Scene(
        images=images.to(device),
        labels=labels.to(device),
        classes=data.biased.classes,
        gray=data.gray_test.pixels[:count],
        look=data.look,
        mixable=cell.mixable(device),
        attacked=cell.classifier(config.attacked, device),
        search=config.search,
        baseline=config.baseline,
        seed=cell.seed,
    )


def augment(scene: Scene) -> dict[str, Tensor]:
    """Every augmentation's images, `(N, 3, H, W)` in [0, 1], by name."""
    found = {}
    with track("augment", len(AUGMENTERS)) as advance:
        for name, augmenter in AUGMENTERS.items():
            found[name] = augmenter(scene)
            advance(1, name)
    return found


def measure(scene: Scene, augmented: Mapping[str, Tensor], reference: nn.Module) -> dict[str, Any]:
    """How much each augmentation changes, whether the reference still sees the label, and who is fooled."""
    known = answers(reference, scene.images) == scene.labels
    return {
        "measured": len(scene.labels),
        "attacked_right": share(answers(scene.attacked, scene.images) == scene.labels),
        "reference_right": share(known),
        "augmentations": {
            name: {
                "pixel_change": round(float((images - scene.images).abs().double().mean()), 5),
                "label_kept": share((answers(reference, images) == scene.labels)[known]),
                "attacked_right": share(answers(scene.attacked, images) == scene.labels),
            }
            for name, images in augmented.items()
        },
    }


@torch.no_grad()
def answers(classifier: nn.Module, images: Tensor) -> Tensor:
    """Predicted classes, `(N,)`."""
    with evaluating(classifier) as (model,):
        return torch.cat([model(part).argmax(dim=1) for part in images.split(500)])
