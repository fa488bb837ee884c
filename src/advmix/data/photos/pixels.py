"""One image of any mode and shape as a square of grey or RGB pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

CROPS = ("centre", "pad", "stretch")


class UnreadableError(Exception):
    """An image file that cannot be used; the message says why."""


def plain(image: Image.Image, channels: int) -> Image.Image:
    """Grey or RGB with 8 bits; transparent parts become white, 16 bits are scaled to 8.

    Raises:
        UnreadableError: pixels are floating-point numbers, whose range is anybody's guess.
    """
    if image.mode == "F":
        raise UnreadableError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        wide = np.asarray(image).clip(0, 65535).astype(np.uint32)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def fitted(image: Image.Image, size: int, crop: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A grey or RGB image as `(C, size, size)`: its central square, all of it on a black square, or all of it
    stretched to one; antialiased.
    """
    square, method = (size, size), Image.Resampling.LANCZOS
    if crop == "centre":
        image = ImageOps.fit(image, square, method)
    elif crop == "pad":
        image = ImageOps.pad(image, square, method)
    else:
        image = image.resize(square, method)
    return np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)
