"""Light itself, of which pixels in [0, 1] are a code: sRGB (IEC 61966-2-1), and gains of its channels.

A change of exposure or of the light's colour multiplies each channel of linear light (von Kries, "Die
Gesichtsempfindungen", 1905).
"""

from __future__ import annotations

import torch
from torch import Tensor

from advmix.generators.image_statistics import from_opponent, to_opponent

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Shares of linear red, green and blue (ITU-R BT.709)."""

KNEE, LINEAR_KNEE, SLOPE, POWER, OFFSET = 0.04045, 0.0031308, 12.92, 2.4, 0.055
"""Of the code: below the knee, which is given in pixels and in light, pixels are proportional to light."""


def to_linear(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] to linear light in [0, 1], any shape."""
    return torch.where(pixels <= KNEE, pixels / SLOPE, ((pixels.clamp_min(KNEE) + OFFSET) / (1 + OFFSET)) ** POWER)


def from_linear(light: Tensor) -> Tensor:
    """The inverse of `to_linear`; light above 1 becomes pixels above 1, for the caller to clip."""
    power = (1 + OFFSET) * light.clamp_min(LINEAR_KNEE) ** (1 / POWER) - OFFSET
    return torch.where(light <= LINEAR_KNEE, light * SLOPE, power)


def luminance(light: Tensor) -> Tensor:
    """Of `(..., C)` linear light, one channel or three: `(...)`."""
    return light[..., 0] if light.shape[-1] == 1 else light @ light.new_tensor(LUMINANCE)


def channel_gains(exposure: Tensor, temperature: Tensor, tint: Tensor) -> Tensor:
    """Gains of linear red, green and blue, `(..., 3)`.

    Args:
        exposure: of the luminance of grey, in stops, `(...)`: one more is twice the light.
        temperature: red against blue, in stops; from daylight (D65) to a light bulb (illuminant A) it is 3.0.
        tint: green against the mean of red and blue, in stops.
    """
    gains = from_opponent(torch.stack([torch.zeros_like(temperature), temperature, tint], dim=-1)).exp2()
    return gains * (exposure.exp2() / luminance(gains))[..., None]


def light_terms(gains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse of `channel_gains`: exposure, temperature and tint, each `(...)`; of one channel the last two are 0.

    Args:
        gains: positive, `(..., 3)` or `(..., 1)`.
    """
    exposure = luminance(gains).log2()
    if gains.shape[-1] == 1:
        return exposure, torch.zeros_like(exposure), torch.zeros_like(exposure)
    _, temperature, tint = to_opponent(gains.log2()).unbind(-1)
    return exposure, temperature, tint
