"""Images that come from Python: a data set of torch, or tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from advmix.data.images import ImageSet, to_bytes
from advmix.data.photos.decode import PhotoShape, fitted, plain
from advmix.utils.errors import UserError


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
