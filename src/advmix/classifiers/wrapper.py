"""What networks answer with, brought to one tensor: scores of the classes, an image a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.utils.errors import UserError

LOGITS = "logits"


@dataclass(frozen=True)
class Answer:
    """One tensor of a network's answer.

    Attributes:
        scores: `(B, K)`.
        note: which of several it is, as a person reads it; empty where there is one.
    """

    scores: Tensor
    note: str = ""


def scores_of(answer: Any, count: int, head: str = "") -> Answer:
    """The scores in an answer to `count` images: a tensor, or the tensor called `logits`, or the only one that may be.

    Args:
        answer: a tensor or array; a tuple, list, mapping or object of such, at any depth.
        count: number of images, B.
        head: which one, by its name or number; empty where that is clear.

    Raises:
        UserError: none that may be, or several; class numbers; complex numbers; another shape.
    """
    named = dict(_named(answer))
    fitting = {name: tensor for name, tensor in named.items() if _may_be(tensor, count)}
    if head:
        if head not in named:
            there = f"there are {_listed(named)}" if len(named) > 1 else "there is one; leave --head out"
            raise UserError(f"--head {head}: no output is called so; {there}")
        return Answer(_rows(named[head], count), f"output {head}" if len(named) > 1 else "")
    if len(named) < 2:
        return Answer(_rows(next(iter(named.values()), answer), count))
    if not fitting:
        raise UserError(f"answers {count} images with {_listed(named)}, not with logits ({count}, K)")
    logits = [name for name in fitting if name.rpartition(".")[2] == LOGITS]
    chosen = logits or list(fitting)
    in_order = all(name.isdecimal() for name in chosen)
    if len(chosen) > 1 and not in_order:
        raise UserError(
            f"answers with several outputs, {_listed(named)}; say which are the logits with --head, as in --head "
            f"{chosen[0]}"
        )
    name = chosen[0]
    note = f"output {name} of {len(named)} taken" + ("" if logits else ", another with --head")
    return Answer(_rows(fitting[name], count), note)


def _named(answer: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in an answer, by its name or number."""
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(answer)
    if isinstance(answer, Tensor):
        yield prefix, answer
        return
    parts: Mapping[Any, Any] = {}
    if isinstance(answer, Mapping):
        parts = answer
    elif hasattr(answer, "_asdict"):
        parts = answer._asdict()
    elif isinstance(answer, tuple | list):
        parts = dict(enumerate(answer))
    elif is_dataclass(answer) and not isinstance(answer, type):
        parts = vars(answer)
    elif hasattr(answer, LOGITS):
        parts = {LOGITS: answer.logits}
    for name, part in parts.items():
        yield from _named(part, f"{prefix}.{name}" if prefix else str(name))


def _may_be(tensor: Tensor, count: int) -> bool:
    """Whether a tensor may hold scores: a row of floating numbers for each image."""
    flat = _flat(tensor)
    return flat.is_floating_point() and flat.ndim in (1, 2) and len(flat) == count


def _flat(tensor: Tensor) -> Tensor:
    """Without the dimensions of one pixel that a convolution leaves, `(B, K, 1, 1)`."""
    while tensor.ndim > 2 and tensor.shape[-1] == 1:
        tensor = tensor[..., 0]
    return tensor


def _rows(answer: Any, count: int) -> Tensor:
    """Scores `(B, K)`, checked."""
    if not isinstance(answer, Tensor):
        raise UserError(f"answers {count} images with a {type(answer).__name__}, not with logits ({count}, K)")
    plain = answer.dequantize() if answer.is_quantized else answer
    flat = _flat(plain if plain.layout == torch.strided else plain.to_dense())
    if flat.is_complex():
        raise UserError(f"answers {count} images with complex numbers, not with logits ({count}, K)")
    if count == 1 and (flat.ndim == 0 or (flat.ndim == 1 and len(flat) != 1)):
        flat = flat[None]  # a network that squeezes all it has
    if flat.ndim == 1 and len(flat) == count:
        flat = flat[:, None]
    if flat.ndim != 2 or len(flat) != count or flat.shape[1] == 0:
        raise UserError(f"answers {count} images with shape {tuple(answer.shape)}, not with logits ({count}, K)")
    if flat.dtype == torch.bool or (flat.shape[1] == 1 and not flat.is_floating_point()):
        kind = "yes and no" if flat.dtype == torch.bool else "whole numbers"
        raise UserError(
            f"answers {count} images with {kind} of shape {tuple(answer.shape)}: numbers of classes, not their "
            "scores; let it return its logits, before any argmax"
        )
    return flat


def _listed(named: Mapping[str, Tensor]) -> str:
    return " and ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in named.items())


LUMA = (0.299, 0.587, 0.114)

"""Weights of red, green and blue in a grey image (ITU-R BT.601, what Pillow and torchvision use)."""


