"""Small real pictures for the tests: scikit-learn's digits and sample photographs, as files; and made-up scenes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor
from torch.nn import functional as F

from advmix.utils.torch_tools import generator


@cache
def photograph() -> Image.Image:
    """640x427, RGB."""
    return Image.fromarray(load_sample_images().images[0])


def digit(index: int) -> Image.Image:
    """8x8, grey."""
    return Image.fromarray((load_digits_once().images[index] * 15.9).astype(np.uint8))


def digit_label(index: int) -> int:
    return int(load_digits_once().target[index])


@cache
def load_digits_once() -> Any:
    return load_digits()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """As the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write(place: Path, files: Mapping[str, bytes | str]) -> Path:
    """Files by name, as a folder, or as a zip archive where `place` ends so."""
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name, data in contents.items():
                archive.writestr(name, data)
        return place
    for name, data in contents.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def digit_files(count: int, folder: str = "") -> dict[str, bytes | str]:
    """`0000.png` and so on."""
    return {f"{folder}{index:04}.png": encoded(digit(index)) for index in range(count)}


def digit_table(count: int, extra: str = "", values: Any = lambda _: "") -> str:
    """The labels of `digit_files` as CSV, with further columns and their values."""
    rows = [f"{index:04}.png,{digit_label(index)}{values(index)}" for index in range(count)]
    return "\n".join([f"filename,label{extra}", *rows]) + "\n"


def scenes(count: int, channels: int, size: int = 32, seed: int = 0) -> Tensor:
    """Smooth fields of colour with a little detail, none near black or white: `(count, channels, size, size)`."""
    rng = generator(seed, "tests", "scenes")
    coarse = F.interpolate(torch.rand(count, channels, 4, 4, generator=rng), size=size, mode="bicubic").clamp(0, 1)
    return 0.2 + 0.4 * coarse + 0.1 * torch.rand(count, channels, size, size, generator=rng)
