from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advmix.data.colored import ColoredDigits
from advmix.data.images import ImageSet, balanced_batches, epoch_batches, slices, to_bytes, to_float
from advmix.training.classify import batches_per_epoch


@given(count=st.integers(1, 300), size=st.integers(2, 70), seed=st.integers(0, 2**31), epoch=st.integers(0, 50))
def test_every_index_is_visited_once_and_never_alone(count: int, size: int, seed: int, epoch: int) -> None:
    batches = list(epoch_batches(count, size, seed, epoch))
    assert torch.cat(batches).sort().values.tolist() == list(range(count))
    assert all(len(batch) > 1 for batch in batches) or count == 1
    assert all(len(batch) <= size + 1 for batch in batches)
    assert len(batches) == batches_per_epoch(count, size)


def test_order_follows_from_seed_and_epoch() -> None:
    first, again, epoch, seed = (
        torch.cat(list(epoch_batches(50, 8, *key))) for key in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, epoch)
    assert not torch.equal(first, seed)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.integers(2, 70), st.integers(0, 2**31))
def test_balanced_batches_have_every_class_alike_and_are_as_many(sizes: list[int], size: int, seed: int) -> None:
    labels = torch.cat([torch.full((count,), 2 * label) for label, count in enumerate(sizes)])  # some have no images
    batches = list(balanced_batches(labels, size, seed, 0))
    drawn = torch.cat(batches)
    assert [len(batch) for batch in batches] == [len(batch) for batch in epoch_batches(len(labels), size, seed, 0)]
    counts = labels[drawn].bincount()[::2]
    assert counts.max() - counts.min() <= 1
    times = drawn.bincount(minlength=len(labels))
    for label in labels.unique():  # all of a class before any comes again
        assert times[labels == label].max() - times[labels == label].min() <= 1


def test_balanced_order_is_mixed_and_follows_from_seed_and_epoch() -> None:
    labels = (torch.arange(50) < 40).long()
    first, again, epoch, seed = (
        torch.cat(list(balanced_batches(labels, 8, *key))) for key in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, epoch)
    assert not torch.equal(first, seed)
    assert 5 < labels[first[:25]].sum() < 20


@given(count=st.integers(0, 300), size=st.integers(1, 70))
def test_slices_cover_everything_in_order(count: int, size: int) -> None:
    parts = list(slices(count, size))
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(count))
    assert all(0 < part.stop - part.start <= size for part in parts)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=16))
def test_bytes_survive_the_way_to_floats_and_back(values: list[int]) -> None:
    pixels = torch.tensor(values, dtype=torch.uint8).view(1, 1, 1, -1)
    assert torch.equal(to_bytes(to_float(pixels)), pixels)


def test_floats_are_rounded_and_clamped() -> None:
    assert to_bytes(torch.tensor([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 2.0])).tolist() == [0, 0, 0, 1, 255, 255]


def test_batches_are_floats_in_range_with_channels_last(digits: ColoredDigits) -> None:
    images, labels = digits.train.batch(torch.tensor([3, 1]))
    assert images.shape == (2, 3, 16, 16)
    assert 0 <= images.min() < images.max() <= 1
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [int(digits.train.labels[3]), int(digits.train.labels[1])]


def test_part_of_a_set_is_a_set(digits: ColoredDigits) -> None:
    part = digits.train[10:13]
    assert len(part) == 3
    assert torch.equal(part.pixels, digits.train.pixels[10:13])
    assert part.classes == digits.train.classes


@pytest.mark.parametrize("change", ["pixel", "label", "class", "order", "shape"])
def test_fingerprint_changes_with_anything(digits: ColoredDigits, change: str) -> None:
    pixels, labels, classes = digits.train.pixels.clone(), digits.train.labels.clone(), digits.train.classes
    if change == "pixel":
        pixels[5, 1, 3, 3] += 1
    elif change == "label":
        labels[5] = (labels[5] + 1) % 10
    elif change == "class":
        classes = (*classes[:-1], "other")
    elif change == "order":
        pixels, labels = pixels.flip(0), labels.flip(0)
    else:
        pixels = pixels.transpose(1, 2)
    assert ImageSet(pixels, labels, classes).fingerprint != digits.train.fingerprint


def test_fingerprint_does_not_depend_on_the_memory_format(digits: ColoredDigits) -> None:
    images = digits.train
    other = images.pixels.contiguous(memory_format=torch.channels_last)
    assert ImageSet(other, images.labels.clone(), images.classes).fingerprint == images.fingerprint
