"""Robust without retraining: a classifier's mean answer over many label-free parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.classifiers.wrapper import with_channels, with_size
from advmix.encoders.network import Encoder
from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.utils.torch_tools import generator as seeded


class Marginalized(nn.Module):
    """`log p(y | z∥)`, where `p(y | z∥)` is the mean of `softmax(f(dec(z∥, z⊥)))` over N random `z⊥` of the pool.

    >>> robust = Marginalized(classifier, model.generator, model.encoder, split, pool, samples=16)
    >>> robust(images)                    # logits (B, C): softmax gives the mean probabilities

    All images meet the same N parts, drawn once by the seed: the answer to an image depends on its `z∥` alone, not on
    the batch it is in, and not on its own `z⊥` as far as the encoder tells the two apart.

    Args:
        classifier: images `(B, C, H, W)` in [0, 1] to logits; any.
        generator: decodes.
        encoder: of the generator.
        split: which latents are `z⊥`.
        pool: whose `z⊥` are drawn; all are on one device.
        samples: N, at least 1; drawn without replacement as far as the pool lasts.
        seed: of the draw.
        residual: whether every decoding gets what the generator cannot draw of the image, for photographs. The answer
            is then about the image in its own size, but what the residual holds of the image's own `z⊥` stays.

    Raises:
        ValueError: no samples.
    """

    def __init__(
        self,
        classifier: nn.Module,
        generator: Generator,
        encoder: Encoder,
        split: Split,
        pool: Latents,
        samples: int,
        seed: int = 0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.classifier, self.generator, self.encoder, self.split = classifier, generator, encoder, split
        self.register_buffer("perp", draw_perp(pool, split, samples, seed), persistent=False)
        self.perp: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1], of any size, to log-probabilities `(B, C)`."""
        latents = encode(images, self.encoder, self.generator, self.residual)
        drawn = renditions(self.generator, latents, self.split, self.perp)
        answers = (F.log_softmax(self.classifier(image), dim=1) for image in drawn)
        return reduce(torch.logaddexp, answers) - log(len(self.perp))


def draw_perp(pool: Latents, split: Split, samples: int, seed: int) -> Tensor:
    """`(samples, P)`, drawn from the pool; the first of a longer draw are a shorter one.

    Raises:
        ValueError: no samples.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    rounds = -(-samples // len(pool))
    rows = [torch.randperm(len(pool), generator=seeded(seed, "marginalize", number)) for number in range(rounds)]
    return split.perp_of(pool[torch.cat(rows)[:samples].to(pool.styles.device)])


def encode(images: Tensor, encoder: Encoder, generator: Generator, residual: bool) -> Latents:
    """The latents of images `(B, C, H, W)` in [0, 1] of any size, with their residual if asked for; differentiably."""
    shown = with_channels(images, generator.channels)
    latents: Latents = encoder(shown if generator.any_size else with_size(shown, generator.resolution))
    return generator.with_residual(latents, shown) if residual else latents


def renditions(generator: Generator, latents: Latents, split: Split, perp: Tensor) -> Iterator[Tensor]:
    """The same B images with each of the label-free parts `(N, P)` in turn: N times `(B, C, H, W)`."""
    state = generator.prefix(latents, split)
    for row in perp:
        yield generator.render(state, row.expand(len(latents), -1))
