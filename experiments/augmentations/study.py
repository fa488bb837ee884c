"""`python -m experiments augmentations`: what usual augmentations, pixel attacks and mixing do to the same images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from advmix.commands.evaluate import generator_summary
from advmix.data.colored import ColoredDigits
from advmix.data.digits import Painting
from advmix.data.images import slices, to_bytes, to_float
from advmix.metrics import share
from advmix.mixing import Mixer, RandMix, SearchOptions
from advmix.pools import FittedModel
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.training.methods import BaselineOptions
from advmix.training.objectives import pgd
from advmix.utils.config import check_values
from advmix.utils.device import open_device
from advmix.utils.files import write_json
from advmix.utils.progress import console, track
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import derive, eval_mode, generator, global_seed
from experiments.augmentations.figures import Augmented, augmentations_page
from experiments.cells import REFERENCE, Cell, OneSpreadSettings, check_seeds
from experiments.controls import check_method


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
        check_values(self, "images", least=1)
        check_values(self, "measured", least=2)
        check_seeds(self.seeds)


def run_augmentations(config: AugmentationsConfig) -> dict[str, Any]:
    """Make the parts of the cells that are not there, augment, measure, draw; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    device = open_device(config.device)
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
    with eval_mode(classifier) as (model,):
        return torch.cat([model(part).argmax(dim=1) for part in images.split(500)])


BATCH = 250


@dataclass(frozen=True, eq=False)
class Scene:
    """N images with all that the augmentations need; `gray` on the CPU, the rest on one device.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        labels: `(N,)`.
        classes: class names.
        gray: the same digits without colour, `(N, 1, H, W)` uint8.
        look: how digits are painted.
        mixable: generator, encoder and pool; the images are not in the pool.
        attacked: the classifier that adversarial augmentations attack.
        search: Algorithm 1's settings.
        baseline: settings of mixup and l_inf.
        seed: fixes all draws.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    gray: Tensor
    look: Painting
    mixable: FittedModel
    attacked: nn.Module
    search: SearchOptions
    baseline: BaselineOptions
    seed: int

    def batches(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Place, images and labels."""
        for part in slices(len(self.labels), BATCH):
            yield part, self.images[part], self.labels[part]


Augmenter = Callable[[Scene], Tensor]

"""All images of a scene, `(N, 3, H, W)` in [0, 1]."""


def mixup(scene: Scene) -> Tensor:
    """torchvision's `MixUp` with another one of the images."""
    from torchvision.transforms.v2 import MixUp

    return _in_pairs(scene, MixUp(num_classes=len(scene.classes), alpha=scene.baseline.mixup_alpha), "mixup")


def cutmix(scene: Scene) -> Tensor:
    """torchvision's `CutMix` with another one of the images."""
    from torchvision.transforms.v2 import CutMix

    return _in_pairs(scene, CutMix(num_classes=len(scene.classes)), "cutmix")


def erasing(scene: Scene) -> Tensor:
    """torchvision's `RandomErasing`, of every image."""
    from torchvision.transforms.v2 import RandomErasing

    return _one_by_one(scene, RandomErasing(p=1.0), "erasing")


def augmix(scene: Scene) -> Tensor:
    """torchvision's `AugMix`, which wants bytes."""
    from torchvision.transforms.v2 import AugMix

    transform = AugMix()
    return _one_by_one(scene, lambda image: to_float(transform(to_bytes(image))[None])[0], "augmix")


def _in_pairs(scene: Scene, transform: Callable[[Tensor, Tensor], Any], name: str) -> Tensor:
    """A transform of batches, given each image with a random other one, so that every image has its own draw."""
    images, labels, count = scene.images.cpu(), scene.labels.cpu(), len(scene.labels)
    others = torch.randint(count - 1, (count,), generator=generator(scene.seed, "augmentations", name))
    others += (others >= torch.arange(count)).long()

    def first_of_two(index: int) -> Tensor:
        pair = torch.tensor([index, int(others[index])])
        mixed: Tensor = transform(images[pair], labels[pair])[0][0]
        return mixed

    return _seeded(scene, first_of_two, name)


def _one_by_one(scene: Scene, transform: Callable[[Tensor], Tensor], name: str) -> Tensor:
    images = scene.images.cpu()
    return _seeded(scene, lambda index: transform(images[index]), name)


def _seeded(scene: Scene, transform: Callable[[int], Tensor], name: str) -> Tensor:
    """Each image under a seed of its own. On the CPU: torchvision draws from the global generator of the device."""
    found = []
    for index in range(len(scene.labels)):
        with global_seed(derive(scene.seed, "augmentations", name, index)):
            found.append(transform(index))
    return torch.stack(found).to(scene.images).contiguous(memory_format=torch.channels_last)


def linf(scene: Scene) -> Tensor:
    """Every pixel moved within a small bound, to hurt the attacked classifier most."""
    attack: dict[str, Any] = {"radius": scene.baseline.linf_radius, "steps": scene.baseline.linf_steps}
    parts = [
        pgd(scene.attacked, images, labels, rng=generator(scene.seed, "augmentations", "linf", part.start), **attack)
        for part, images, labels in scene.batches()
    ]
    return torch.cat(parts)


@torch.no_grad()
def reconstruction(scene: Scene) -> Tensor:
    """`dec(enc(x))`: what of a mix's change is only the generator's error."""
    model = scene.mixable.model
    return torch.cat([model.generator(model.encoder(images)) for _, images, _ in scene.batches()])


def randmix(scene: Scene) -> Tensor:
    """The `z⊥` of a random training image."""
    model = scene.mixable.model
    return _mixed(scene, RandMix(model.generator, scene.search.split(model.generator.layers)))


def advmix(scene: Scene) -> Tensor:
    """The `z⊥` found from the same start to hurt the attacked classifier most."""
    return _mixed(scene, scene.search.mixer(scene.mixable.generator))


def _mixed(scene: Scene, mixer: Mixer) -> Tensor:
    pool, parts = scene.mixable.pool, []
    for part, images, labels in scene.batches():
        rng = generator(scene.seed, "augmentations", "donors", part.start)
        latents = scene.mixable.model.encoder(images).detach()
        parts.append(mixer(scene.attacked, latents, labels, pool, rng=rng).images)
    return torch.cat(parts)


def recolor(scene: Scene) -> Tensor:
    """The same digit in random paint: an exact change of `z⊥`, by somebody who knows what it is."""
    paints = scene.look.anything(len(scene.gray), generator(scene.seed, "augmentations", "recolor"))
    return scene.look.paint(scene.gray.float() / 255, paints).to(scene.images)


AUGMENTERS: dict[str, Augmenter] = {
    "mixup": mixup,
    "cutmix": cutmix,
    "erasing": erasing,
    "augmix": augmix,
    "linf": linf,
    "reconstruction": reconstruction,
    "randmix": randmix,
    "advmix": advmix,
    "recolor": recolor,
}