class Classifier(nn.Module):
    """Any `nn.Module` as a function from images in [0, 1] to logits `(B, C)`; the only place that knows its input.

    >>> Classifier(resnet18(num_classes=10), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=224)

    Args:
        network: images `(B, C, H, W)`, in its own floating type, to scores `(B, K)`, `(B, 1)`, `(B,)` or
            `(B, K, 1, 1)`; plain, or called `logits` in what it returns, or the only such tensor in it.
        mean: subtracted per channel, in [0, 1]; none by default.
        std: divided by per channel.
        size: side in pixels that the network wants, or height and width; images of another size are resized
            bilinearly, differentiably.
        channels: 3 repeats the channel of grey images, 1 takes the luminance of RGB ones; by default they stay as they
            are.
        probabilities: whether the network ends in a softmax, or with a single output in a sigmoid; then the logarithm
            makes logits of its answers.
        independent: whether it ends in a sigmoid for each of several outputs; then these are their log-odds.
        head: which of several outputs, by its name or number.

    A single logit `z` (the log-odds of class 1) becomes the two logits `(0, z)`, so that cross-entropy is its binary
    one; a single probability `p` becomes `(log(1 - p), log(p))`, which is the same.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        probabilities: bool = False,
        independent: bool = False,
        head: str = "",
    ) -> None:
        super().__init__()
        self.network, self.size, self.channels, self.head = network, size, channels, head
        self.probabilities, self.independent = probabilities, independent
        self.register_buffer("mean", torch.tensor(mean or [0.0])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std or [1.0])[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], `(B, C, H, W)`, to logits `(B, C)` with `C >= 2`, of their type and on their device.

        Raises:
            UserError: an answer in which there are none.
        """
        return self.logits(self.scores(images))

    def shown(self, images: Tensor) -> Tensor:
        """Images in the size and channels that the network wants."""
        return with_channels(with_size(images, self.size), self.channels)

    def ask(self, images: Tensor) -> Answer:
        """What the network answers, one tensor of it."""
        shown = (self.shown(images) - self.mean) / self.std
        return scores_of(self.network(shown.to(dtype_of(self.network, shown.dtype))), len(images), self.head)

    def scores(self, images: Tensor) -> Tensor:
        """What the network answers, `(B, K)`, K >= 1."""
        return self.ask(images).scores.to(images)

    def logits(self, scores: Tensor) -> Tensor:
        """Scores as the network gives them, `(B, K)`, to logits of two classes or more."""
        if scores.shape[1] == 1:
            other = 1 - scores if self.probabilities else torch.zeros_like(scores)
            scores = torch.cat([other, scores], dim=1)
        logs = _log(scores) if self.probabilities or self.independent else scores
        return logs - _log(1 - scores) if self.independent else logs


def _log(values: Tensor) -> Tensor:
    return values.clamp_min(torch.finfo(values.dtype).tiny).log()


def dtype_of(network: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    """The floating type of a network's weights."""
    weights = (part.dtype for part in (*network.parameters(), *network.buffers()) if part.is_floating_point())
    return next(weights, otherwise)


class Reordered(nn.Module):
    """A classifier `(B, C, H, W)` to `(B, K)` with its logits in another order.

    Args:
        network: images to logits.
        order: K places: which of its logits comes first, second, and so on.
    """

    def __init__(self, network: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.network, self.order = network, list(order)

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits `(B, K)`."""
        logits: Tensor = self.network(images)
        return logits[:, self.order]


class Merged(nn.Module):
    """A classifier `(B, C, H, W)` to `(B, K)` whose classes are some of its outputs each.

    Args:
        network: images to logits.
        groups: K lists of outputs; what they are together is a class. An empty one is the class of none of the others.
        independent: whether the logits are log-odds of their own, and not of one choice among all.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Sequence[int]], independent: bool = False) -> None:
        super().__init__()
        self.network, self.groups, self.independent = network, [list(group) for group in groups], independent

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits `(B, K)`."""
        logits: Tensor = self.network(images)
        scores = logits if self.independent else logits.log_softmax(dim=1)
        none = torch.zeros_like(scores[:, 0])
        return torch.stack([scores[:, part].logsumexp(dim=1) if part else none for part in self.groups], dim=1)


def with_size(images: Tensor, size: int | tuple[int, int] | None) -> Tensor:
    """Images of another size resized bilinearly, with antialiasing, differentiably; None leaves any."""
    sides = (size, size) if isinstance(size, int) else size
    if sides is None or images.shape[-2:] == sides:
        return images
    return F.interpolate(images, sides, mode="bilinear", align_corners=False, antialias=True)


def with_channels(images: Tensor, channels: int | None) -> Tensor:
    """Grey images `(B, 1, H, W)` repeated to three channels, or the luminance of RGB ones as a single channel."""
    if channels == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 1 and images.shape[1] == 3:
        return (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return images


@dataclass(frozen=True, eq=False)
class FoundNetwork:
    """A network as it was found, and how images are to be brought to it where the user does not say.

    Attributes:
        network: of its maker's conventions.
        identity: what says which it is, beside its weights.
        trained: whether it came with weights.
        mean: subtracted per channel.
        std: divided by per channel.
        size: side in pixels that it wants, or height and width; None for any.
        channels: that it wants; None where unknown.
        outputs: their names; empty where unknown.
        named: whether these names are its classes' own, which the images' must match.
        normalised: whether images may be normalised for it; whole numbers from 0 to 255 are not.
    """

    network: nn.Module
    identity: str
    trained: bool
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: int | tuple[int, int] | None = None
    channels: int | None = None
    outputs: tuple[str, ...] = ()
    named: bool = False
    normalised: bool = True
