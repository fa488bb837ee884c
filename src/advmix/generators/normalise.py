"""Instance normalisation that keeps `channels_last`, several times faster on a CPU than the stock one there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

EPSILON = 1e-5


def _mean(rows: Tensor) -> Tensor:
    """Mean over the pixels of `(B, HW, C)` as a matrix product, which is the fast way to sum the middle axis on a
    CPU.
    """
    weights = rows.new_full((1, 1, rows.shape[1]), 1 / rows.shape[1]).expand(len(rows), 1, -1)
    return torch.bmm(weights, rows)


class _NormalisePixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        centred = rows - _mean(rows)
        inverse_std = torch.rsqrt(_mean(centred * centred) + EPSILON)
        out = centred.mul_(inverse_std)  # in place, here and below: memory traffic is what this costs
        ctx.save_for_backward(out, inverse_std)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        out, inverse_std = ctx.saved_tensors
        result = torch.addcmul(gradient, out, -_mean(gradient * out))
        return result.sub_(_mean(gradient)).mul_(inverse_std)


def instance_norm(x: Tensor) -> Tensor:
    """Zero mean and unit variance over each example's and channel's pixels, `(B, C, H, W)`; the memory format is kept.

    Equal to `torch.nn.functional.instance_norm`, to which it hands everything that is not a `channels_last` tensor on
    a CPU.
    """
    if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
        return F.instance_norm(x, eps=EPSILON)
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    out: Tensor = _NormalisePixels.apply(rows)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)
