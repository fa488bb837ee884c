"""Colored-MNIST: digits whose colour gives them away in training and says nothing in the test.

One colour per image, `gray * clip(mean[c] + N(0, std²), 0, 1)`. Training: `c` is the digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from advmix.data.digits import SOURCES, class_names, load_gray
from advmix.data.images import ImageSet, to_bytes
from advmix.errors import UserError
from advmix.options import require
from advmix.seeds import derive, generator

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
LUMA = torch.tensor([0.299, 0.587, 0.114])
MIN_BRIGHTNESS = 0.3
DEFAULT_TRAIN_IMAGES = 12_000


@dataclass(frozen=True)
class DataConfig:
    """Which digits, and how they are coloured.

    Args:
        data: `digits` (scikit-learn's, 16x16, no download), or 32x32: `mnist`, `fashion-mnist`, `kmnist`.
        data_dir: folder in torchvision's layout, `DIR/MNIST/raw/train-images-idx3-ubyte`; not used by `digits`.
            `$NAME` in it is an environment variable, filled in when files are read.
        color_std: standard deviation of an image's colour around its mean colour, colours in [0, 1].
        train_images: size of the training set, drawn at random; default all 1,297 of `digits`, 12,000 of the others.
        test_images: size of the test set; default all.
    """

    data: str = "digits"
    data_dir: Path = Path("data")
    color_std: float = 0.1
    train_images: int | None = None
    test_images: int | None = None

    def __post_init__(self) -> None:
        if self.data not in SOURCES:
            raise UserError(f"--data {self.data}: unknown; choose from {' '.join(SOURCES)}")
        require(self, "color_std", least=0)
        require(self, "train_images test_images", least=2)


@dataclass(frozen=True, eq=False)
class GrayDigits:
    """Grey images `(N, 1, H, W)` uint8 with their labels."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def painted(self, colors: Tensor) -> ImageSet:
        """The same digits in the given colours, `(N, 3)` in [0, 1]."""
        return ImageSet(to_bytes(paint(self.pixels.float() / 255, colors)), self.labels, self.classes)


def paint(gray: Tensor, colors: Tensor) -> Tensor:
    """`(B, 1, H, W)` in [0, 1] times `(B, 3)` in [0, 1]: `(B, 3, H, W)`."""
    return gray * colors[:, :, None, None]


def noisy(means: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """`clip(mean + N(0, std²), 0, 1)`, `(N, 3)`."""
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


def apart_colors(count: int, rng: torch.Generator) -> Tensor:
    """`(count, 3)` bright colours, each one as far as possible from those before it among 512 random ones."""
    pool = uniform_colors(512, rng)
    chosen = pool[:1]
    while len(chosen) < count:
        distance = torch.cdist(pool, chosen).min(dim=1).values
        chosen = torch.cat([chosen, pool[distance.argmax()][None]])
    return chosen


def color_grid(levels: int = 4) -> Tensor:
    """The fixed grid of the exact worst case: all bright colours with channels in {0, 1/3, 2/3, 1}, `(G, 3)`."""
    axis = torch.linspace(0, 1, levels)
    grid = torch.cartesian_prod(axis, axis, axis)
    return grid[bright(grid)]


@dataclass(frozen=True, eq=False)
class ColoredDigits:
    """The training set and the three tests of one configuration, made when asked for.

    Args:
        config: which digits.
        seed: fixes the choice of images and their colours.
        means: `(10, 3)`, the mean colours.
        download: whether missing files may be fetched.
    """

    config: DataConfig
    seed: int = 0
    means: Tensor = field(default_factory=lambda: MEAN_COLORS)
    download: bool = True

    @cached_property
    def gray_train(self) -> GrayDigits:
        """Training digits without colour."""
        default = None if self.config.data == "digits" else DEFAULT_TRAIN_IMAGES
        return self._gray("train", self.config.train_images, default)

    @cached_property
    def gray_test(self) -> GrayDigits:
        """Test digits without colour."""
        return self._gray("test", self.config.test_images)

    def _gray(self, part: str, asked: int | None, default: int | None = None) -> GrayDigits:
        config = self.config
        pixels, labels = load_gray(config.data, config.data_dir, "train" if part == "train" else "test", self.download)
        if asked is not None and asked > len(labels):
            raise UserError(f"--{part}-images {asked}: {config.data} has only {len(labels)}")
        count = asked or default
        if count is not None and count < len(labels):
            chosen = torch.randperm(len(labels), generator=self._rng(part, "choice"))[:count]
            pixels, labels = pixels[chosen], labels[chosen]
        return GrayDigits(pixels, labels, class_names(self.config.data))

    def _rng(self, *path: str) -> torch.Generator:
        return generator(derive(self.seed, "colored"), *path)

    def _in_mean_colors(self, gray: GrayDigits, which: Tensor, name: str) -> ImageSet:
        return gray.painted(noisy(self.means[which], self.config.color_std, self._rng(name, "noise")))

    def _any_class(self, gray: GrayDigits, name: str) -> Tensor:
        return torch.randint(len(self.means), (len(gray.labels),), generator=self._rng(name, "class"))

    @cached_property
    def train(self) -> ImageSet:
        """Colour gives the digit away."""
        return self._in_mean_colors(self.gray_train, self.gray_train.labels, "train")

    @cached_property
    def train_unbiased(self) -> ImageSet:
        """The training digits with colours that say nothing: what the `ceiling` control sees, and nobody else."""
        gray = self.gray_train
        return self._in_mean_colors(gray, self._any_class(gray, "train-unbiased"), "train-unbiased")

    @cached_property
    def biased(self) -> ImageSet:
        """Test digits coloured as in training."""
        return self._in_mean_colors(self.gray_test, self.gray_test.labels, "biased")

    @cached_property
    def shuffled(self) -> ImageSet:
        """Test digits under the same mean colours, drawn uniformly: the primary unbiased test."""
        gray = self.gray_test
        return self._in_mean_colors(gray, self._any_class(gray, "shuffled"), "shuffled")

    @cached_property
    def uniform(self) -> ImageSet:
        """Test digits in colours from all over the cube, most of them never seen in training."""
        return self.gray_test.painted(uniform_colors(len(self.gray_test.labels), self._rng("uniform")))
