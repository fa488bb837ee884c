"""Layers with an equalised learning rate: weights are stored at unit scale and scaled when they are used.

Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (2018), section 4.1: Adam
then moves every weight at the same relative speed.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
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
