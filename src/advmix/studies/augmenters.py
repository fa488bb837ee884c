"""Augmentations as functions of the same images: torchvision's, a pixel attack, recolouring, and the mixers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advmix.data import Look, slices, to_bytes, to_float
from advmix.mixing import Mixer, RandMix
from advmix.seeds import derive, generator, global_seed
from advmix.stages.sources import Mixable
from advmix.training.attacks import pgd
from advmix.training.methods import BaselineOptions, SearchOptions

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
    look: Look
    mixable: Mixable
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
    return _mixed(scene, scene.search.mixer(scene.mixable.model))


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
