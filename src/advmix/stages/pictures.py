"""The images that `advmix predict` is asked about: labelled or not, of any data set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from advmix.classifiers import OpenClassifier
from advmix.data import ColoredDigits, Data, DataConfig, ImageSet, open_data
from advmix.data.photos import Broken, PhotoShape, load_pictures
from advmix.data.sources import OwnImages
from advmix.errors import UserError
from advmix.hashing import hexdigest
from advmix.stages.sources import Mixable, own_data

PAINTED = ("train", "test", "biased", "shuffled", "uniform")
PARTS = ("train", "val", "test", "biased", "shuffled", "uniform")


@dataclass(frozen=True)
class PictureOptions:
    """Which images.

    Args:
        data: the images; by default those of the classifier's folder or of the generator, as other flags change them.
            Own images are read in the size that the classifier wants, unless one is given.
        part: `train`, `val` or `test`; of painted digits also `biased`, `shuffled` (which is `test`) or `uniform`.
        unlabelled: all images of the folder or .zip archive, or the part of a library's, whatever is said about them
            there.
    """

    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    part: str = "test"
    unlabelled: bool = False

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """`(C, H, W)` of own images, as the flags say it; None for painted digits, and where none are named."""
        photos = self.data.photos
        return None if self.data.is_painted or not self.data.data else (photos.channels, photos.size, photos.size)

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise UserError(f"--part {self.part}: unknown; choose from {' '.join(PARTS)}")
        if self.unlabelled and (self.data.is_painted or not self.data.data):
            unlike = f", not {self.data.data}" if self.data.data else ""
            raise UserError(f"--unlabelled: name a folder or .zip archive with --data{unlike}")


@dataclass(frozen=True, eq=False)
class Pictures:
    """N images.

    Attributes:
        pixels: `(N, C, H, W)`, uint8.
        names: how a person finds each one again.
        labels: `(N,)`, class indices; None where unknown.
        classes: their names; None where unknown.
        broken: images that could not be read and were left out.
    """

    pixels: Tensor
    names: tuple[str, ...]
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    broken: tuple[Broken, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any pixel, name or label."""
        labels = () if self.labels is None else (self.labels,)
        return hexdigest(repr((tuple(self.pixels.shape), self.names, self.classes)), self.pixels, *labels)


@dataclass(frozen=True, eq=False)
class Sources:
    """What knows of images: the classifier, and the generator where there is one.

    Attributes:
        opened: the classifier.
        folder: where `train` wrote it, if it did.
        mixable: the generator with its latents.
        generator: where `fit` wrote it.
    """

    opened: OpenClassifier
    folder: Path | None = None
    mixable: Mixable | None = None
    generator: Path | None = None

    def data(self, flags: DataConfig) -> Data | None:
        """The data set of the classifier, else of the generator, with what flags without --data say laid over it."""
        if self.folder is not None:
            return own_data(self.opened.metadata, self.folder, flags)
        if self.mixable is not None and self.generator is not None:
            return own_data(self.mixable.metadata, self.generator, flags)
        return None

    def shaped(self, shape: PhotoShape) -> PhotoShape:
        """With the size and channels that the classifier wants, else the generator's, where nothing else is said."""
        dec = None if self.mixable is None else self.mixable.generator
        channels, side = (None, self.opened.input_size) if self.opened.image is None else self.opened.image[:2]
        if dec is not None:
            channels, side = channels or dec.channels, side or dec.resolution
        usual = PhotoShape()
        if side is not None and shape.size == usual.size:
            shape = replace(shape, size=side)
        if channels is not None and shape.channels == usual.channels:
            shape = replace(shape, channels=channels)
        return shape


def find_pictures(options: PictureOptions, sources: Sources, seed: int) -> Pictures:
    """The images that the options name, else those of the classifier's or the generator's data set.

    Args:
        options: which.
        sources: what has a data set of its own.
        seed: fixes what is drawn at random.

    Raises:
        UserError: there are none, or no such part of them.
    """
    data = options.data
    if data.data and not data.is_painted:
        data = replace(data, photos=sources.shaped(data.photos))
    if options.unlabelled:
        pixels, names, broken = load_pictures(data.data, data.photo_options(), options.part)
        return Pictures(pixels, names, broken=broken)
    own = sources.data(data) if data.says_nothing or not data.data else None
    return _part(own or open_data(data, seed), options.part)


def _part(data: Data, name: str) -> Pictures:
    if isinstance(data, OwnImages):
        splits = data.photos.splits
        if name not in splits:
            raise UserError(f"--part {name}: {data.config.data} has {' '.join(splits)}")
        return _labelled(splits[name].images, splits[name].names, data.photos.broken)
    assert isinstance(data, ColoredDigits)
    if name not in PAINTED:
        raise UserError(f"--part {name}: painted digits have {' '.join(PAINTED)}")
    images: ImageSet = getattr(data, name)
    return _labelled(images, tuple(str(index) for index in range(len(images))))


def _labelled(images: ImageSet, names: tuple[str, ...], broken: tuple[Broken, ...] = ()) -> Pictures:
    return Pictures(images.pixels, names, images.labels, images.classes, broken)
