"""Colored-MNIST and its harder relatives: digits whose look gives them away in training, and says nothing in tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from advmix.data.digits import COLOR_NAMES, MEAN_COLORS, Painting, class_names, load_gray, make_painting
from advmix.data.images import ImageSet, slices, to_bytes
from advmix.data.settings import DataConfig
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import derive, generator

DEFAULT_TRAIN_IMAGES = 12_000


@dataclass(frozen=True, eq=False)
class GrayDigits:
    """Grey images `(N, 1, H, W)` uint8 with their labels."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> GrayDigits:
        return GrayDigits(self.pixels[index], self.labels[index], self.classes)

    def painted(self, look: Painting, paints: Tensor) -> ImageSet:
        """The same digits under paints `(N, P)` of a look."""
        parts = slices(len(self), 4096)
        painted = [to_bytes(look.paint(self.pixels[part].float() / 255, paints[part])) for part in parts]
        return ImageSet(torch.cat(painted), self.labels, self.classes)


@dataclass(frozen=True, eq=False)
class ColoredDigits:
    """The training set and the three tests of one configuration, made when asked for.

    Args:
        config: which digits.
        seed: fixes the choice of images and their paints.
        means: `(10, 3)`, the mean colours of the look `colored`.
        download: whether missing files may be fetched.
    """

    config: DataConfig
    seed: int = 0
    means: Tensor = field(default_factory=lambda: MEAN_COLORS)
    download: bool = True

    @cached_property
    def look(self) -> Painting:
        """How the digits are painted."""
        return make_painting(self.config.look, self.config.spread, self.means)

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

    def _painted(self, gray: GrayDigits, name: str, biased: bool) -> ImageSet:
        """In class paints: of the digit's own class, or of any."""
        if biased:
            classes = gray.labels[:, None].expand(-1, self.look.parts)
        else:
            classes = self.look.any_classes(len(gray), self._rng(name, "class"))
        images = gray.painted(self.look, self.look.of_classes(classes, self._rng(name, "noise")))
        return self._for_target(images, classes[:, 0])

    def _for_target(self, images: ImageSet, colors: Tensor) -> ImageSet:
        return images if self.config.target == "digit" else ImageSet(images.pixels, colors, COLOR_NAMES)

    @cached_property
    def train(self) -> ImageSet:
        """The look gives the digit away."""
        return self._painted(self.gray_train, "train", biased=True)

    @cached_property
    def train_unbiased(self) -> ImageSet:
        """The training digits with looks that say nothing: what the `ceiling` control sees, and nobody else."""
        return self._painted(self.gray_train, "train-unbiased", biased=False)

    @cached_property
    def biased(self) -> ImageSet:
        """Test digits painted as in training."""
        return self._painted(self.gray_test, "biased", biased=True)

    @cached_property
    def shuffled(self) -> ImageSet:
        """Test digits under the same class paints, drawn uniformly: the primary unbiased test."""
        return self._painted(self.gray_test, "shuffled", biased=False)

    @property
    def test(self) -> ImageSet:
        """The primary test: the shuffled one."""
        return self.shuffled

    @cached_property
    def uniform(self) -> ImageSet:
        """Test digits under any paints, most of them never seen in training; a colour's class is the nearest mean's."""
        paints = self.look.anything(len(self.gray_test), self._rng("uniform"))
        images = self.gray_test.painted(self.look, paints)
        return images if self.config.target == "digit" else self._for_target(images, nearest(paints, self.means))


def nearest(colors: Tensor, means: Tensor) -> Tensor:
    """Index of the nearest mean colour, `(N, 3)` and `(C, 3)` to `(N,)`."""
    return torch.cdist(colors, means).argmin(dim=1)
