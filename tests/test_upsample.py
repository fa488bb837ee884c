"""The fused upscaling against upsampling and convolving one after the other."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from advmix.generators.layers import UpsampledConv2d
from advmix.utils.torch_tools import generator as seeded


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 2, 1, 5), (3, 1, 7, 2)])
def test_it_is_upsampling_then_convolving_with_its_gradients(shape: tuple[int, int, int, int]) -> None:
    rng = seeded(0, "tests", "upsample")
    x = torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True)
    conv = UpsampledConv2d(shape[1], 5).double()
    found = conv(x)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), conv.weight, conv.bias, padding=1)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    inputs = [x, *conv.parameters()]
    outward = torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(out, inputs, outward) for out in (found, expected))
    assert all(torch.allclose(one, two, rtol=0, atol=1e-11) for one, two in zip(ours, theirs, strict=True))


def test_channels_last_stays() -> None:
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    assert UpsampledConv2d(8, 6)(x).is_contiguous(memory_format=torch.channels_last)
