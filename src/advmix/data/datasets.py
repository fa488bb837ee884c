"""Data sets: a user's own images, images in memory, painted digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from advmix.data.images import ImageSet, to_bytes
from advmix.data.photos.decode import Broken, PhotoOptions, PhotoShape, fitted, plain
from advmix.data.photos.load import Native, Photos, load_photos, load_pictures, native_photos, say_left_out, say_notes
from advmix.data.photos.rows import hold_out
from advmix.data.settings import DataConfig
from advmix.utils.errors import UserError

if TYPE_CHECKING:
    from advmix.data.colored import ColoredDigits


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


@dataclass(frozen=True, eq=False)
class GivenImages:
    """Images that are in memory already.

    Args:
        train: the training images.
        test: images that nothing is trained on.
        seed: fixed the split, where they had none.
    """

    train: ImageSet
    test: ImageSet
    seed: int = 0

    @property
    def config(self) -> DataConfig:
        """Names nothing: they cannot be read again."""
        return DataConfig(data="")


Images = str | Path | Data | ImageSet | Dataset[Any] | tuple[Tensor, Tensor]
"""What can be opened: a place as `--data` names it, what is open already, a data set of torch, images with labels."""


def open_images(
    images: Images,
    *,
    test: Images | None = None,
    target: str | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
    **shape: Any,
) -> Data:
    """Images with labels, for training and for testing.

    >>> images = advmix.open_images("photos", target="Smiling", size=64)
    >>> images = advmix.open_images(CIFAR10("data"), test=CIFAR10("data", train=False))
    >>> images = advmix.open_images((pixels, labels), classes=("cat", "dog"))
    >>> images.train, images.test                      # an `ImageSet` each

    Args:
        images: a folder, .zip or .csv file, shards of WebDataset, `torchvision:NAME` or `hf:NAME`; a data set of torch
            whose items are an image (of Pillow, or a tensor `(C, H, W)`, uint8 or floating in [0, 1]) and its class
            number; or all images `(N, C, H, W)` with their labels `(N,)`.
        test: images that nothing is trained on, of the same kind; by default those of the source or, where it has
            none, a fifth of each class, drawn at random (`holdout`).
        target: column of the labels, of a folder or table; may be left out where it is plain.
        classes: names of the classes, of tensors or a data set without any; numbers by default.
        seed: fixes what is drawn at random.
        shape: fields of `PhotoShape`: `size` (64 pixels by default; tensors stay as they are), `channels`, `crop`,
            `group`, `site`, `holdout`, `split_by`, `limit` and others.

    Raises:
        UserError: no such images, or some that cannot be used.
    """
    if isinstance(getattr(images, "config", None), DataConfig):
        return cast(Data, images)
    if isinstance(images, str | Path):
        if test is not None:
            raise UserError(f"{images}: has its own test images, or a holdout; test= goes with images in memory")
        return open_data(DataConfig(str(images), target=target, photos=_photo_shape(shape)), seed)
    options = _photo_shape(shape)
    sized = options.size if "size" in shape else None
    read = image_set(cast(Any, images), classes, options, sized)
    if test is not None:
        return GivenImages(read, image_set(cast(Any, test), read.classes, options, sized), seed)
    held = hold_out(read.labels.tolist(), [f"{place:09d}" for place in range(len(read))], options.holdout, seed)
    mask = torch.zeros(len(read), dtype=torch.bool).index_fill(0, torch.tensor(sorted(held), dtype=torch.int64), True)
    if not mask.any():
        raise UserError("too few images to hold any out for the test; name them with test=")
    return GivenImages(read[~mask], read[mask], seed)


def image_set(
    source: ImageSet | Dataset[Any] | tuple[Tensor, Tensor], classes: Sequence[str], shape: PhotoShape, size: int | None
) -> ImageSet:
    """Images and labels as one set.

    Args:
        source: a data set of (image, class number), or images `(N, C, H, W)` with labels `(N,)`.
        classes: their names; by default those of the data set, or numbers.
        shape: how images of Pillow are brought to one size.
        size: side in pixels of tensors; None leaves them as they are.

    Raises:
        UserError: pixels, labels or sizes that cannot be used, naming the first of them.
    """
    if isinstance(source, ImageSet):
        return source
    if isinstance(source, tuple):
        pixels, labels = _checked(source[0], size, "images"), source[1]
    else:
        classes = classes or tuple(str(name) for name in getattr(source, "classes", ()))
        images, numbers = zip(*_items(source, shape, size), strict=True)
        if len({tuple(image.shape) for image in images}) > 1:
            shapes = sorted({"x".join(map(str, image.shape)) for image in images})
            raise UserError(f"images of unlike shapes: {', '.join(shapes[:3])}; name size=")
        pixels, labels = torch.stack(images), torch.tensor(numbers)
    return _labelled(pixels, labels, tuple(classes))


def _items(source: Dataset[Any], shape: PhotoShape, size: int | None) -> Iterator[tuple[Tensor, int]]:
    count = len(source)  # type: ignore[arg-type]
    if not count:
        raise UserError(f"{type(source).__name__}: holds no images")
    for place in range(count):
        try:
            image, label = source[place]
            number = int(label)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{type(source).__name__}: item {place} is not an image with its class number ({error})"
            ) from error
        if isinstance(image, Image.Image):
            yield torch.from_numpy(fitted(plain(image, shape.channels), shape.size, shape.crop).copy()), number
        elif isinstance(image, Tensor) and image.ndim == 3:
            yield _checked(image[None], size, f"item {place}")[0], number
        else:
            raise UserError(f"{type(source).__name__}: item {place} is no image of Pillow and no tensor (C, H, W)")


def _checked(images: Tensor, size: int | None, name: str) -> Tensor:
    """Images `(N, C, H, W)` as bytes."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise UserError(f"{name}: of shape {tuple(images.shape)}; (N, 1 or 3, H, W) is wanted")
    images = images.detach().cpu()
    if images.is_floating_point():
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise UserError(f"{name}: from {low:g} to {high:g}; floating pixels must be in [0, 1], others uint8")
    elif images.dtype != torch.uint8:
        raise UserError(f"{name}: of type {images.dtype}; pixels must be floating in [0, 1], or uint8")
    if size is not None and tuple(images.shape[2:]) != (size, size):
        floating = images if images.is_floating_point() else images.float() / 255
        images = F.interpolate(floating, (size, size), mode="bilinear", antialias=True)
    if images.shape[2] != images.shape[3]:
        raise UserError(f"{name}: {images.shape[2]}x{images.shape[3]} pixels; name size= for squares")
    return to_bytes(images) if images.is_floating_point() else images


