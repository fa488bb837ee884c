from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from advmix.training.objectives import Norm, pgd, project_ball, random_ball
from advmix.utils.torch_tools import generator as seeded
from tiny import assert_same_state, make_classifier, no_gradients, state_of

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
IMAGES = torch.rand(6, 3, 8, 8, generator=seeded(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def size(delta: Tensor, norm: Norm) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=math.inf if norm == "linf" else 2, dim=1)
    return found


@given(
    norm=st.sampled_from(["linf", "l2"]),
    radius=st.floats(1e-3, 10),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_projection_lands_in_the_ball_and_moves_nothing_inside(
    norm: Norm, radius: float, scale: float, seed: int
) -> None:
    delta = torch.randn(4, 3, 2, 2, generator=seeded(seed), dtype=torch.float64) * scale
    found = project_ball(delta, radius, norm)
    assert (size(found, norm) <= radius * (1 + 1e-12)).all()
    inside = size(delta, norm) <= radius
    torch.testing.assert_close(found[inside], delta[inside])
    torch.testing.assert_close(project_ball(found, radius, norm), found)


@given(st.integers(0, 2**32), st.floats(0.01, 3))
def test_projection_onto_the_l2_ball_keeps_the_direction(seed: int, radius: float) -> None:
    delta = 10 * torch.randn(4, 3, 2, 2, generator=seeded(seed), dtype=torch.float64)
    cosine = F.cosine_similarity(project_ball(delta, radius, "l2").flatten(1), delta.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(4, dtype=torch.float64))


@NORMS
def test_random_start_is_uniform_in_the_ball(norm: str) -> None:
    found = random_ball(torch.Size((4000, 2, 1, 1)), 0.5, cast(Norm, norm), seeded(0))
    sizes = size(found, cast(Norm, norm)) / 0.5
    assert sizes.max() <= 1 + 1e-6
    assert abs(sizes.square().mean() - 0.5) < 0.02
    assert found.flatten(1).mean(0).abs().max() < 0.02


@NORMS
@pytest.mark.parametrize("radius", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_attack_stays_in_the_ball_and_in_range(norm: str, radius: float, steps: int) -> None:
    found = pgd(make_classifier(), IMAGES, LABELS, radius=radius, steps=steps, norm=cast(Norm, norm), rng=seeded(1))
    assert found.shape == IMAGES.shape
    assert found.dtype == IMAGES.dtype
    assert found.min() >= 0
    assert found.max() <= 1
    assert (size(found - IMAGES, cast(Norm, norm)) <= radius + 1e-9).all()
    assert not found.requires_grad


@NORMS
def test_attack_raises_the_loss(norm: str) -> None:
    classifier = make_classifier()
    found = pgd(classifier, IMAGES, LABELS, radius=0.3, steps=7, norm=cast(Norm, norm), rng=seeded(1))
    with torch.no_grad():
        classifier.eval()
        clean, attacked = (F.cross_entropy(classifier(x), LABELS, reduction="none") for x in (IMAGES, found))
    assert (attacked > clean).all()


@NORMS
def test_start_is_random_and_follows_from_the_generator(norm: str) -> None:
    first, again, other = (
        pgd(make_classifier(), IMAGES, LABELS, radius=0.1, steps=2, norm=cast(Norm, norm), rng=seeded(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_steps_only_the_random_start_is_left() -> None:
    found = pgd(make_classifier(), IMAGES, LABELS, radius=0.1, steps=0, rng=seeded(1))
    start = random_ball(IMAGES.shape, 0.1, "linf", seeded(1)).double()
    assert torch.equal(found, (IMAGES + start).clamp(0, 1))


@NORMS
def test_nothing_is_left_behind(norm: str) -> None:
    classifier, images = make_classifier(), IMAGES.clone()
    classifier[2].eval()
    before = state_of(classifier)
    pgd(classifier, images, LABELS, radius=0.1, steps=2, norm=cast(Norm, norm))
    assert [part.training for part in classifier] == [True, True, False, True, True]
    assert_same_state(classifier.state_dict(), before)
    assert no_gradients(classifier)
    assert torch.equal(images, IMAGES)
    assert images.grad is None
