"""Digits: scikit-learn's, which need no download, and the data sets in MNIST's format; and how they are painted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.data.images import to_bytes
from advmix.utils.config import expanded
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator

DIGITS_TEST = 500
CLASS_NAMES = {
    "fashion-mnist": ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


def class_names(source: str) -> tuple[str, ...]:
    """Ten names, in label order."""
    return CLASS_NAMES.get(source, tuple("0123456789"))


def load_gray(
    source: str, data_dir: Path, part: Literal["train", "test"], download: bool = True
) -> tuple[Tensor, Tensor]:
    """Grey images `(N, 1, H, W)` uint8 and labels `(N,)`: 16x16 for `digits`, 32x32 for the others.

    Raises:
        UserError: files missing (and no network to fetch them), or truncated.
    """
    if source == "digits":
        return _scikit_digits(part)
    return _idx_digits(source, expanded(data_dir, "data-dir"), part, download)


def _scikit_digits(part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(raw.images / 16).float()[:, None]
    labels = torch.from_numpy(raw.target.astype(np.int64))
    order = torch.randperm(len(labels), generator=generator(0, "digits", "split"))
    chosen = order[:DIGITS_TEST] if part == "test" else order[DIGITS_TEST:]
    larger = F.interpolate(images[chosen], scale_factor=2, mode="bilinear", align_corners=False)
    return to_bytes(larger), labels[chosen]


def _idx_digits(source: str, data_dir: Path, part: Literal["train", "test"], download: bool) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST, "kmnist": datasets.KMNIST}[source]
    raw = data_dir / kind.__name__ / "raw"
    names = [Path(name).stem for name, _ in kind.resources]
    missing = [name for name in names if not (raw / name).is_file()]
    if missing and not download:
        raise UserError(
            f"{raw.absolute()}: missing {', '.join(missing)}, which were there when this was made; put them back"
        )
    if missing:
        _download(kind, source, data_dir, f"{raw}: missing {', '.join(missing)}")
    for name in names:
        _check_size(raw / name)
    data = kind(str(data_dir), train=part == "train", download=False)
    if data.targets.max() >= len(class_names(source)):
        raise UserError(
            f"{raw}: a label is {int(data.targets.max())}, but {source} has ten classes; fetch the files again"
        )
    if len(data.data) != len(data.targets):
        raise UserError(f"{raw}: {len(data.data)} {part} images but {len(data.targets)} labels; fetch the files again")
    images = F.pad(data.data[:, None], (2, 2, 2, 2))
    return images, data.targets


def _download(kind: type, source: str, data_dir: Path, missing: str) -> None:
    """Let torchvision fetch the files, or say in one line what is missing and where it may be put."""
    raw = data_dir / kind.__name__ / "raw"
    absent = [folder for folder in (raw, *raw.parents) if not folder.exists()]
    try:
        kind(str(data_dir), download=True)
    except (OSError, RuntimeError) as error:
        for folder in absent:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{missing}; downloading failed ({reason}). Put {source}'s four idx files there, or name the folder that "
            f"contains {kind.__name__}/raw with --data-dir"
        ) from error


def _check_size(path: Path) -> None:
    """An idx file's header says how long it must be: two zero bytes, type, dimensions, then a 4-byte size for each."""
    with path.open("rb") as file:
        header = file.read(4)
        dimensions = header[3] if len(header) == 4 and header[:3] == b"\x00\x00\x08" else 0
        raw = file.read(4 * dimensions)
    if not 1 <= dimensions <= 3 or len(raw) != 4 * dimensions:
        raise UserError(f"{path}: not an idx file of bytes, or truncated; fetch it again")
    wanted = 4 + 4 * dimensions + prod(np.frombuffer(raw, dtype=">u4").tolist())
    if path.stat().st_size != wanted:
        raise UserError(f"{path}: truncated, {path.stat().st_size} bytes of {wanted}; fetch it again")


MEAN_COLORS = torch.tensor(
    [
        [0.90, 0.15, 0.15],  # red
        [0.10, 0.65, 0.20],  # green
        [0.25, 0.35, 1.00],  # blue
        [0.95, 0.90, 0.15],  # yellow
        [0.90, 0.20, 0.90],  # magenta
        [0.15, 0.90, 0.90],  # cyan
        [1.00, 0.55, 0.10],  # orange
        [0.95, 0.95, 0.95],  # white
        [0.50, 0.45, 0.40],  # grey
        [1.00, 0.65, 0.75],  # pink
    ]
)

