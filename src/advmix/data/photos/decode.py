"""From image files of any size and mode to `(N, C, H, W)` uint8."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.filesize import decimal
from torch import Tensor

from advmix.data.images import slices
from advmix.data.photos.pixels import UnreadableError, fitted, plain
from advmix.errors import UserError, printable
from advmix.progress import track

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow knows more; some of those start other programs."""
WORKERS = min(8, os.cpu_count() or 1)
CHUNK = 32
T = TypeVar("T")


@dataclass(frozen=True)
class Broken:
    """An image that cannot be used, and why."""

    name: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """As it goes into a file."""
        return {"name": printable(self.name), "reason": self.reason}


@dataclass(frozen=True, eq=False)
class Decoded:
    """What became of the images.

    Args:
        pixels: `(N, C, size, size)` uint8, of those that could be read, in order.
        kept: `(N,)`, their places among all.
        broken: the others.
        sizes: how many have a width and height in pixels, as stored (before EXIF rotation).
        modes: how many have a mode of Pillow, such as `RGB` or `L`.
    """

    pixels: Tensor
    kept: Tensor
    broken: tuple[Broken, ...]
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]


def open_bytes(data: bytes) -> Image.Image:
    """An image from a file's bytes, not decoded yet."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def decode_all(
    opener: Callable[[str], Image.Image],
    names: Sequence[str],
    size: int,
    channels: int,
    crop: str,
    progress: bool = True,
) -> Decoded:
    """Decode with several threads; every image that cannot be read is named in `broken`.

    Args:
        opener: from name to image; what it raises makes the image broken.
        names: of the images.
        size: width and height of the result, in pixels.
        channels: 1 (grey) or 3 (RGB).
        crop: one of `pixels.CROPS`.
        progress: whether it is shown.

    Raises:
        UserError: more memory than there is.
    """
    pixels = _room((len(names), channels, size, size))

    def one(index: int) -> tuple[tuple[int, int], str] | Broken:
        try:
            image, stored = read(opener, names[index], size)
            pixels[index] = fitted(plain(image, channels), size, crop)
        except UnreadableError as error:
            return Broken(names[index], str(error))
        return stored

    found = _in_threads(one, len(names), progress)
    kept = [index for index, result in enumerate(found) if not isinstance(result, Broken)]
    facts = [result for result in found if not isinstance(result, Broken)]
    return Decoded(
        torch.from_numpy(pixels if len(kept) == len(names) else pixels[kept]),
        torch.tensor(kept, dtype=torch.int64),
        tuple(result for result in found if isinstance(result, Broken)),
        Counter(stored_size for stored_size, _ in facts),
        Counter(mode for _, mode in facts),
    )


def _room(shape: tuple[int, int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError as error:
        count, _, _, size = shape
        words = f"{count:,} images of {size}x{size} pixels need {decimal(math.prod(shape))} of memory"
        raise UserError(f"{words}; use a smaller --size, or --limit") from error


def read(opener: Callable[[str], Image.Image], name: str, size: int) -> tuple[Image.Image, tuple[tuple[int, int], str]]:
    """The decoded image, turned as its EXIF data say, with its size and mode as stored.

    A JPEG much larger than `size` is decoded at a half, a quarter or an eighth, never below twice `size`.

    Raises:
        UnreadableError: for whatever reason.
    """
    try:
        image = opener(name)
        stored = (image.size, image.mode)
        image.draft(None, (2 * size, 2 * size))
        image.load()
        return ImageOps.exif_transpose(image), stored
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError("more than 89 million pixels, Pillow's limit") from error
    except UnidentifiedImageError as error:
        raise UnreadableError(f"not an image of the formats {' '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds for damaged files, zipfile some more
        raise UnreadableError(printable(str(error)) or type(error).__name__) from error


def _in_threads(work: Callable[[int], T], count: int, progress: bool) -> list[T]:
    """`work(0)` to `work(count - 1)`; an interruption does not wait for what has not begun."""
    pool = ThreadPoolExecutor(WORKERS)
    results: list[T] = []
    try:
        shown = track("read images", count) if progress else nullcontext(lambda steps, note: None)
        with _bombs_are_errors(), shown as advance:
            for part in pool.map(lambda chunk: [work(i) for i in range(chunk.start, chunk.stop)], slices(count, CHUNK)):
                results += part
                advance(len(part), "")
    finally:
        pool.shutdown(cancel_futures=True)
    return results


@contextmanager
def _bombs_are_errors() -> Iterator[None]:
    """Pillow's doubts about a file's size count, its other warnings (odd EXIF data and the like) do not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
