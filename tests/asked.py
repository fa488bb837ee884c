"""Small networks of somebody's, and a way to open them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator, global_seed

IMAGES = torch.rand(5, 3, 16, 16, generator=generator(0))
NAMES = ("cat", "dog", "fish")


class Net(nn.Module):
    """Averages of quadrants to three logits, answered with as `answer` says."""

    def __init__(self, answer: Callable[[Tensor], Any] = lambda logits: logits, outputs: int = 3) -> None:
        super().__init__()
        with global_seed(3):
            self.pool, self.linear = nn.AdaptiveAvgPool2d(2), nn.Linear(12, outputs)
        self.answer = answer

    def logits(self, images: Tensor) -> Tensor:
        return 9 * self.linear(self.pool(images).flatten(1))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Any:
        return self.answer(self.logits(images))


Named = Callable[[nn.Module], str]


def opened(name: str, labels: tuple[str, ...] | None = NAMES, image: Any = (3, 16, 16), **options: Any) -> Any:
    return open_classifier(ClassifierOptions(name, **options), labels, image)


def refusal(name: str, labels: tuple[str, ...] | None = NAMES, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        opened(name, labels, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class MakesGrey(nn.Module):
    """Its first convolution takes a single channel, and it takes three."""

    def __init__(self) -> None:
        super().__init__()
        with global_seed(5):
            self.net = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
            )

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = images.unbind(dim=1)
        return self.net((red + green + blue)[:, None])  # type: ignore[no-any-return]
