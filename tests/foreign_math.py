"""The arithmetic of StyleGAN2 written out from the papers: every example has weights of its own (equations 1 and 3 of
arXiv 1912.04958), upsampling puts zeros between pixels, pads and filters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def resample_filter(taps: list[float] | list[list[float]]) -> Tensor:
    taps_ = torch.tensor(taps, dtype=torch.float32)
    if taps_.ndim == 1 and len(taps_) < 8:
        taps_ = taps_.outer(taps_)
    return taps_ / taps_.sum()


def upfirdn(x: Tensor, kernel: Tensor, up: int, before: int, after: int) -> Tensor:
    """Put `up - 1` zeros behind every pixel, pad, convolve every channel, times `up` squared. Written out."""
    kernel = (kernel.outer(kernel) if kernel.ndim == 1 else kernel).to(x)
    batch, channels, height, width = x.shape
    spread = x.new_zeros(batch, channels, height * up, width * up)
    spread[:, :, ::up, ::up] = x
    padded = F.pad(spread, (before, after, before, after))
    taps = len(kernel)
    out = x.new_zeros(batch, channels, padded.shape[2] - taps + 1, padded.shape[3] - taps + 1)
    for row in range(taps):
        for column in range(taps):
            shifted = padded[:, :, row : row + out.shape[2], column : column + out.shape[3]]
            out += kernel[taps - 1 - row, taps - 1 - column] * up**2 * shifted
    return out


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    taps = len(kernel)
    return upfirdn(x, kernel, 2, (taps + 1) // 2, (taps - 2) // 2)


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True) / x.shape[1] + 1e-8).sqrt()


def modulated(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    """A weight for every example, `(B, O, I, k, k)`: modulated, and demodulated (equations 1 and 3)."""
    scaled = weight[None] * style[:, None, :, None, None]
    if demodulate:
        scaled = scaled / (scaled.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return scaled


def grouped(x: Tensor, weights: Tensor, padding: int) -> Tensor:
    """Every example with its own weight, as one grouped convolution."""
    batch, outputs = weights.shape[:2]
    out = F.conv2d(x.flatten(0, 1)[None], weights.flatten(0, 1), padding=padding, groups=batch)
    return out.view(batch, outputs, *out.shape[2:])
