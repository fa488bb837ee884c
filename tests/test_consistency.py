"""Consistency with unlabelled images, beside a literal reference."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet
from advmix.training.classify import flipped
from advmix.training.consistency import Consistency
from advmix.training.objectives import Batch, Nominal
from advmix.utils.torch_tools import generator, global_seed
from pictures import scenes

CLASSES = ("a", "b", "c")


def negative(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
    """A view that anybody can compute."""
    return 1 - images


def same(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
    return images


@pytest.fixture
def unlabelled() -> ImageSet:
    return ImageSet((scenes(12, 3, 8) * 255).byte(), torch.zeros(12, dtype=torch.int64), CLASSES)


@pytest.fixture
def network() -> nn.Module:
    with global_seed(3):
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))


def batch() -> Batch:
    return Batch(scenes(6, 3, 8, seed=1), torch.arange(6) % 3, torch.arange(6))


def labelled_loss(network: nn.Module) -> Tensor:
    return F.cross_entropy(network(batch().images), batch().labels)


@torch.no_grad()
def reference(network: nn.Module, unlabelled: ImageSet, count: int, threshold: float | None) -> float:
    """The disagreement, image by image."""
    rng, total, network = generator(0), 0.0, copy.deepcopy(network)
    images = flipped(unlabelled.batch(torch.randint(12, (count,), generator=rng))[0], rng)
    network.eval()
    wanted = network(images).softmax(dim=1).tolist()
    network.train()
    for share, seen in zip(wanted, network(1 - images).log_softmax(dim=1).tolist(), strict=True):
        if threshold is None:
            total += sum(p * (math.log(p) - q) for p, q in zip(share, seen, strict=True))
        elif max(share) >= threshold:
            total -= seen[share.index(max(share))]
    return total / count


@pytest.mark.parametrize("threshold", [0.0, 0.4, None])
def test_loss_is_that_of_the_papers(network: nn.Module, unlabelled: ImageSet, threshold: float | None) -> None:
    expected = reference(network, unlabelled, 7, threshold)
    objective = Consistency(Nominal(), unlabelled, negative, batch=7, weight=0.5, threshold=threshold)
    assert expected > 0.01
    assert objective(network, batch(), generator(0)).item() == pytest.approx(
        labelled_loss(network).item() + 0.5 * expected, rel=1e-4
    )


def test_images_that_are_not_certain_do_not_count(network: nn.Module, unlabelled: ImageSet) -> None:
    loss = Consistency(Nominal(), unlabelled, negative, threshold=1.0)(network, batch(), generator(0))
    assert loss.item() == labelled_loss(network).item()


def test_labels_of_unlabelled_images_are_not_looked_at(network: nn.Module, unlabelled: ImageSet) -> None:
    others = ImageSet(unlabelled.pixels, torch.arange(12) % 3, CLASSES)
    losses = [
        Consistency(Nominal(), images, negative, threshold=0.0)(network, batch(), generator(0)).item()
        for images in (unlabelled, others)
    ]
    assert losses[0] == losses[1]


def test_what_is_said_of_the_image_is_a_constant(unlabelled: ImageSet) -> None:
    with global_seed(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    loss = Consistency(Nominal(), unlabelled, same, threshold=None)(network, batch(), generator(0))
    labelled = labelled_loss(network)
    assert loss.item() == pytest.approx(labelled.item(), abs=1e-6)
    for found, expected in zip(
        torch.autograd.grad(loss, list(network.parameters())),
        torch.autograd.grad(labelled, list(network.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_view_gets_the_mirrored_images_and_the_classifier(network: nn.Module, unlabelled: ImageSet) -> None:
    seen: list[tuple[nn.Module, Tensor]] = []

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        seen.append((classifier, images))
        return images

    for flip in (False, True):
        Consistency(Nominal(), unlabelled, view, batch=5, flip=flip)(network, batch(), generator(0))
    rng = generator(0)
    images = unlabelled.batch(torch.randint(12, (5,), generator=rng))[0]
    assert all(classifier is network for classifier, _ in seen)
    torch.testing.assert_close(seen[0][1], images)
    torch.testing.assert_close(seen[1][1], flipped(images, rng))
    assert not torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("wrong", [{"batch": 1}, {"weight": -1.0}, {"threshold": 1.1}])
def test_values_out_of_range_are_refused(unlabelled: ImageSet, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        Consistency(Nominal(), unlabelled, same, **wrong)
