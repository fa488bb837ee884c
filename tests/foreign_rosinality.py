"""Checkpoints as rosinality's stylegan2-pytorch writes them, with tiny networks: the published nesting and tensor
names. And what these networks draw, written out: no code of theirs is in here.
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.utils.torch_tools import global_seed

TAPS = (1.0, 3.0, 3.0, 1.0)


def blur_kernel(taps: tuple[float, ...], gain: float) -> Tensor:
    kernel = torch.tensor(taps)
    return kernel.outer(kernel) / kernel.sum() ** 2 * gain


def correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel with the flipped kernel, written out; no padding."""
    taps = len(kernel)
    out = x.new_zeros(*x.shape[:2], x.shape[2] - taps + 1, x.shape[3] - taps + 1)
    for row in range(taps):
        for column in range(taps):
            part = x[:, :, row : row + out.shape[2], column : column + out.shape[3]]
            out += kernel[taps - 1 - row, taps - 1 - column].to(x) * part
    return out


def spread(x: Tensor) -> Tensor:
    """A zero between any two pixels: `(..., H, W)` to `(..., 2H - 1, 2W - 1)`."""
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2] - 1, 2 * x.shape[3] - 1)
    out[:, :, ::2, ::2] = x
    return out


class Kernel(nn.Module):
    """Holds a filter, as their `Blur` and `Upsample` do."""

    def __init__(self, taps: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(taps, 4.0))
        self.kernel: Tensor


class EqualLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.multiplier = multiplier
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(bias + 0.1 * torch.randn(outputs) / multiplier)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiplier * (x @ self.weight.T / math.sqrt(self.weight.shape[1]) + self.bias)


class ModulatedConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, dim: int, up: bool, taps: tuple[float, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size))
        self.modulation = EqualLinear(dim, inputs, bias=1.0)
        if up:
            self.blur = Kernel(taps)

    def forward(self, x: Tensor, style: Tensor, demodulate: bool) -> Tensor:
        """One example after the other, each with its own weight."""
        scale, images = 1 / math.sqrt(self.weight[0, 0].numel()), []
        for image, factors in zip(x, self.modulation(style), strict=True):
            weight = scale * self.weight[0] * factors[:, None, None]
            if demodulate:
                weight = weight / (weight.square().flatten(1).sum(dim=1) + 1e-8).sqrt()[:, None, None, None]
            images.append(self._convolved(image[None], weight))
        return torch.cat(images)

    def _convolved(self, image: Tensor, weight: Tensor) -> Tensor:
        if not hasattr(self, "blur"):
            return F.conv2d(image, weight, padding=weight.shape[2] // 2)
        wide = F.conv2d(F.pad(spread(image), (2, 2, 2, 2)), weight.flip(2, 3))  # a transposed convolution, written out
        before = (len(self.blur.kernel) - 4 + 1) // 2 + 1
        after = (len(self.blur.kernel) - 4) // 2 + 1
        return correlate(F.pad(wide, (before, after, before, after)), self.blur.kernel)


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1) * 0.3)


class Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(channels) * 0.3)


class StyledConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, dim: int, up: bool, taps: tuple[float, ...]) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, dim, up, taps)
        self.noise, self.activate = Noise(), Bias(outputs)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(x, style, demodulate=True) + self.noise.weight * noise + self.activate.bias[:, None, None]
        return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


class ToRgb(nn.Module):
    def __init__(self, inputs: int, dim: int, up: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, 3, 1, 1) * 0.3)
        if up:
            self.upsample = Kernel(TAPS)
        self.conv = ModulatedConv(inputs, 3, 1, dim, up=False, taps=TAPS)

    def forward(self, x: Tensor, style: Tensor, image: Tensor | None) -> Tensor:
        rgb: Tensor = self.conv(x, style, demodulate=False) + self.bias
        if image is None:
            return rgb
        taps = len(self.upsample.kernel)
        before, after = (taps - 2 + 1) // 2 + 1, (taps - 2) // 2
        wide = F.pad(spread(image), (before, after + 1, before, after + 1))
        return rgb + correlate(wide, self.upsample.kernel)


class Start(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class PixelNorm(nn.Module):
    """The first entry of `style`: it has no tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


class Generator(nn.Module):
    """`taps` is their `blur_kernel`, which their RGB outputs do not get; `multiplier` is their `lr_mlp`."""

    def __init__(
        self, widths: tuple[int, ...], dim: int, depth: int, taps: tuple[float, ...], multiplier: float = 0.01
    ) -> None:
        super().__init__()
        self.style = nn.Sequential(PixelNorm(), *(EqualLinear(dim, dim, multiplier=multiplier) for _ in range(depth)))
        self.input = Start(widths[0])
        self.conv1 = StyledConv(widths[0], widths[0], dim, up=False, taps=taps)
        self.to_rgb1 = ToRgb(widths[0], dim, up=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for inputs, outputs in pairwise(widths):
            self.convs.append(StyledConv(inputs, outputs, dim, up=True, taps=taps))
            self.convs.append(StyledConv(outputs, outputs, dim, up=False, taps=taps))
            self.to_rgbs.append(ToRgb(outputs, dim, up=True))
        for index in range(2 * len(widths) - 1):
            side = 2 ** ((index + 5) // 2)
            self.noises.register_buffer(f"noise_{index}", torch.randn(1, 1, side, side))

    def mapped(self, z: Tensor) -> Tensor:
        w: Tensor = self.style[0](z)
        for layer in self.style[1:]:
            w = layer(w)
            w = torch.where(w > 0, w, 0.2 * w) * math.sqrt(2)
        return w

    def forward(self, styles: Tensor) -> Tensor:
        """`(B, L, D)` to images around [-1, 1], with the noise that is stored."""
        noises = dict(self.noises.named_buffers())
        x = self.input.input.expand(len(styles), -1, -1, -1)
        x = self.conv1(x, styles[:, 0], noises["noise_0"])
        image: Tensor = self.to_rgb1(x, styles[:, 1], None)
        for level, to_rgb in enumerate(self.to_rgbs):
            first = 2 * level + 1
            x = self.convs[2 * level](x, styles[:, first], noises[f"noise_{first}"])
            x = self.convs[2 * level + 1](x, styles[:, first + 1], noises[f"noise_{first + 1}"])
            image = to_rgb(x, styles[:, first + 2], image)
        return image


def make_network(
    widths: tuple[int, ...] = (8, 6, 4), taps: tuple[float, ...] = TAPS, seed: int = 0, multiplier: float = 0.01
) -> Generator:
    """Tiny, with random biases and noise."""
    with global_seed(seed):
        return Generator(widths, dim=6, depth=2, taps=taps, multiplier=multiplier)


def write_checkpoint(path: Path, network: nn.Module, zipped: bool = True, **more: Any) -> Path:
    """As `train.py` and `convert_weight.py` write it."""
    args = argparse.Namespace(path="lmdb", size=16, lr=0.002, channel_multiplier=2, latent=6, n_mlp=2)
    content = {"g": network.state_dict(), "g_ema": network.state_dict(), "args": args, "ada_aug_p": 0.0, **more}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
