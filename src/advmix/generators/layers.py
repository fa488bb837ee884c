"""Layers with an equalised learning rate: weights are stored at unit scale and scaled when they are used.

Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (2018), section 4.1: Adam
then moves every weight at the same relative speed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SLOPE = 0.2

RELU_GAIN = math.sqrt(2)

"""What keeps the variance through a leaky ReLU (He et al. 2015; the slope is neglected, as in StyleGAN)."""


class EqualizedLinear(nn.Linear):
    """A linear layer; `(B, inputs)` to `(B, outputs)`.

    Args:
        inputs: numbers in.
        outputs: numbers out.
        gain: standard deviation of the output for inputs of unit variance.
        lr_multiplier: relative learning rate of the layer.
    """

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0, lr_multiplier: float = 1.0) -> None:
        super().__init__(inputs, outputs)
        nn.init.normal_(self.weight, std=1 / lr_multiplier)
        nn.init.zeros_(self.bias)
        self.scale, self.lr_multiplier = gain * lr_multiplier / math.sqrt(inputs), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """With the weights at their real size."""
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)


class EqualizedConv2d(nn.Conv2d):
    """A convolution that keeps the size, or halves it with stride 2.

    Args:
        inputs: channels in.
        outputs: channels out.
        size: side of the kernel, odd.
        stride: 1 or 2.
        gain: standard deviation of the output for inputs of unit variance.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, gain: float = RELU_GAIN) -> None:
        super().__init__(inputs, outputs, size, stride=stride, padding=size // 2)
        nn.init.normal_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.scale = gain / math.sqrt(inputs * size**2)

    def forward(self, x: Tensor) -> Tensor:
        """With the weights at their real size."""
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


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


def _formula(x: Tensor) -> Tensor:
    """In float32 at least; in the type of `x`."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(dim=(2, 3), keepdim=True)
    variance = (centred * centred).mean(dim=(2, 3), keepdim=True)
    return (centred * torch.rsqrt(variance + EPSILON)).to(x)


def instance_norm(x: Tensor) -> Tensor:
    """Zero mean and unit variance over each example's and channel's pixels, `(B, C, H, W)`; the memory format is kept.

    Equal to `torch.nn.functional.instance_norm`, to which it hands everything that is not a `channels_last` tensor on
    a CPU. Compiled it is the formula itself, which the compiler joins with what comes before and after.
    """
    if torch.compiler.is_compiling():
        return _formula(x)
    if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
        return F.instance_norm(x, eps=EPSILON)
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    out: Tensor = _NormalisePixels.apply(rows)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


class UpsampledConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by two, then a 3x3 convolution with padding 1, as one transposed convolution.

    Neighbouring pixels of the upsampled image are equal, so that their weights can be added up first: the 3x3 kernel
    and the 2x2 box of the upsampling make one 4x4 kernel of stride 2 (Karras et al., 2019, the fused upscaling of
    StyleGAN's code).

    Args:
        inputs: channels.
        outputs: channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def kernel(self) -> Tensor:
        """Of the transposed convolution, `(inputs, outputs, 4, 4)`."""
        flipped = self.weight.flip(2, 3).transpose(0, 1)
        rows = F.pad(flipped, (0, 0, 0, 1)) + F.pad(flipped, (0, 0, 1, 0))
        return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, 2H, 2W)`, equal to `conv2d(interpolate(x, scale_factor=2), weight,
        bias, padding=1)` but for rounding.
        """
        return F.conv_transpose2d(x, self.kernel(), self.bias, stride=2, padding=1)


class EdgePaddedConv2d(nn.Conv2d):
    """A 3x3 convolution of an image that is continued by its border pixels.

    Args:
        inputs: channels.
        outputs: channels.
        stride: 1 or 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        compiled = torch.compiler.is_compiling()
        padded = _continued(x) if compiled else F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, self.weight, self.bias, self.stride)


def _continued(x: Tensor) -> Tensor:
    """By a border pixel on every side. The compiler (torch 2.14) expects the gradient of `F.pad` in another memory
    format than it comes in, and stops.
    """
    x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
    return torch.cat([x[..., :1], x, x[..., -1:]], dim=3)
