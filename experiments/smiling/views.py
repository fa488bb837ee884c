"""Views of images, by name: what a consistency loss compares, and what supervised methods train on beside an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from advmix.data.images import ImageSet, to_bytes, to_float
from advmix.training.classify import flipped
from advmix.training.consistency import View
from advmix.training.objectives import Batch, WithCopy
from advmix.transforms import AdversarialStyle, RandomStyle
from advmix.utils.torch_tools import draw_seed, eval_mode, global_seed

TOGETHER = 4
"""Images that share what a transform of torchvision draws: a step takes a quarter of the time that it takes with a draw
for each, and still has dozens of draws.
"""


def generator_of(name: str) -> str:
    """The ready-made generator of a mixing method: `randmix`, `randmix-photo`."""
    return "photo" if name.endswith("-photo") else "statistics"


def transformed(transform: Callable[[Tensor], Tensor]) -> View:
    """A transform of torchvision for images of bytes, as a view."""

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        with global_seed(draw_seed(rng)):
            parts = [transform(part) for part in to_bytes(images).cpu().split(TOGETHER)]
        return to_float(torch.cat(parts)).to(images.device)

    return view


def mirrored(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
    """Mirrored at random, no more: what the unlabelled images are worth by themselves."""
    return flipped(images, rng)


def random_mix(pool: ImageSet, generator: str) -> View:
    """RandMix: the style of a random image of the pool."""
    style = RandomStyle(p=1.0, pool=pool, generator=generator)

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        with global_seed(draw_seed(rng)):
            mixed: Tensor = style(images)
        return mixed

    return view


def adversarial_mix(pool: ImageSet, generator: str) -> View:
    """AdvMix: the style near that of a random image of the pool that is most against the classifier's own answer."""
    style = AdversarialStyle(pool=pool, generator=generator)

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad(), eval_mode(classifier) as (model,):
            answers = model(images).argmax(dim=1)
        with global_seed(draw_seed(rng)):
            return style(classifier, images, answers)

    return view


def half_and_half(first: View, second: View) -> View:
    """One view of the first half of the images, another one of the second."""

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        ours, theirs = images.chunk(2)
        return torch.cat([first(classifier, ours, rng), second(classifier, theirs, rng)])

    return view


def make_view(name: str, pool: ImageSet, jitter: float) -> View:
    """A view by its name.

    Args:
        name: `flip`, mirrored at random and no more; `randaugment`; `jitter`; `randmix`, `advmix`, also with `-photo`;
            `half`, of RandAugment and RandMix.
        pool: images whose styles mixes borrow.
        jitter: strength of the colour jitter.
    """
    if name == "flip":
        return mirrored
    if name == "randaugment":
        return transformed(v2.RandAugment())
    if name == "jitter":
        return transformed(v2.ColorJitter(jitter, jitter, jitter, jitter))
    if name == "half":
        return half_and_half(make_view("randaugment", pool, jitter), make_view("randmix", pool, jitter))
    mix = random_mix if name.startswith("randmix") else adversarial_mix
    return mix(pool, generator_of(name))


class Viewed(WithCopy):
    """The copy that is trained on beside an image is a view of it.

    Args:
        view: which.
    """

    def __init__(self, view: View) -> None:
        super().__init__(together=True)
        self.view = view

    def copy(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """The views."""
        return self.view(classifier, batch.images, rng)
