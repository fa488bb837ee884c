"""Any data set as the stages see it."""

from __future__ import annotations

from typing import Protocol

from advmix.data.colored import ColoredDigits, DataConfig
from advmix.data.images import ImageSet
from advmix.errors import UserError


class Data(Protocol):
    """What every stage asks of a data set.

    Attributes:
        config: which one.
        seed: fixes whatever is drawn at random.
        train: the training images.
    """

    @property
    def config(self) -> DataConfig: ...

    @property
    def seed(self) -> int: ...

    @property
    def train(self) -> ImageSet: ...


def open_data(config: DataConfig, seed: int, download: bool = True) -> Data:
    """The data set that a config describes.

    Args:
        config: which one.
        seed: fixes the choice of images and their paints, or the split.
        download: whether missing files may be fetched.
    """
    return ColoredDigits(config, seed, download=download)


def painted_digits(data: Data, who: str) -> ColoredDigits:
    """The same, where only painted digits will do: their paint can be changed at will.

    Raises:
        UserError: other images, naming who asks.
    """
    if not isinstance(data, ColoredDigits):
        raise UserError(f"{who}: only for painted digits, not for {data.config.data}")
    return data
