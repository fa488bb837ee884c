"""StyleGAN2's generator, for weights that others trained: read by `advmix.pretrained`, searched, not trained.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2019, arXiv 1912.04958), sections 2.2 and 4.1.
Weights are stored as they act: learning-rate multipliers and gains are multiplied in when a file is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.generators.base import State
from advmix.generators.layers import RELU_GAIN, SLOPE
from advmix.generators.style import FromConstant, check_sizes, check_widths
from advmix.generators.stylegan import MappedGenerator, MappingNetwork
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError

EPSILON = 1e-8
MAX_TAPS = 64
Architecture = Literal["skip", "resnet", "orig"]


@dataclass(frozen=True)
class StyleGan2Config(FromConstant):
    """Shape of StyleGAN2's generator.

    Of the two styles of a resolution, one is that of its second convolution, the other that of its RGB output and of
    what follows.

    Args:
        resolution: image height and width in pixels, 4 times a power of two.
        channels: image channels, 1 or 3.
        style_dim: numbers in one layer's style `w`.
        z_dim: normal numbers that it is mapped from.
        mapping: outputs of the mapping layers; the last ones are `w`.
        widths: feature channels at each resolution, from 4 pixels to `resolution`.
        architecture: how features become an image: `skip` (the sum of an RGB output at every resolution), `resnet`
            (residual blocks and one output) or `orig` (one output).
        clamp: bound on what convolutions put out, or None.
        taps: side of the two filters behind an upsampling: of features, and of what runs beside them; even.
    """

    resolution: int = 32
    channels: int = 3
    style_dim: int = 64
    z_dim: int = 64
    mapping: tuple[int, ...] = (64, 64)
    widths: tuple[int, ...] = (64, 64, 64, 32)
    architecture: Architecture = "skip"
    clamp: float | None = None
    taps: int = 4

    def __post_init__(self) -> None:
        check_sizes(vars(self), "resolution channels style_dim z_dim mapping widths")
        check_widths(self.widths, self.start, self.resolution)
        if self.architecture not in get_args(Architecture):
            raise UserError(f"generator: architecture {self.architecture!r} is not one of StyleGAN2's")
        if self.mapping[-1:] != (self.style_dim,):
            raise UserError(
                f"generator: a mapping to {self.mapping[-1:]} numbers cannot make styles of {self.style_dim}"
            )
        if self.taps not in range(2, MAX_TAPS + 1, 2):
            raise UserError(f"generator: a filter of {self.taps} taps; only even numbers up to {MAX_TAPS} are known")
        if self.clamp is not None and (type(self.clamp) not in (int, float) or not 0 < self.clamp < math.inf):
            raise UserError(f"generator: clamp {self.clamp}: must be a number above 0")


def blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of `(B, C, H + 1, W + 1)`, a transposed convolution's output, with a `(T, T)` filter:
    `(B, C, H, W)`. Its gain makes up for the zeros in between.
    """
    channels, taps = x.shape[1], len(kernel)
    weight = (4 * kernel.flip(0, 1)).expand(channels, 1, -1, -1)
    return F.conv2d(x, weight, padding=taps // 2 - 1, groups=channels)


def upsampled(x: Tensor, kernel: Tensor) -> Tensor:
    """Zeros between the pixels of `(B, C, H, W)`, then a `(T, T)` filter: `(B, C, 2H, 2W)`."""
    channels, taps = x.shape[1], len(kernel)
    weight = (4 * kernel).expand(channels, 1, -1, -1)
    return F.conv_transpose2d(x, weight, stride=2, padding=taps // 2 - 1, groups=channels)


class ModulatedConv2d(nn.Module):
    """3x3 convolution with a style: scale the input, convolve, bring the output back to unit scale (equation 3); then
    noise, bias and leaky ReLU. The noise is fixed.

    Args:
        inputs: channels in.
        outputs: channels out.
        side: of the output in pixels.
        style_dim: numbers in the layer's style.
        upsample: whether the input has half the side.
        gain: of the output, beside that of the ReLU.
        clamp: bound on the output before `gain`, or None.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, style_dim: int, upsample: bool, gain: float, clamp: float | None
    ) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.zeros(1, 1, side, side))
        self.noise: Tensor
        self.upsample, self.gain = upsample, gain * RELU_GAIN
        self.clamp = None if clamp is None else clamp * gain

    def forward(self, x: Tensor, w: Tensor, kernel: Tensor) -> Tensor:
        """Features `(B, inputs, H, W)` and a style each, `(B, D)`, to `(B, outputs, side, side)`."""
        style = self.affine(w)
        x = x * style[:, :, None, None]
        if self.upsample:
            x = blurred(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), kernel)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        unit = torch.rsqrt(style.square() @ self.weight.square().sum(dim=(2, 3)).T + EPSILON)
        shift = self.noise + self.bias[:, None, None]
        # a leaky ReLU lets a positive gain pass: here it is multiplied into the small tensors
        x = F.leaky_relu(torch.addcmul(self.gain * shift, x, self.gain * unit[:, :, None, None]), SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRgb(nn.Module):
    """1x1 convolution with a style, `(B, inputs, H, W)` to `(B, channels, H, W)`; the output keeps its scale."""

    def __init__(self, inputs: int, channels: int, style_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, inputs)
        self.conv = nn.Conv2d(inputs, channels, 1)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """With a style `(B, D)` each."""
        image: Tensor = self.conv(x * self.affine(w)[:, :, None, None])
        return image if self.clamp is None else image.clamp(-self.clamp, self.clamp)


class StyleGan2(MappedGenerator):
    """`dec` with the weights of a StyleGAN2. W+: every layer has a style of its own. The noise is fixed.

    >>> generator = read_generator(Path("network.pkl"))        # advmix.pretrained
    >>> latents = generator.sample(8, rng, truncation=0.7)     # styles (8, 2 log2(resolution) - 2, D)
    >>> images = generator(latents)                            # (8, 3, H, W) in [0, 1]

    Layer `2i` is the second convolution at `4 * 2**i` pixels; layer `2i + 1` the RGB output there (`skip`, or the last
    one) and the first convolution of the next resolution.
    """

    config: StyleGan2Config

    def __init__(self, config: StyleGan2Config) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.channels, self.layers = config.resolution, config.channels, config.layers
        self.z_dim, dim, widths = config.z_dim, config.style_dim, config.widths
        sizes = (config.z_dim, *config.mapping)
        self.mapping = MappingNetwork(nn.Linear(*pair) for pair in pairwise(sizes))
        self.register_buffer("mean_style", torch.zeros(dim))
        self.register_buffer("kernel", torch.full((config.taps, config.taps), config.taps**-2.0))
        self.kernel: Tensor
        self.register_buffer("beside_kernel", self.kernel.clone())
        self.beside_kernel: Tensor
        self.constant = nn.Parameter(torch.randn(1, widths[0], config.start, config.start))
        self.convs = nn.ModuleList(self._conv(config, layer) for layer in range(config.layers - 1))
        levels = range(len(widths))
        self.to_rgb = nn.ModuleDict(
            {
                str(level): ToRgb(widths[level], config.channels, dim, config.clamp)
                for level in (levels if config.architecture == "skip" else levels[-1:])
            }
        )
        self.shortcuts = nn.ModuleDict(
            {
                str(level): nn.Conv2d(widths[level - 1], widths[level], 1, bias=False)
                for level in (levels[1:] if config.architecture == "resnet" else ())
            }
        )

    @staticmethod
    def _conv(config: StyleGan2Config, layer: int) -> ModulatedConv2d:
        level, upsample = (layer + 1) // 2, layer % 2 == 1
        inputs = config.widths[level - 1 if upsample else level]
        summed = config.architecture == "resnet" and layer > 0 and not upsample
        return ModulatedConv2d(
            inputs,
            config.widths[level],
            config.start * 2**level,
            config.style_dim,
            upsample,
            math.sqrt(0.5) if summed else 1.0,  # so that the sum with its shortcut stays at unit scale
            config.clamp,
        )

    def prefix(self, latents: Latents, split: Split) -> State:
        """Up to the first `z⊥` layer, whose style scales its input."""
        self.check_split(split, has_grid=False)
        x = self.constant.expand(len(latents), -1, -1, -1)
        x, beside = self._run(x, None, latents.styles, range(split.first))
        return State(x, latents, split, beside)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """From the first `z⊥` layer to pixels around [-1, 1]."""
        styles = state.split.with_perp(state.latents, perp).styles
        _, image = self._run(state.features, state.beside, styles, range(state.split.first, self.layers))
        assert image is not None
        return image

    def _run(self, x: Tensor, beside: Tensor | None, styles: Tensor, layers: range) -> tuple[Tensor, Tensor | None]:
        """Some layers: features and what runs beside them, after the last layer the image."""
        for layer in layers:
            style, first_of_next = styles[:, layer], layer % 2 == 1
            if first_of_next:
                beside = self._beside(x, beside, style, layer // 2)
            if layer < len(self.convs):
                x = self.convs[layer](x, style, self.kernel)
            if self.shortcuts and beside is not None and not first_of_next:
                x, beside = x + beside, None
        return x, beside

    def _beside(self, x: Tensor, image: Tensor | None, style: Tensor, level: int) -> Tensor | None:
        """The image so far, at the next resolution unless this was the last; or the shortcut around the next block."""
        if str(level) in self.to_rgb:
            rgb: Tensor = self.to_rgb[str(level)](x, style)
            image = rgb if image is None else image + rgb
        if level == len(self.config.widths) - 1:
            return image
        if self.shortcuts:
            return upsampled(self.shortcuts[str(level + 1)](x), self.beside_kernel)
        return None if image is None else upsampled(image, self.beside_kernel)
