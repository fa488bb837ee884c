"""What peers take for the same work: a random change of an image, and a step of an attack on a classifier.

python benchmarks/peers.py --out results/benchmarks

Each in its own idiom: whole batches where a library takes them, else image by image. Peers are not installed with
advmix: `pip install foolbox kornia albumentations`, and `pip install --no-deps torchattacks`, which wants an old
`requests` otherwise. One that is missing is left out, which is said. One core: `OMP_NUM_THREADS=1`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.table import Table
from script import run, write_rows
from timing import Work, measure
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.transforms import v2

from advmix.attacks import import_foolbox
from advmix.data.images import to_bytes
from advmix.mixing import Search
from advmix.transforms import AdversarialStyle, RandomStyle
from advmix.utils.config import check_values
from advmix.utils.device import make_fabric
from advmix.utils.progress import console

RADIUS = 8 / 255
"""Of attacks on pixels."""

JITTER = (0.5, 0.5, 0.5, 0.1)


@dataclass(frozen=True)
class PeersConfig:
    """Time advmix beside its peers.

    Args:
        sizes: of images that are augmented, in pixels.
        attack_size: of images that are attacked.
        batch: images at once.
        steps: gradient steps of an attack.
        rounds: how often everything is timed; the median counts.
        device: auto, cpu, cuda, cuda:N or mps.
        out: folder for peers.json.
    """

    sizes: tuple[int, ...] = (64, 224)
    attack_size: int = 64
    batch: int = 32
    steps: int = 10
    rounds: int = 9
    device: str = "auto"
    out: Path = Path("results/benchmarks")

    def __post_init__(self) -> None:
        check_values(self, "batch steps rounds", least=1)
        check_values(self, "attack_size", least=16)


@dataclass(frozen=True)
class Peer:
    """What is timed.

    Args:
        name: in the table.
        package: that must be installed.
        make: from the images `(B, C, H, W)` in [0, 1] to one pass over all of them.
    """

    name: str
    package: str
    make: Callable[[Tensor], Work]


def one_by_one(transform: Callable[[Any], Any], images: list[Any]) -> Work:
    """A transform that takes single images."""
    return lambda: [transform(image) for image in images]


def style(name: str) -> Callable[[Tensor], Work]:
    """Every image of a batch in another style."""

    def make(images: Tensor) -> Work:
        transform = RandomStyle(1.0, "photos", generator=name)
        return lambda: transform(images)

    return make


def style_one_by_one(images: Tensor) -> Work:
    """The same image by image, as in the workers of a loader."""
    return one_by_one(RandomStyle(1.0, "photos"), list(to_bytes(images)))


def torchvision_transform(transform: Callable[[], nn.Module]) -> Callable[[Tensor], Work]:
    """Image by image: on a batch torchvision changes all alike."""
    return lambda images: one_by_one(transform(), list(to_bytes(images)))


def kornia_jitter(images: Tensor) -> Work:
    """A whole batch, each image by itself."""
    from kornia.augmentation import ColorJitter

    transform = ColorJitter(*JITTER, p=1.0)
    return lambda: transform(images)


def albumentations_transform(name: str) -> Callable[[Tensor], Work]:
    """Image by image, in numpy."""

    def make(images: Tensor) -> Work:
        import albumentations

        arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in to_bytes(images).cpu()]
        if name == "FDA":
            transform = albumentations.FDA(beta_limit=(0.05, 0.05), p=1.0)
            lent = arrays[1:] + arrays[:1]
            pairs = list(zip(arrays, lent, strict=True))
            return lambda: [transform(image=image, fda_metadata=[donor]) for image, donor in pairs]
        transform = albumentations.ColorJitter((0.5, 1.5), (0.5, 1.5), (0.5, 1.5), (-0.1, 0.1), p=1.0)
        return lambda: [transform(image=array) for array in arrays]

    return make


AUGMENTATIONS = (
    Peer("RandomStyle, statistics", "advmix", style("statistics")),
    Peer("RandomStyle, statistics, image by image", "advmix", style_one_by_one),
    Peer("RandomStyle, photo", "advmix", style("photo")),
    Peer("torchvision ColorJitter", "torchvision", torchvision_transform(lambda: v2.ColorJitter(*JITTER))),
    Peer("torchvision AugMix", "torchvision", torchvision_transform(v2.AugMix)),
    Peer("kornia ColorJitter", "kornia", kornia_jitter),
    Peer("albumentations ColorJitter", "albumentations", albumentations_transform("ColorJitter")),
    Peer("albumentations FDA", "albumentations", albumentations_transform("FDA")),
)


class Attacks:
    """Attacks of as many gradient steps on one network: each makes a batch that is classified worse."""

    def __init__(self, images: Tensor, steps: int) -> None:
        torch.manual_seed(0)
        self.images, self.steps = images, steps
        self.labels = torch.randint(10, (len(images),), device=images.device)
        self.network = resnet18(num_classes=10).to(images.device).eval()

    def gradients(self) -> None:
        """What none can avoid: as many gradients of the network to its input."""
        for _ in range(self.steps):
            images = self.images.clone().requires_grad_()
            torch.autograd.grad(F.cross_entropy(self.network(images), self.labels), images)

    def styles(self, generator: str) -> Work:
        """One restart of the search, with the styles of free photographs."""
        attack = AdversarialStyle("photos", generator, Search(restarts=1, steps=self.steps))
        return lambda: attack(self.network, self.images, self.labels)

    def foolbox(self) -> Work:
        """Projected gradient descent on pixels."""
        foolbox = import_foolbox()
        model = foolbox.PyTorchModel(self.network, bounds=(0, 1), device=self.images.device)
        attack = foolbox.attacks.LinfPGD(steps=self.steps)
        return lambda: attack(model, self.images, self.labels, epsilons=RADIUS)

    def torchattacks(self) -> Work:
        """The same."""
        import torchattacks

        attack = torchattacks.PGD(self.network, eps=RADIUS, alpha=RADIUS / 4, steps=self.steps)
        return lambda: attack(self.images, self.labels)

    def works(self) -> dict[str, tuple[str, Callable[[], Work]]]:
        """By name: package, and what makes it."""
        return {
            "gradients alone": ("advmix", lambda: self.gradients),
            "AdversarialStyle, statistics": ("advmix", lambda: self.styles("statistics")),
            "AdversarialStyle, photo": ("advmix", lambda: self.styles("photo")),
            "foolbox LinfPGD": ("foolbox", self.foolbox),
            "torchattacks PGD": ("torchattacks", self.torchattacks),
        }


def is_there(package: str) -> bool:
    """Whether a package is installed; says so where it is not."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        console.print(f"  left out: {package} is not installed")
    return found


