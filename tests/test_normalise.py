from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from advmix.generators.layers import instance_norm
from advmix.utils.torch_tools import generator as seeded

FORMATS = pytest.mark.parametrize(
    "memory_format", [torch.channels_last, torch.contiguous_format], ids=["channels_last", "contiguous"]
)


@FORMATS
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 5),
    side=st.integers(2, 6),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 2**32),
)
def test_equals_the_stock_one(
    memory_format: torch.memory_format, *, batch: int, channels: int, side: int, scale: float, seed: int
) -> None:
    rng = seeded(seed)
    x = torch.randn(batch, channels, side, side, generator=rng, dtype=torch.float64) * scale + 3
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    toward = torch.randn(x.shape, generator=rng, dtype=torch.float64)
    found, expected = instance_norm(x), F.instance_norm(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    gradients = [torch.autograd.grad((out * toward).sum(), x)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


@FORMATS
def test_gradient_is_that_of_finite_differences(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 3, 3, 4, generator=seeded(0), dtype=torch.float64).contiguous(memory_format=memory_format)
    assert torch.autograd.gradcheck(instance_norm, (x.requires_grad_(),))


@FORMATS
def test_memory_format_is_kept(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=memory_format)
    assert instance_norm(x).is_contiguous(memory_format=memory_format)


@FORMATS
def test_constant_channel_becomes_zero(memory_format: torch.memory_format) -> None:
    x = torch.full((1, 2, 4, 4), 0.25).contiguous(memory_format=memory_format)
    assert torch.equal(instance_norm(x), torch.zeros_like(x))