COLOR_NAMES = ("red", "green", "blue", "yellow", "magenta", "cyan", "orange", "white", "grey", "pink")

LUMA = torch.tensor([0.299, 0.587, 0.114])

MIN_BRIGHTNESS = 0.3


def noisy(means: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """`clip(mean + N(0, std²), 0, 1)`, `(N, ...)`."""
    return (means + std * torch.randn(means.shape, generator=rng)).clamp(0, 1)


def bright(colors: Tensor) -> Tensor:
    """Which colours `(N, 3)` are bright enough to see: Rec. 601 luma of at least 0.3."""
    return colors @ LUMA >= MIN_BRIGHTNESS


def uniform_colors(count: int, rng: torch.Generator) -> Tensor:
    """`(count, 3)`, uniform over the RGB cube above the brightness floor, by rejection."""
    colors = torch.empty(0, 3)
    while len(colors) < count:
        draw = torch.rand(2 * count, 3, generator=rng)
        colors = torch.cat([colors, draw[bright(draw)]])
    return colors[:count]


def color_grid(levels: int = 4) -> Tensor:
    """The fixed grid of the exact worst case: all bright colours with channels in {0, 1/3, 2/3, 1}, `(G, 3)`."""
    axis = torch.linspace(0, 1, levels)
    grid = torch.cartesian_prod(axis, axis, axis)
    return grid[bright(grid)]


class Painting(ABC):
    """How digits are painted.

    >>> look = Colored(MEAN_COLORS, std=0.1)
    >>> images = look.paint(gray, look.of_classes(labels[:, None], rng))     # as in training: the class shows
    >>> images = look.paint(gray, look.of_classes(look.any_classes(len(gray), rng), rng))     # the class says nothing

    Attributes:
        parts: how many parts of an image have a class of their own in an unbiased test (digit; background).
        classes: how many class looks there are of each part.
    """

    parts: int = 1
    classes: int = 10

    @abstractmethod
    def of_classes(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Paints `(N, P)` that look like `classes` `(N, parts)`, with some noise."""

    @abstractmethod
    def anything(self, count: int, rng: torch.Generator) -> Tensor:
        """Paints `(count, P)` from all over the space, most of them never seen in training."""

    @abstractmethod
    def grid(self) -> Tensor:
        """The fixed paints `(G, P)` of the exact worst case."""

    @abstractmethod
    def paint(self, gray: Tensor, paints: Tensor) -> Tensor:
        """Grey digits `(N, 1, H, W)` in [0, 1] under paints `(N, P)`: `(N, 3, H, W)` in [0, 1]."""

    def any_classes(self, count: int, rng: torch.Generator) -> Tensor:
        """Classes `(count, parts)`, uniform and independent, of looks that can be seen."""
        return torch.randint(self.classes, (count, self.parts), generator=rng)


@dataclass(frozen=True, eq=False)
class Colored(Painting):
    """One colour per image, `gray * clip(mean[c] + N(0, std²), 0, 1)`: Colored-MNIST.

    Args:
        means: `(C, 3)` in [0, 1].
        std: standard deviation around the mean, colours in [0, 1].
    """

    means: Tensor
    std: float

    def of_classes(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Colours `(N, 3)` around the classes' means."""
        return noisy(self.means[classes[:, 0]], self.std, rng)

    def anything(self, count: int, rng: torch.Generator) -> Tensor:
        """Uniform over the bright part of the RGB cube."""
        return uniform_colors(count, rng)

    def grid(self) -> Tensor:
        """48 bright colours."""
        return color_grid()

    def paint(self, gray: Tensor, paints: Tensor) -> Tensor:
        """`gray * colour`, on black."""
        return gray * paints[:, :, None, None]


PAINTINGS: dict[str, Callable[[float, Tensor], Painting]] = {"colored": lambda std, means: Colored(means, std)}
"""By name: from the standard deviation of the colours, and the classes' mean colours `(10, 3)`."""


def make_painting(name: str, std: float, means: Tensor = MEAN_COLORS) -> Painting:
    """A painting by its name, one of `PAINTINGS`; `means` are the mean colours of `colored`."""
    return PAINTINGS[name](std, means)
