"""`ImageSet`: images, labels and class names, and the order in which they are visited."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from advmix.utils.files import hexdigest
from advmix.utils.torch_tools import generator


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A labelled set of images.

    >>> len(images), images.classes
    >>> x, y = images.batch(torch.tensor([3, 1]))     # x float in [0, 1], channels last in memory

    Args:
        pixels: `(N, C, H, W)`, uint8; perhaps mapped from a file, so that only what is looked at is in memory.
        labels: `(N,)`, class indices, int64.
        classes: class names.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> ImageSet:
        return ImageSet(self.pixels[index], self.labels[index], self.classes)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images `(B, C, H, W)` in [0, 1] and labels `(B,)`."""
        return to_float(self.pixels[index]), self.labels[index]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of every image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def count_shared(self, others: ImageSet) -> int:
        """How many of these are among other images of the same shape, pixel by pixel."""
        own = [hexdigest(image) for image in self.pixels]
        found = set(own).intersection(hexdigest(image) for image in others.pixels)
        return sum(digest in found for digest in own)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any pixel, label or class name."""
        return hexdigest(repr((tuple(self.pixels.shape), self.classes)), self.pixels, self.labels)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 to float in [0, 1], `channels_last`."""
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def to_bytes(images: Tensor) -> Tensor:
    """Float in [0, 1] to uint8, rounded."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def png(image: Tensor) -> bytes:
    """`(C, H, W)` in [0, 1], one channel or three, as a PNG of 8 bits."""
    pixels = to_bytes(image.detach().cpu()).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Every index of `count` once, in an order that depends on seed and epoch alone; the last batch may be short.

    A last batch of a single example joins the one before it, because batch normalisation cannot train on one.
    """
    yield from _batches(torch.randperm(count, generator=generator(seed, "order", epoch)), batch_size)


def balanced_batches(labels: Tensor, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """As many indices as there are labels, in batches like those of `epoch_batches`, of every class equally many.

    Examples of a rare class come again and again, those of a common one in part, others in each epoch.

    Args:
        labels: `(N,)`; where N is no multiple of the number of classes, the first ones have one index more.
        batch_size: of all but the last.
        seed: fixes the order, together with
        epoch: of the training.
    """
    rng = generator(seed, "balanced", epoch)
    members = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    count, more = divmod(len(labels), len(members))
    drawn = [_cycled(part, count + (place < more), rng) for place, part in enumerate(members)]
    yield from _batches(torch.cat(drawn)[torch.randperm(len(labels), generator=rng)], batch_size)


def _cycled(members: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """So many of the members, all of them before any comes again."""
    rounds = [members[torch.randperm(len(members), generator=rng)] for _ in range(-(-count // len(members)))]
    return torch.cat(rounds)[:count]


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def slices(count: int, batch_size: int) -> Iterator[slice]:
    """Consecutive slices that cover `count`."""
    for start in range(0, count, batch_size):
        yield slice(start, min(start + batch_size, count))
