"""How a user's images are read."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.filesize import decimal
from torch import Tensor

from advmix.data.images import slices
from advmix.utils.config import check_values
from advmix.utils.errors import UserError, printable


@dataclass(frozen=True)
class PhotoShape:
    """Which of a user's images are read, and in which shape.

    Args:
        group: columns of other things that are known (`Male`, `background`): they are counted against the classes.
        site: column that says where an image comes from (a site, a camera, a laboratory).
        size: width and height of the images as they are used, in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop: `centre` (the largest square in the middle), `pad` (all of it, on a black square) or `stretch`.
        holdout: share of every class that becomes the test, in [0, 1), where the data have none of their own.
        split_seed: which images are held out. Not the seed of a run: runs of different seeds share the test.
        split_by: column of what must not be in two splits, a person for example.
        limit: at most so many images of every split, drawn at random; default all.
        skip_broken: leave out images that cannot be read; by default they are an error.
        download: whether torchvision and Hugging Face may fetch what is missing.
    """

    group: tuple[str, ...] = ()
    site: str | None = None
    size: int = 64
    channels: int = 3
    crop: str = "centre"
    holdout: float = 0.2
    split_seed: int = 0
    split_by: str | None = None
    limit: int | None = None
    skip_broken: bool = False
    download: bool = False

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise UserError(f"--crop {self.crop}: unknown; choose from {' '.join(CROPS)}")
        if self.channels not in (1, 3):
            raise UserError(f"--channels {self.channels}: must be 1 (grey) or 3 (RGB)")
        check_values(self, "size limit", least=1)
        check_values(self, "holdout", least=0)
        if self.holdout >= 1:
            raise UserError(f"--holdout {self.holdout}: must be less than 1")


@dataclass(frozen=True)
class PhotoOptions(PhotoShape):
    """The same, with what is recognised on them.

    Args:
        target: column of the labels; may be left out where there is one column, or one is called class, label or
            target.
        data_dir: folder of torchvision's data sets.
    """

    target: str | None = None
    data_dir: Path = Path("data")


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


FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")

"""Pillow knows more; some of those start other programs."""

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".pnm", ".ppm", ".pgm", ".pbm"),
)


def is_picture(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.lower().endswith(ENDINGS)


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
    advance: Callable[[int, str], object] | None = None,
) -> Decoded:
    """Decode with several threads; every image that cannot be read is named in `broken`.

    Args:
        opener: from name to image; what it raises makes the image broken.
        names: of the images.
        size: width and height of the result, in pixels.
        channels: 1 (grey) or 3 (RGB).
        crop: one of `pixels.CROPS`.
        advance: is told how many are done.

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

    found = _in_threads(one, len(names), advance)
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


def _in_threads(work: Callable[[int], T], count: int, advance: Callable[[int, str], object] | None) -> list[T]:
    """`work(0)` to `work(count - 1)`; an interruption does not wait for what has not begun."""
    pool = ThreadPoolExecutor(WORKERS)
    results: list[T] = []
    try:
        with _bombs_are_errors():
            for part in pool.map(lambda chunk: [work(i) for i in range(chunk.start, chunk.stop)], slices(count, CHUNK)):
                results += part
                if advance is not None:
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
