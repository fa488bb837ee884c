from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from advmix.latents import Latents, Split
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded


def draw(seed: int, count: int, layers: int, grid: bool) -> Latents:
    rng = seeded(seed, "tests", "draw")
    styles = torch.randn(count, layers, 3, generator=rng)
    residual = torch.randn(count, 3, 8, 8, generator=rng) if seed % 2 else None
    return Latents(styles, torch.randn(count, 2, 4, 4, generator=rng) if grid else None, residual)


@st.composite
def mixes(choose: st.DrawFn) -> tuple[Split, Latents, Latents]:
    """A split with two batches that it fits, with and without a grid."""
    layers, grid = choose(st.integers(1, 6)), choose(st.booleans())
    reversed_grid = grid and choose(st.booleans())
    least = 0 if reversed_grid else 1
    perp = choose(st.lists(st.integers(0, layers - 1), min_size=least, max_size=8))
    count, seed = choose(st.integers(1, 4)), choose(st.integers(0, 2**32))
    return (
        Split(layers, tuple(perp), reversed_grid),
        draw(seed, count, layers, grid),
        draw(seed + 1, count, layers, grid),
    )


def assert_equal(a: Latents, b: Latents) -> None:
    assert a.tensors().keys() == b.tensors().keys()
    assert all(torch.equal(part, b.tensors()[name]) for name, part in a.tensors().items())


def parallel_of(split: Split, latents: Latents) -> list[Tensor]:
    parts = [latents.styles[:, layer] for layer in range(split.layers) if layer not in split.perp]
    return parts if split.grid or latents.grid is None else [*parts, latents.grid]


@given(mixes())
def test_combining_a_batch_with_itself_changes_nothing(case: tuple[Split, Latents, Latents]) -> None:
    split, a, _ = case
    assert_equal(split.combine(a, a), a)


@given(mixes())
def test_perp_that_was_put_in_comes_out(case: tuple[Split, Latents, Latents]) -> None:
    split, a, b = case
    perp = split.perp_of(b) * 2 + 1
    assert torch.equal(split.perp_of(split.with_perp(a, perp)), perp)


@given(mixes())
def test_combination_has_the_parallel_part_of_the_first_and_the_perp_of_the_second(
    case: tuple[Split, Latents, Latents],
) -> None:
    split, a, b = case
    before = a[torch.arange(len(a))]
    mixed = split.combine(parallel_from=a, perp_from=b)
    assert all(torch.equal(*pair) for pair in zip(parallel_of(split, mixed), parallel_of(split, a), strict=True))
    assert torch.equal(split.perp_of(mixed), split.perp_of(b))
    assert_equal(a, before)


def test_replacing_perp_is_differentiable() -> None:
    latents, split = draw(0, 2, 4, grid=True), Split(4, (1, 3), grid=True)
    perp = split.perp_of(latents).requires_grad_()
    mixed = split.with_perp(latents, perp)
    assert mixed.grid is not None
    torch.autograd.backward(mixed.styles.sum() + 2 * mixed.grid.sum())
    assert perp.grad is not None
    assert perp.grad.tolist() == [[1.0] * 6 + [2.0] * 32] * 2


@pytest.mark.parametrize("perp", [(4,), (-1,), (0, 9)])
def test_layer_outside_the_network_is_refused_by_number(perp: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=rf"\[{perp[-1]}\].*layers 0 to 3"):
        Split(4, perp)


def test_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to mix"):
        Split(4, ())


def test_layers_may_come_in_any_order_and_twice() -> None:
    assert Split(5, (3, 1, 3)) == Split(5, (1, 3))


@given(st.integers(1, 12), st.data())
def test_fine_takes_the_last_layers(layers: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, layers))
    split = Split.fine(layers, count)
    assert split.perp == tuple(range(layers))[-count:]
    assert split.first == layers - count
    assert not split.grid


@pytest.mark.parametrize("count", [0, -1, 5])
def test_fine_refuses_more_layers_than_there_are(count: int) -> None:
    with pytest.raises(UserError, match=f"the {count} finest layers of a network that has 4"):
        Split.fine(4, count)


def test_grid_comes_before_all_layers() -> None:
    assert Split(4, (2,), grid=True).first == 0


@given(st.integers(0, 2**32), st.integers(1, 9), st.booleans())
def test_spread_is_the_standard_deviation_of_numpy(seed: int, count: int, grid: bool) -> None:
    latents = draw(seed, count, 3, grid)
    spread = latents.spread
    assert len(spread) == 1
    np.testing.assert_allclose(spread.styles[0], latents.styles.numpy().std(axis=0), atol=1e-6)
    assert (spread.grid is not None) == grid
    if latents.grid is not None and spread.grid is not None:
        np.testing.assert_allclose(spread.grid[0], latents.grid.numpy().std(axis=0), atol=1e-6)


@given(st.integers(0, 2**32), st.integers(2, 9), st.booleans())
def test_parts_put_together_are_the_whole(seed: int, count: int, grid: bool) -> None:
    latents = draw(seed, count, 2, grid)
    assert_equal(Latents.cat([latents[:1], latents[1:]]), latents)
    order = torch.randperm(count, generator=seeded(seed))
    assert_equal(latents[order][order.argsort()], latents)
    assert len(latents[:1]) == 1


@pytest.mark.parametrize("grid", [True, False])
def test_conversion_keeps_the_numbers(grid: bool) -> None:
    latents = draw(0, 3, 2, grid)
    double = latents.to(dtype=torch.float64)
    assert double.styles.dtype == torch.float64
    assert_equal(double.to("cpu", torch.float32), latents)


def test_detached_latents_have_no_history() -> None:
    latents = draw(0, 2, 2, grid=True)
    latents.styles.requires_grad_()
    assert not latents.detach().styles.requires_grad


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, L, D\), not \(2, 3\)"):
        Latents(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\(2, C, H, W\)"):
        Latents(torch.zeros(2, 3, 4), torch.zeros(3, 1, 4, 4))


def test_repr_shows_the_shapes() -> None:
    assert repr(draw(0, 2, 5, grid=True)) == "Latents(styles (2, 5, 3), grid (2, 2, 4, 4))"


@pytest.mark.parametrize("grid", [None, torch.rand(3, 2, 4, 4)])
def test_saved_latents_come_back(tmp_path: Path, grid: torch.Tensor | None) -> None:
    latents = Latents(torch.rand(3, 2, 5), grid)
    latents.save(tmp_path / "code.safetensors")
    found = Latents.load(tmp_path / "code.safetensors")
    assert torch.equal(found.styles, latents.styles)
    assert (found.grid is None and grid is None) or torch.equal(found.tensors()["grid"], latents.tensors()["grid"])
