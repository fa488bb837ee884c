"""Any data set as the stages see it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from advmix.data.colored import ColoredDigits
from advmix.data.config import DataConfig
from advmix.data.images import ImageSet
from advmix.data.photos import Broken, Native, PhotoOptions, Photos, load_photos, native_photos
from advmix.data.photos.load import say_left_out, say_notes
from advmix.errors import UserError


class Data(Protocol):
    """What every stage asks of a data set.

    Attributes:
        config: which one.
        seed: fixes whatever is drawn at random.
        train: the training images.
        test: images that nothing is trained on.
    """

    @property
    def config(self) -> DataConfig: ...

    @property
    def seed(self) -> int: ...

    @property
    def train(self) -> ImageSet: ...

    @property
    def test(self) -> ImageSet: ...


@dataclass(frozen=True, eq=False)
class OwnImages:
    """A user's images, read when asked for.

    Args:
        config: where they are.
        seed: fixes the split, where they have none.
        download: whether missing files may be fetched.
    """

    config: DataConfig
    seed: int = 0
    download: bool = True

    @cached_property
    def photos(self) -> Photos:
        """Everything that was read; a line says what was left out."""
        photos = load_photos(self.config.data, self._options(), self.seed)
        read = sum(len(found) for found in photos.splits.values())
        say_left_out(self.config.data, photos.broken, read + len(photos.broken))
        say_notes(self.config.data, photos.notes)
        return photos

    def native(self) -> AbstractContextManager[Native]:
        """The same images in other sizes, read from their files when asked for."""
        return native_photos(self.config.data, self._options())

    def _options(self) -> PhotoOptions:
        options = self.config.photo_options()
        return replace(options, download=options.download and self.download)

    @property
    def train(self) -> ImageSet:
        """The training images."""
        return self.photos.train.images

    @property
    def test(self) -> ImageSet:
        """The test images; those of `val` where there are none."""
        return self.photos.test.images


def open_data(config: DataConfig, seed: int, download: bool = True) -> Data:
    """The data set that a config describes.

    Args:
        config: which one.
        seed: fixes the choice of images and their paints, or the split.
        download: whether missing files may be fetched.

    Raises:
        UserError: it names none.
    """
    if not config.data:
        raise UserError("no images are named, and nothing says which; name images with --data")
    return (ColoredDigits if config.is_painted else OwnImages)(config, seed, download=download)


def painted_digits(data: Data, who: str, remedy: str = "") -> ColoredDigits:
    """The same, where only painted digits will do: their paint can be changed at will.

    Raises:
        UserError: other images, naming who asks.
    """
    if not isinstance(data, ColoredDigits):
        raise UserError(f"{who}: only for painted digits, not for {data.config.data}{remedy and f'; {remedy}'}")
    return data


def names_of(data: Data, split: str) -> tuple[str, ...]:
    """What the `train` or `test` images are called: painted digits have numbers only, `test/000017`."""
    if isinstance(data, OwnImages):
        return (data.photos.train if split == "train" else data.photos.test).names
    return tuple(f"{split}/{place:06d}" for place in range(len(data.train if split == "train" else data.test)))


def broken_of(data: Data) -> tuple[Broken, ...]:
    """The images that could not be read and were left out; none of painted digits."""
    return data.photos.broken if isinstance(data, OwnImages) else ()