def _labelled(pixels: Tensor, labels: Tensor, classes: tuple[str, ...]) -> ImageSet:
    labels = labels.detach().cpu()
    if labels.shape != (len(pixels),) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(
            f"labels: {labels.dtype} of shape {tuple(labels.shape)}; {len(pixels):,} class numbers are wanted"
        )
    low, high = int(labels.min()), int(labels.max())
    names = classes or tuple(str(number) for number in range(high + 1))
    if low < 0 or high >= len(names):
        raise UserError(f"labels: from {low} to {high}, but the classes are numbered 0 to {len(names) - 1}")
    return ImageSet(pixels, labels.long(), names)


def _photo_shape(shape: Mapping[str, Any]) -> PhotoShape:
    unknown = shape.keys() - {part.name for part in fields(PhotoShape)}
    if unknown:
        raise TypeError(f"open_images() has no argument {', '.join(sorted(unknown))}")
    return PhotoShape(**shape)


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
    if not config.is_painted:
        return OwnImages(config, seed, download)
    from advmix.data.colored import ColoredDigits

    return ColoredDigits(config, seed, download=download)


def unlabelled_images(
    flag: str, source: str, read: PhotoOptions, rng: torch.Generator | None = None
) -> tuple[ImageSet, tuple[str, ...]]:
    """Images whose labels mean nothing, and their names; `rng` draws which of them, where there is a limit.

    Args:
        flag: what named the source, for messages.
        source: a folder or .zip archive of images, `torchvision:NAME` or `hf:NAME`.
        read: how they are read.
        rng: by default the first ones.

    Raises:
        UserError: fewer than two images, or broken ones.
    """
    try:
        pixels, names, _ = load_pictures(source, read, "train", rng)
    except UserError as error:
        raise UserError(f"{flag} {source}: {str(error).removeprefix(f'{source}: ')}") from error
    if len(pixels) < 2:
        raise UserError(f"{flag} {source}: {len(pixels)} image; 2 are needed at least")
    return ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("",)), names


def painted_digits(data: Data, who: str, remedy: str = "") -> ColoredDigits:
    """The same, where only painted digits will do: their paint can be changed at will.

    Raises:
        UserError: other images, naming who asks.
    """
    from advmix.data.colored import ColoredDigits

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
