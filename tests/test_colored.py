from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from advmix.data.colored import ColoredDigits, GrayDigits
from advmix.data.digits import LUMA, MEAN_COLORS, MIN_BRIGHTNESS, Colored, bright, color_grid, noisy, uniform_colors
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded

SEEDS = st.integers(0, 2**32)
SETS = ("train", "train_unbiased", "biased", "shuffled", "uniform")


def colors_of(images: ImageSet) -> Tensor:
    """The colour of each image, `(N, 3)`: that of its brightest grey pixel, up to rounding."""
    pixels = images.pixels.float().flatten(2) / 255
    return pixels.amax(dim=2)


def painted_classes(images: ImageSet) -> Tensor:
    """The mean colour nearest to each image's."""
    return torch.cdist(colors_of(images), MEAN_COLORS).argmin(dim=1)


def information(a: Tensor, b: Tensor) -> float:
    """Mutual information of two vectors of class indices, in bits."""
    joint = torch.bincount(a * 10 + b, minlength=100).view(10, 10).double() / len(a)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return float(torch.xlogy(joint, joint / apart.clamp_min(1e-12)).sum() / math.log(2))


@given(SEEDS, st.floats(0, 10, allow_subnormal=False), st.integers(0, 20))
def test_colors_are_in_range(seed: int, std: float, count: int) -> None:
    means = MEAN_COLORS[torch.arange(count) % 10]
    found = noisy(means, std, seeded(seed))
    assert found.shape == (count, 3)
    assert ((found >= 0) & (found <= 1)).all()


@given(SEEDS, st.lists(st.integers(0, 9), max_size=12))
def test_without_noise_colors_are_exactly_the_means(seed: int, classes: list[int]) -> None:
    means = MEAN_COLORS[torch.tensor(classes, dtype=torch.long)]
    assert torch.equal(noisy(means, 0.0, seeded(seed)), means)


@given(SEEDS, st.floats(0.01, 3))
def test_noise_is_added_and_then_clipped(seed: int, std: float) -> None:
    raw = MEAN_COLORS + std * torch.randn(10, 3, generator=seeded(seed))
    expected = torch.where(raw < 0, 0.0, torch.where(raw > 1, 1.0, raw))
    assert torch.equal(noisy(MEAN_COLORS, std, seeded(seed)), expected)


@given(SEEDS, st.integers(0, 200))
def test_uniform_colors_are_above_the_brightness_floor(seed: int, count: int) -> None:
    colors = uniform_colors(count, seeded(seed))
    assert colors.shape == (count, 3)
    assert ((colors >= 0) & (colors <= 1)).all()
    assert (colors @ LUMA >= MIN_BRIGHTNESS).all()


def test_uniform_colors_fill_the_bright_part_of_the_cube() -> None:
    colors = uniform_colors(8000, seeded(0))
    cube = torch.rand(20000, 3, generator=seeded(1))
    torch.testing.assert_close(colors.mean(0), cube[bright(cube)].mean(0), rtol=0, atol=0.02)
    assert (colors > 0.5).float().mean(0).min() > 0.5


def test_mean_colors_are_bright_and_well_apart() -> None:
    assert MEAN_COLORS.shape == (10, 3)
    assert bright(MEAN_COLORS).all()
    assert torch.pdist(MEAN_COLORS).min() > 0.25


def test_color_grid_holds_every_bright_colour_once() -> None:
    grid = color_grid()
    assert bright(grid).all()
    assert len(torch.unique(grid, dim=0)) == len(grid)
    thirds = [(r / 3, g / 3, b / 3) for r in range(4) for g in range(4) for b in range(4)]
    assert len(grid) == sum(0.299 * r + 0.587 * g + 0.114 * b >= 0.3 for r, g, b in thirds)


@given(SEEDS)
def test_painting_multiplies_grey_by_colour(seed: int) -> None:
    rng = seeded(seed)
    gray, colors = torch.rand(2, 1, 3, 3, generator=rng), torch.rand(2, 3, generator=rng)
    painted = Colored(MEAN_COLORS, 0.1).paint(gray, colors)
    for example in range(2):
        for channel in range(3):
            assert torch.equal(painted[example, channel], gray[example, 0] * colors[example, channel])


def test_painted_digits_are_rounded_bytes() -> None:
    gray = GrayDigits(torch.tensor([[[[0, 100, 255]]]], dtype=torch.uint8), torch.tensor([3]), ("a",))
    pixels = gray.painted(Colored(MEAN_COLORS, 0.1), torch.tensor([[1.0, 0.5, 0.0]])).pixels
    assert pixels[0, :, 0].tolist() == [[0, 100, 255], [0, 50, 128], [0, 0, 0]]


