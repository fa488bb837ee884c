"""`Classifier`: a wrapper that brings any network to our conventions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey image (ITU-R BT.601, what Pillow and torchvision use)."""


class Classifier(nn.Module):
    """Any `nn.Module` as a function from images in [0, 1] to logits `(B, C)`; the only place that knows its input.

    >>> Classifier(resnet18(num_classes=10), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=224)

    Args:
        network: images `(B, C, H, W)` to logits `(B, C)`, `(B, 1)` or `(B,)`, plain or as the attribute `logits` of
            what it returns.
        mean: subtracted per channel, in [0, 1]; none by default.
        std: divided by per channel.
        size: side in pixels that the network wants; images of another size are resized bilinearly, differentiably.
        channels: 3 repeats the channel of grey images, 1 takes the luminance of RGB; by default they stay as they are.
        probabilities: whether the network ends in a softmax, or with a single output in a sigmoid; then the logarithm
            makes logits of its answers.

    A single logit `z` (the log-odds of class 1) becomes the two logits `(0, z)`, so that cross-entropy is its binary
    one; a single probability `p` becomes `(log(1 - p), log(p))`, which is the same.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        size: int | None = None,
        channels: int | None = None,
        probabilities: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.size, self.channels, self.probabilities = network, size, channels, probabilities
        self.register_buffer("mean", torch.tensor(mean or [0.0])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std or [1.0])[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], `(B, C, H, W)`, to logits `(B, C)` with `C >= 2`."""
        shaped = with_channels(with_size(images, self.size), self.channels)
        answer = self.network((shaped - self.mean) / self.std)
        logits: Tensor = getattr(answer, "logits", answer)
        if logits.ndim == 1:
            logits = logits[:, None]
        if logits.shape[1] == 1:
            other = 1 - logits if self.probabilities else torch.zeros_like(logits)
            logits = torch.cat([other, logits], dim=1)
        return logits.clamp_min(torch.finfo(logits.dtype).tiny).log() if self.probabilities else logits


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


def with_size(images: Tensor, size: int | None) -> Tensor:
    """Images of another size resized bilinearly, with antialiasing, differentiably; None leaves any."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def with_channels(images: Tensor, channels: int | None) -> Tensor:
    """Grey images `(B, 1, H, W)` repeated to three channels, or the luminance of RGB ones as a single channel."""
    if channels == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 1 and images.shape[1] == 3:
        return (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return images
