"""Which data: painted digits, or a user's own images."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields, replace
from math import sqrt
from pathlib import Path
from typing import Any

from advmix.data.photos.decode import PhotoOptions, PhotoShape
from advmix.utils.config import Settings, check_values
from advmix.utils.errors import UserError, printable

SOURCES = ("digits", "mnist", "fashion-mnist", "kmnist")
"""The digits that we paint."""
TARGETS = ("digit", "color")
PAINT = ("look", "color_std", "color_variance", "train_images", "test_images")
"""Fields of painted digits alone, as `photos` are of a user's own images."""


@dataclass(frozen=True)
class DataConfig(Settings):
    """Which images, how digits are painted, and what is to be recognised.

    Args:
        data: painted digits: `digits` (scikit-learn's, 16x16, no download), or 32x32 `mnist`, `fashion-mnist`,
            `kmnist`; or your own images: a folder (class/image, or with a labels.csv), a .zip or .csv file,
            shards of WebDataset (`'DIR/train-{000000..000009}.tar'`), `torchvision:NAME`, `hf:NAME` or
            `hf-stream:NAME`. Empty where none are named.
        data_dir: folder in torchvision's layout, `DIR/MNIST/raw/train-images-idx3-ubyte`; not used by `digits`.
            `$NAME` in it is an environment variable, filled in when files are read.
        look: how digits are painted: `colored`, one colour per image.
        color_std: standard deviation of an image's colour around its mean colour, colours in [0, 1].
        color_variance: the same as a variance, as some papers have it; replaces `color_std` when given.
        target: what is to be recognised. On painted digits `digit`, the default, or `color`, the reversed task on the
            same training images; on your own the column of the labels, which may be left out where it is plain.
        train_images: size of the training set, drawn at random; default all 1,297 of `digits`, 12,000 of the others.
        test_images: size of the test set; default all.
        photos: your own images: which are read, in which shape.
    """

    data: str = "digits"
    data_dir: Path = Path("data")
    look: str = "colored"
    color_std: float = 0.1
    color_variance: float | None = None
    target: str | None = None
    train_images: int | None = None
    test_images: int | None = None
    photos: PhotoShape = field(default_factory=PhotoShape)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "data", str(self.data))
        if self.is_painted:
            self._check_paint()
        elif self.data and not any(mark in self.data for mark in "/\\.:$~") and not os.path.lexists(self.data):
            known = " ".join(SOURCES)
            data = printable(self.data)
            raise UserError(f"--data {data}: unknown; choose from {known}, or name a folder, .zip, .csv or .tar file")

    @property
    def is_painted(self) -> bool:
        """Whether these are digits that we paint, and not a user's own images."""
        return self.data in SOURCES

    @property
    def says_nothing(self) -> bool:
        """Whether everything is as it is by default; `digits`, too, is what runs have written where none were named."""
        return self in (DataConfig(), DataConfig(data=""))

    def sized(self, channels: int, side: int) -> DataConfig:
        """The same images of a user's own, read in this size."""
        return replace(self, photos=replace(self.photos, size=side, channels=channels))

    def over(self, own: DataConfig, source: Path) -> DataConfig:
        """What these say without naming any images, laid over those that `source` was made from: defaults say nothing.

        Raises:
            UserError: something that is only said of other images.
        """
        said, photos = _said(self, DataConfig(data="")), _said(self.photos, PhotoShape())
        said.pop("photos", None)
        if own.is_painted:
            foreign, kind = list(photos), "images of your own"
        else:
            foreign, kind = [name for name in said if name in PAINT], "painted digits"
        if foreign:
            flag = f"--{foreign[0].replace('_', '-')}"
            raise UserError(f"{flag}: only for {kind}, but {source} was made from {own.data}; name images with --data")
        return replace(own, **said, photos=replace(own.photos, **photos))

    def _check_paint(self) -> None:
        from advmix.data.digits import PAINTINGS

        if self.target is None:
            object.__setattr__(self, "target", TARGETS[0])
        for flag, value, known in (("look", self.look, PAINTINGS), ("target", self.target, TARGETS)):
            if value not in known:
                raise UserError(f"--{flag} {value}: unknown; choose from {' '.join(known)}")
        if self.target == "color" and self.look != "colored":
            raise UserError(f"--target color: only with --look colored, not {self.look}")
        check_values(self, "color_std color_variance", least=0)
        check_values(self, "train_images test_images", least=2)

    @property
    def spread(self) -> float:
        """Standard deviation of the colours, however it was given."""
        return self.color_std if self.color_variance is None else sqrt(self.color_variance)

    def photo_options(self) -> PhotoOptions:
        """How a user's own images are read."""
        return PhotoOptions(**asdict(self.photos), target=self.target, data_dir=self.data_dir)


def _said(options: Any, usual: Any) -> dict[str, Any]:
    """The fields that are not as they are by default."""
    values = {part.name: getattr(options, part.name) for part in fields(options)}
    return {name: value for name, value in values.items() if value != getattr(usual, name)}