@pytest.mark.parametrize("name", SETS)
def test_same_seed_same_images_and_another_seed_others(name: str) -> None:
    config = DataConfig(train_images=50, test_images=40)
    first, again, other = (getattr(ColoredDigits(config, seed), name) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint
    assert torch.equal(first.pixels, again.pixels)
    assert first.fingerprint != other.fingerprint
    assert not torch.equal(first.pixels, other.pixels)


def test_sets_are_coloured_independently_of_each_other() -> None:
    data = ColoredDigits(DataConfig(color_std=0.1), seed=0)
    assert torch.equal(data.biased.labels, data.shuffled.labels)
    assert torch.equal(data.biased.labels, data.uniform.labels)
    names = ("biased", "shuffled", "uniform")
    assert len({getattr(data, name).fingerprint for name in names}) == 3


@pytest.mark.parametrize("name", ["train", "biased"])
def test_colour_gives_the_training_label_away(name: str) -> None:
    images: ImageSet = getattr(ColoredDigits(DataConfig(color_std=0.02)), name)
    assert (painted_classes(images) == images.labels).double().mean() > 0.97
    assert information(painted_classes(images), images.labels) > 3


@pytest.mark.parametrize("name", ["shuffled", "train_unbiased"])
def test_shuffled_colour_says_nothing_about_the_label(name: str) -> None:
    images: ImageSet = getattr(ColoredDigits(DataConfig(color_std=0.02)), name)
    classes = painted_classes(images)
    found = information(classes, images.labels)
    chance = torch.tensor(
        [
            information(classes[torch.randperm(len(classes), generator=seeded(seed))], images.labels)
            for seed in range(200)
        ]
    )
    assert chance.min() < found < chance.max()
    assert classes.bincount(minlength=10).min() > 0.05 * len(classes)


def test_without_noise_every_image_has_its_mean_colour() -> None:
    data = ColoredDigits(DataConfig(color_std=0.0, train_images=100))
    brightest = data.gray_train.pixels.flatten(1).amax(dim=1, keepdim=True).float() / 255
    expected = MEAN_COLORS[data.train.labels] * brightest
    torch.testing.assert_close(colors_of(data.train), expected, rtol=0, atol=0.5 / 255 + 1e-6)


def test_chosen_images_are_some_of_all() -> None:
    every, some = ColoredDigits(DataConfig()).gray_train, ColoredDigits(DataConfig(train_images=100)).gray_train
    rows = {row.numpy().tobytes() for row in every.pixels}
    assert len(some.labels) == 100
    assert all(row.numpy().tobytes() in rows for row in some.pixels)
    assert len(set(some.labels.tolist())) == 10


def test_all_images_are_taken_by_default() -> None:
    data = ColoredDigits(DataConfig())
    assert (len(data.train), len(data.shuffled)) == (1297, 500)
    assert data.train.pixels.shape[1:] == (3, 16, 16)


@pytest.mark.parametrize(("flag", "part"), [("train_images", "train"), ("test_images", "shuffled")])
def test_more_images_than_there_are_is_refused(flag: str, part: str) -> None:
    data = ColoredDigits(DataConfig(**{flag: 5000}))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"--{flag.replace('_', '-')} 5000: digits has only"):
        getattr(data, part)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"data": "cifar"}, "--data cifar: unknown; choose from digits mnist"),
        ({"look": "plain"}, "--look plain: unknown; choose from colored"),
        ({"target": "size"}, "--target size: unknown; choose from digit color"),
        ({"color_std": -0.1}, "--color-std -0.1"),
        ({"color_variance": -0.1}, "--color-variance -0.1"),
        ({"color_std": float("nan")}, "--color-std nan"),
        ({"train_images": 1}, "--train-images 1: must be at least 2"),
        ({"test_images": 0}, "--test-images 0: must be at least 2"),
    ],
)
def test_bad_settings_are_refused_by_their_flag(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        DataConfig(**wrong)


def test_a_variance_is_the_square_of_a_standard_deviation() -> None:
    one, other = DataConfig(color_std=0.2, train_images=50), DataConfig(color_variance=0.04, train_images=50)
    assert ColoredDigits(one).train.fingerprint == ColoredDigits(other).train.fingerprint


def test_the_reversed_task_has_the_same_images_and_the_colour_as_label() -> None:
    digit, color = (ColoredDigits(DataConfig(color_std=0.02, target=target)) for target in ("digit", "color"))
    for name in SETS:
        one, other = getattr(digit, name), getattr(color, name)
        assert torch.equal(one.pixels, other.pixels)
        assert other.classes[0] == "red"
    assert torch.equal(digit.train.labels, color.train.labels)
    for name in ("shuffled", "train_unbiased"):
        images = getattr(color, name)
        assert (painted_classes(images) == images.labels).double().mean() > 0.97
        assert abs(float((images.labels == getattr(digit, name).labels).double().mean()) - 0.1) < 0.05
    assert (painted_classes(color.uniform) == color.uniform.labels).double().mean() > 0.9
