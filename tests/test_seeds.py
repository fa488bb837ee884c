from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advmix.utils.torch_tools import derive, draw_seed, generator, global_seed, part_generator, rows_drawn

PATHS = st.lists(st.integers(0, 2**31) | st.text(max_size=5), max_size=4).map(tuple)


@given(st.integers(0, 2**31), PATHS)
def test_derived_seed_is_one_that_torch_takes(seed: int, path: tuple[str | int, ...]) -> None:
    assert 0 <= derive(seed, *path) < 2**63
    assert derive(seed, *path) == derive(seed, *path)
    generator(seed, *path)


@given(st.integers(0, 2**31), PATHS)
def test_derived_seed_depends_on_every_part(seed: int, path: tuple[str | int, ...]) -> None:
    others = {derive(seed + 1, *path), derive(seed, *path, "x"), derive(seed, "x", *path)}
    assert derive(seed, *path) not in others


@pytest.mark.parametrize("path", [(), ("train",), (5,)])
def test_a_last_zero_is_a_part_like_any_other(path: tuple[str | int, ...]) -> None:
    assert derive(7, *path) != derive(7, *path, 0)


def test_derived_seed_is_the_same_in_another_process() -> None:
    code = "from advmix.utils.torch_tools import derive; print(derive(3, 'train', 17))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == derive(3, "train", 17)


def test_drawn_seeds_follow_from_the_generator() -> None:
    first, second = generator(0), generator(0)
    assert [draw_seed(first), draw_seed(first)] == [draw_seed(second), draw_seed(second)]
    assert draw_seed(first) != draw_seed(first)


def test_parts_of_a_batch_are_drawn_as_the_whole_is() -> None:
    whole = torch.rand(7, 2, generator=generator(0, "draw"))
    for own in (slice(0, 3), slice(3, 7)):
        rng = part_generator(0, "draw", count=7, own=own)
        count, rows = rows_drawn(rng, own.stop - own.start)
        assert torch.equal(torch.rand(count, 2, generator=rng)[rows], whole[own])
        assert rows_drawn(rng, 2) == (2, slice(None))  # of some of its rows


def test_global_seed_fixes_the_block_and_puts_the_state_back() -> None:
    before = torch.get_rng_state()
    with global_seed(5):
        first = torch.rand(3)
    with global_seed(5):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)