def random_images(batch: int, size: int, device: torch.device) -> Tensor:
    """Smooth colours, as photographs have: noise would overflow in no transform, but look like none."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 8, 8, generator=rng)
    return F.interpolate(coarse, size=(size, size), mode="bilinear").to(device)


def augmentation_rows(config: PeersConfig, device: torch.device) -> list[dict[str, Any]]:
    """Images a second of every augmentation at every size."""
    peers = [peer for peer in AUGMENTATIONS if is_there(peer.package)]
    rows = []
    for size in config.sizes:
        images = random_images(config.batch, size, device)
        seconds = measure({peer.name: peer.make(images) for peer in peers}, config.rounds, device)
        ours = seconds[AUGMENTATIONS[0].name]
        for name, value in seconds.items():
            rate = config.batch / value
            rows.append({"kind": "augmentation", "name": name, "size": size, **_row(rate, value / ours)})
    return rows


def attack_rows(config: PeersConfig, device: torch.device) -> list[dict[str, Any]]:
    """Images a second of every attack."""
    attacks = Attacks(random_images(config.batch, config.attack_size, device), config.steps)
    made = {name: make() for name, (package, make) in attacks.works().items() if is_there(package)}
    seconds = measure(made, config.rounds, device)
    floor = seconds["gradients alone"]
    return [
        {"kind": "attack", "name": name, "size": config.attack_size, **_row(config.batch / value, value / floor)}
        for name, value in seconds.items()
    ]


def _row(rate: float, times: float) -> dict[str, float]:
    return {"images_per_second": rate, "times_reference": times}


def main() -> None:
    """Time, print, write."""
    config = tyro.cli(PeersConfig)
    device = make_fabric(config.device).device
    rows = [*augmentation_rows(config, device), *attack_rows(config, device)]
    write_rows(config.out, "peers", rows, batch=config.batch, steps=config.steps, rounds=config.rounds)
    table = Table("", "", "pixels", "images/s", "times")
    for row in rows:
        numbers = f"{row['images_per_second']:.0f}", f"{row['times_reference']:.2f}"
        table.add_row(row["kind"], row["name"], str(row["size"]), *numbers)
    console.print(table)


if __name__ == "__main__":
    run(main)
