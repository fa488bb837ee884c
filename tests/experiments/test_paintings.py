"""The harder looks: a class shows in training, says nothing in the test, and every digit can be seen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from advmix.data.colored import ColoredDigits
from advmix.data.digits import PAINTINGS, make_painting
from advmix.data.settings import DataConfig
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded
from experiments.paintings import (
    MIN_CONTRAST,
    TEXTURES,
    DoubleColored,
    Wildlife,
    class_textures,
    contrast,
    half_of,
    texture,
)

SEEDS = st.integers(0, 2**32)
HARD = ("double-colored", "wildlife")


@pytest.mark.parametrize("name", PAINTINGS)
def test_paint_is_a_batch_of_images(name: str) -> None:
    look = make_painting(name, 0.05)
    gray = torch.rand(7, 1, 16, 16, generator=seeded(0))
    classes = look.any_classes(7, seeded(1))
    assert classes.shape == (7, look.parts)
    for paints in (look.of_classes(classes, seeded(2)), look.anything(7, seeded(3)), look.grid()[:7]):
        images = look.paint(gray, paints)
        assert images.shape == (7, 3, 16, 16)
        assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize("name", PAINTINGS)
@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_digit_and_background_are_painted_apart(name: str, grey: float) -> None:
    """Where the digit is (grey 1) only the digit's half of the paint shows, elsewhere only the background's."""
    look = make_painting(name, 0.05)
    one, other = look.anything(1, seeded(0)), look.anything(1, seeded(1))
    gray = torch.full((1, 1, 8, 8), grey)
    half = one.shape[1] // 2 if look.parts == 2 else one.shape[1]
    mixed = torch.cat([one[:, :half], other[:, half:]], dim=1)
    expected = one if grey == 1 else other
    assert torch.equal(look.paint(gray, mixed), look.paint(gray, expected))
    assert not torch.equal(look.paint(gray, one), look.paint(gray, other)) or (name == "colored" and grey == 0)


@given(SEEDS, st.integers(0, 50))
def test_double_colours_have_contrast(seed: int, count: int) -> None:
    look = DoubleColored(0.0)
    classes = look.any_classes(count, seeded(seed))
    anything = look.anything(count, seeded(seed))
    assert len(classes) == len(anything) == count
    assert (contrast(look.means(classes)) >= MIN_CONTRAST).all()
    assert (contrast(anything) >= MIN_CONTRAST).all()


def test_every_training_class_of_double_colours_has_contrast() -> None:
    own = torch.arange(10)[:, None].expand(-1, 2)
    assert (contrast(DoubleColored(0.0).means(own)) >= MIN_CONTRAST).all()
    assert len(DoubleColored(0.0).grid().unique(dim=0)) == 56


def test_a_digit_in_any_texture_is_brighter_than_any_background() -> None:
    gray = torch.zeros(200, 1, 16, 16)
    gray[:, :, :, 8:] = 1
    look = Wildlife(0.2)
    for paints in (look.anything(200, seeded(0)), look.of_classes(look.any_classes(200, seeded(1)), seeded(2))):
        images = look.paint(gray, paints).mean(dim=1)
        assert (images[:, :, 8:].mean(dim=(1, 2)) > images[:, :, :8].mean(dim=(1, 2))).all()
    low, high = half_of(torch.tensor([0.0, 1.0]), 0).tolist(), half_of(torch.tensor([0.0, 1.0]), 1).tolist()
    assert low[0] > high[1]


def test_class_textures_differ_in_pattern_or_colour() -> None:
    for part in range(2):
        rows = class_textures(part)
        drawn = texture(rows, 16)
        assert torch.pdist(drawn.flatten(1)).min() > 1
    assert len(Wildlife(0.0).grid()) == 100


@pytest.mark.parametrize("kind", range(len(TEXTURES)))
def test_a_texture_repeats_and_turns(kind: int) -> None:
    """Moving a pattern by a whole pitch along its own axes changes nothing but, for some, every other row."""

    def drawn(angle: float, right: float) -> Tensor:
        row = torch.tensor([[kind, angle, 8.0, right, 0.1, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
        return texture(row, 32)[0, 0]

    base = drawn(0.0, 0.2)
    assert 0.02 < base.mean() < 0.98
    assert not torch.allclose(base, drawn(0.7, 0.2), atol=0.05)
    if list(TEXTURES)[kind] != "marble":
        assert (base - drawn(0.0, 2.2)).abs().mean() < 0.05  # pixels on an edge may fall to either side
    pixel = texture(torch.tensor([[0.0, 0.0, 8.0, 0.0, 0.0, 1.0, 0.5, 0.25, 0.0, 0.0, 0.0]]), 8)[0, :, 0, 0]
    assert pixel.tolist() == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("look", HARD)
def test_looks_give_the_label_away_in_training_alone(look: str) -> None:
    """The nearest class look (by mean image) is the label in training, and says nothing in the shuffled test."""
    data = ColoredDigits(DataConfig(look=look, color_std=0.01, test_images=300), seed=0)
    corner = (slice(None), slice(None), slice(0, 3))  # no digit reaches the first rows: background alone

    def guess(pixels: Tensor) -> Tensor:
        means = torch.stack([data.train.pixels[data.train.labels == c][corner].float().mean(0) for c in range(10)])
        features = pixels[corner].float().mean(dim=(2, 3))
        return torch.cdist(features, means.mean(dim=(2, 3))).argmin(dim=1)

    biased = (guess(data.biased.pixels) == data.biased.labels).double().mean()
    shuffled = (guess(data.shuffled.pixels) == data.shuffled.labels).double().mean()
    assert biased > (0.95 if look == "double-colored" else 0.5)
    assert shuffled < 0.2
    assert torch.equal(data.biased.labels, data.uniform.labels)


def test_the_reversed_task_is_about_one_colour() -> None:
    with pytest.raises(UserError, match="--target color: only with --look colored, not wildlife"):
        DataConfig(look="wildlife", target="color")
