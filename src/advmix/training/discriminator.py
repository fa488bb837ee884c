"""StyleGAN's discriminator: images to one number, high for those that look real.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2018), appendix C; minibatch
standard deviation from "Progressive Growing of GANs" (2018), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.building import rebuilt, stated
from advmix.encoders.features import Activations
from advmix.errors import UserError
from advmix.files import read_tensors, write_tensors
from advmix.generators.equalized import RELU_GAIN, SLOPE, EqualizedConv2d, EqualizedLinear
from advmix.generators.layered import check_sizes

FILE, KIND = "discriminator.safetensors", "discriminator"
GROUP = 4
"""Images that are compared in the minibatch standard deviation."""


def blur(x: Tensor) -> Tensor:
    """Low-pass filter [1, 2, 1] along both axes, `(B, C, H, W)` to the same shape: two averages over 2x2 pixels."""
    return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1, padding=1), 2, stride=1)


def group_size(count: int) -> int:
    """Images of a group in a batch of `count`: as many as divide both 4 and the batch."""
    return math.gcd(count, GROUP)


def minibatch_std(x: Tensor) -> Tensor:
    """`x`, `(B, C, H, W)`, with one more channel that tells each group of images how much its features vary.

    A group is `group_size(B)` neighbours in the batch.
    """
    size = group_size(len(x))
    groups = x.unflatten(0, (-1, size))
    deviation = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    channel = deviation.repeat_interleave(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], dim=1)


class Halving(nn.Module):
    """A convolution, then blur and a convolution with stride 2: half the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(inputs, inputs, 3)
        self.down = EqualizedConv2d(inputs, outputs, 3, stride=2)
        self.activate = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H/2, W/2)`."""
        x = self.activate(self.conv(x))
        activated: Tensor = self.activate(self.down(blur(x)))
        return activated


class Discriminator(nn.Module):
    """The mirror of the generator: 3x3 convolutions and halvings down to 4x4 pixels, then two linear layers.

    Args:
        channels: of the images.
        widths: feature channels at each resolution, from 4 pixels up, as in `StyleGanConfig`.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.widths = channels, tuple(widths)
        fine_to_coarse = list(reversed(widths))
        self.from_image = EqualizedConv2d(channels, fine_to_coarse[0], 1)
        pairs = pairwise(fine_to_coarse)
        self.halvings = nn.Sequential(*(Halving(inputs, outputs) for inputs, outputs in pairs))
        self.conv = EqualizedConv2d(widths[0] + 1, widths[0], 3)
        self.hidden = EqualizedLinear(16 * widths[0], widths[0], RELU_GAIN)
        self.out = EqualizedLinear(widths[0], 1)
        self.activate = nn.LeakyReLU(SLOPE)
        self.to(memory_format=torch.channels_last)

    def forward(self, signed: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [-1, 1] to logits `(B,)`."""
        x = self.halvings(self.activate(self.from_image(signed)))
        x = self.activate(self.conv(minibatch_std(x)))
        logits: Tensor = self.out(self.activate(self.hidden(x.flatten(1))))
        return logits[:, 0]


class DiscriminatorFeatures(nn.Module):
    """What a discriminator sees in images, for losses that compare them: it has learned without labels.

    What comes after the halvings is left out: there an image is compared with its batch, and features must be its own.

    Args:
        discriminator: trained.
    """

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        trunk = nn.Sequential(discriminator.from_image, discriminator.activate, discriminator.halvings)
        self.activations = Activations(trunk, (Halving,))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `(B, C, H, W)` in [0, 1] to what each halving makes of them, `(B, width, H/2, W/2)` and so on."""
        found: list[Tensor] = self.activations(images * 2 - 1)
        return found


def save_discriminator(folder: Path, network: Discriminator) -> None:
    """Write `discriminator.safetensors`: weights and shape."""
    shape = {"channels": network.channels, "widths": list(network.widths)}
    write_tensors(folder / FILE, KIND, network.state_dict(), shape)


def load_discriminator(folder: Path) -> Discriminator:
    """Read it, in eval mode.

    Raises:
        UserError: missing or damaged.
    """
    path = folder / FILE
    tensors, shape = read_tensors(path, KIND)
    channels, widths = stated(shape, "channels", int, path), stated(shape, "widths", list, path)
    try:
        check_sizes({"channels": channels, "widths": tuple(widths)}, "channels widths")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return rebuilt(lambda: Discriminator(channels, widths), tensors, path, "a discriminator of these widths")
