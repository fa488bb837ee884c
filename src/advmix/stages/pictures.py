"""The images that `advmix predict` is asked about: labelled or not, of any data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from advmix.classifiers import OpenClassifier
from advmix.data import ColoredDigits, Data, DataConfig, ImageSet, open_data
from advmix.data.photos import PhotoShape, load_pictures
from advmix.data.sources import OwnImages
from advmix.errors import UserError
from advmix.stages.sources import Mixable, data_of

if TYPE_CHECKING:
    from advmix.stages.predict import PredictConfig

PAINTED = ("train", "test", "biased", "shuffled", "uniform")


@dataclass(frozen=True, eq=False)
class Pictures:
    """N images.

    Attributes:
        pixels: `(N, C, H, W)`, uint8.
        names: how a person finds each one again.
        labels: `(N,)`, class indices; None where unknown.
        classes: their names; None where unknown.
    """

    pixels: Tensor
    names: tuple[str, ...]
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any pixel, name or label."""
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.names, self.classes)).encode())
        digest.update(self.pixels.contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def find_pictures(config: PredictConfig, opened: OpenClassifier, mixable: Mixable | None) -> Pictures:
    """The images that the flags name, else those of the classifier's or the generator's data set.

    Raises:
        UserError: there are none, or no such part of them.
    """
    data = _shaped(config.data, opened, mixable)
    if config.unlabelled:
        return Pictures(*load_pictures(data.data, data.photo_options()))
    return _part(_data(config, data, opened, mixable), config.part)


def _shaped(data: DataConfig, opened: OpenClassifier, mixable: Mixable | None) -> DataConfig:
    """Own images in the size that the classifier wants, unless the flags say another."""
    wanted = opened.image[-1] if opened.image is not None else opened.input_size
    if wanted is None and mixable is not None:
        wanted = mixable.model.generator.resolution
    if wanted is None or data.is_painted or data.photos.size != PhotoShape().size:
        return data
    return replace(data, photos=replace(data.photos, size=wanted))


def _data(config: PredictConfig, data: DataConfig, opened: OpenClassifier, mixable: Mixable | None) -> Data:
    if config.data == DataConfig() and config.folder is not None:
        return data_of(opened.metadata, config.folder)
    if config.data == DataConfig() and mixable is not None and config.generator is not None:
        return data_of(mixable.metadata, config.generator)
    return open_data(data, config.seed)


def _part(data: Data, name: str) -> Pictures:
    if isinstance(data, OwnImages):
        splits = data.photos.splits
        if name not in splits:
            raise UserError(f"--part {name}: {data.config.data} has {' '.join(splits)}")
        return _labelled(splits[name].images, splits[name].names)
    assert isinstance(data, ColoredDigits)
    if name not in PAINTED:
        raise UserError(f"--part {name}: painted digits have {' '.join(PAINTED)}")
    images: ImageSet = getattr(data, name)
    return _labelled(images, tuple(str(index) for index in range(len(images))))


def _labelled(images: ImageSet, names: tuple[str, ...]) -> Pictures:
    return Pictures(images.pixels, names, images.labels, images.classes)
