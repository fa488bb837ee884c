"""The discriminator, and what happens to the images before it sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.training.discriminator import (
    Discriminator,
    DiscriminatorFeatures,
    blur,
    load_discriminator,
    minibatch_std,
    r1_penalty,
    save_discriminator,
)
from advmix.training.gan import Augmenter
from advmix.utils.torch_tools import frozen, global_seed
from advmix.utils.torch_tools import generator as seeded


def make(channels: int = 3) -> Discriminator:
    with global_seed(0):
        return Discriminator(channels, (6, 5, 4)).double()


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(0, "tests"), dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_number_per_image(channels: int) -> None:
    assert make(channels)(noise(8, channels, 16, 16)).shape == (8,)


def test_blur_is_the_binomial_filter() -> None:
    x = noise(2, 3, 6, 5)
    kernel = torch.tensor([1.0, 2, 1], dtype=torch.float64) / 4
    weight = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    torch.testing.assert_close(blur(x), F.conv2d(x, weight, padding=1, groups=3))


@pytest.mark.parametrize(("count", "size"), [(8, 4), (6, 2), (3, 1), (4, 4)])
def test_minibatch_deviation_equals_the_literal_one(count: int, size: int) -> None:
    x = noise(count, 3, 2, 2)
    found = minibatch_std(x)
    assert torch.equal(found[:, :3], x)
    for index in range(count):
        group = x[index // size * size :][:size]
        deviations = [
            (group[:, c, i, j].var(correction=0) + 1e-8).sqrt() for c in range(3) for i in range(2) for j in range(2)
        ]
        torch.testing.assert_close(found[index, 3], torch.stack(deviations).mean().expand(2, 2))


def test_r1_is_half_the_squared_gradient_of_each_image() -> None:
    network, real = make(), noise(3, 3, 16, 16)
    alone = []
    for image in real:
        x = image[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(torch.cat([x, real[:2]]))[0], x)
        alone.append(0.5 * gradient.square().sum())
    x = torch.cat([real[:1], real[:2]]).requires_grad_()
    logits = network(x)
    penalty = r1_penalty(torch.stack([logits[0]]), x)
    torch.testing.assert_close(penalty * 3, alone[0])  # the mean over three images, two of which do not count


def test_r1_changes_with_the_weights_as_its_gradient_says() -> None:
    network, real = make(), noise(4, 3, 16, 16).requires_grad_()
    weight = network.halvings[0].conv.weight  # type: ignore[union-attr]
    assert isinstance(weight, Tensor)
    (gradient,) = torch.autograd.grad(r1_penalty(network(real), real), weight)
    direction, step = noise(*weight.shape), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * direction
        values.append(float(r1_penalty(network(real), real).detach()))
        with torch.no_grad():
            weight -= sign * step * direction
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_r1_leaves_no_weight_without_a_gradient() -> None:
    network, real = make(), noise(4, 3, 16, 16).requires_grad_()
    r1_penalty(network(real), real).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_frozen_network_gathers_no_gradients_and_lets_them_through() -> None:
    network, x = make(), noise(4, 3, 16, 16).requires_grad_()
    with frozen(network):
        network(x).sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("flip", [False, True])
def test_moving_equals_the_literal_copy(flip: bool) -> None:
    augment, images = Augmenter(2, flip), noise(12, 3, 5, 6)
    drawn = augment.draw(12, seeded(0, "tests"))
    assert (drawn[:, 2] == 1).any() == flip
    assert set(drawn[:, :2].flatten().tolist()) == {-2, -1, 0, 1, 2}
    expected = torch.empty_like(images)
    for index, (down, right, mirrored) in enumerate(drawn.tolist()):
        for row in range(5):
            for column in range(6):
                old = min(max(column - right, 0), 5)
                old = 5 - old if mirrored else old
                expected[index, :, row, column] = images[index, :, min(max(row - down, 0), 4), old]
    assert torch.equal(augment(images, drawn), expected)


def test_without_reach_and_flip_nothing_moves() -> None:
    augment, images = Augmenter(0), noise(4, 3, 5, 5)
    assert torch.equal(augment(images, augment.draw(4, None)), images)


def test_moving_is_differentiable() -> None:
    augment, images = Augmenter(1, flip=True), noise(3, 1, 3, 3).requires_grad_()
    drawn = augment.draw(3, seeded(0, "tests"))
    assert torch.autograd.gradcheck(lambda x: augment(x, drawn), images)


def test_features_are_an_images_own_and_of_every_halving() -> None:
    network = make().eval()
    features, images = DiscriminatorFeatures(network), torch.rand(4, 3, 16, 16, dtype=torch.float64)
    whole = features(images)
    assert [tuple(part.shape) for part in whole] == [(4, 5, 8, 8), (4, 6, 4, 4)]
    alone = features(images[2:3])
    for part, mine in zip(whole, alone, strict=True):
        torch.testing.assert_close(part[2:3], mine)
    x = network.activate(network.from_image(2 * images - 1))
    torch.testing.assert_close(whole[-1], network.halvings(x))


def test_a_discriminator_comes_back_from_its_file(tmp_path: Path) -> None:
    network = make().float()
    save_discriminator(tmp_path, network)
    again, images = load_discriminator(tmp_path), torch.rand(4, 3, 16, 16)
    assert torch.equal(again(images), network.eval()(images))
