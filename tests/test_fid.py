"""Distances of generated images, and the classes among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advmix.data.colored import ColoredDigits
from advmix.training.features import PenultimateFeatures, class_shares, frechet_distance
from advmix.utils.torch_tools import global_seed
from tiny import make_classifier


class Numbers(nn.Module):
    """Five features with some correlation."""

    def __init__(self) -> None:
        super().__init__()
        with global_seed(0):
            self.weight = nn.Parameter(torch.randn(3 * 16 * 16, 5, dtype=torch.float64) / 10)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, 16, 16)` to `(B, 5)`."""
        return images.double().flatten(1) @ self.weight


def literal_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Heusel et al. (2017), equation 6, from features `(N, F)`; the root of a product by the root of one factor."""
    means = first.mean(axis=0) - second.mean(axis=0)
    a, b = np.cov(first.T), np.cov(second.T)
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values) @ vectors.T
    common = np.sqrt(np.linalg.eigvalsh(root @ b @ root)).sum()
    return float(means @ means + np.trace(a) + np.trace(b) - 2 * common)


@pytest.fixture(scope="module")
def sets(digits: ColoredDigits) -> tuple[Tensor, Tensor]:
    return digits.train.batch(slice(0, 60))[0], digits.shuffled.batch(slice(0, 50))[0]


def test_distance_equals_the_formula_however_it_is_batched(sets: tuple[Tensor, Tensor]) -> None:
    network = Numbers()
    expected = literal_distance(*(network(images).detach().numpy() for images in sets))
    assert expected > 0.01
    for size in (7, 60):
        found = frechet_distance(sets[0].split(size), sets[1].split(size), network)
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself(sets: tuple[Tensor, Tensor]) -> None:
    assert frechet_distance([sets[0]], sets[0].flip(0).split(20), Numbers()) == pytest.approx(0, abs=1e-6)


def test_features_are_the_last_activations() -> None:
    with global_seed(0):
        maps = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU())
        network = nn.Sequential(*maps, nn.Flatten(), nn.Linear(24, 2))
    images = torch.rand(5, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(PenultimateFeatures(network)(images), maps(images).mean(dim=(2, 3)))
        flat = nn.Sequential(nn.Flatten(), nn.Linear(108, 7), nn.ReLU(), nn.Linear(7, 2))
        torch.testing.assert_close(PenultimateFeatures(flat)(images), flat[:3](images))


def test_shares_count_what_the_classifier_says() -> None:
    classifier, images = make_classifier(), torch.rand(20, 3, 8, 8, dtype=torch.float64)
    answers = [int(classifier.eval()(image[None]).argmax()) for image in images]
    classifier.train()
    shares = class_shares(images.split(6), classifier)
    assert shares.tolist() == pytest.approx([answers.count(index) / 20 for index in range(3)])
    assert len(set(answers)) > 1
    assert classifier.training
