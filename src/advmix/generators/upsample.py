"""Doubling the side and a 3x3 convolution in one: four ninths of the multiplications."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


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
