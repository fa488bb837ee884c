"""An encoder watched at work: the error of its reconstructions against time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.data import slices
from advmix.encoders import Encoder, Encoding, OptimizeEncoder
from advmix.generators import Generator
from advmix.latents import Latents
from advmix.modes import evaluating

BATCH = 50
NETWORK_PASSES = 5
MANTISSAS = (1, 2, 3, 5, 7)


@dataclass(frozen=True, eq=False)
class Traced:
    """Latents of N images and the way to them; all but the latents on the CPU.

    Attributes:
        latents: length N.
        steps: gradient steps at which the error was taken, S of them; 0 alone for a network.
        milliseconds: `(S,)`, wall-clock time per image until then.
        errors: `(S, N)`, mean squared error with images in [-1, 1].
        frames: `(S, K, C, H, W)` in [0, 1], reconstructions of the first K images.
    """

    latents: Latents
    steps: tuple[int, ...]
    milliseconds: Tensor
    errors: Tensor
    frames: Tensor


def trace_steps(last: int) -> tuple[int, ...]:
    """0, then 1, 2, 3, 5, 7, 10, 20, ... and the last step.

    >>> trace_steps(25)
    (0, 1, 2, 3, 5, 7, 10, 20, 25)
    """
    powers = [10**power for power in range(len(str(last)))]
    return tuple(sorted({0, last, *(m * p for p in powers for m in MANTISSAS if m * p <= last)}))


def mean_squares(images: Tensor, others: Tensor) -> Tensor:
    """Mean squared error per image, in [-1, 1], of images `(..., C, H, W)` in [0, 1]."""
    return 4 * (images - others).square().flatten(-3).mean(-1)


def trace(
    encoder: Encoder, generator: Generator, images: Tensor, shown: int, advance: Callable[[int], None] = lambda _: None
) -> Traced:
    """Encode batch by batch, and watch.

    Args:
        encoder: an optimisation, or a network, which is done at step 0.
        generator: that the latents are for.
        images: `(N, C, H, W)` in [0, 1], on the encoder's device.
        shown: how many images to keep frames of.
        advance: told how many images are done.
    """
    parts = []
    for part in slices(len(images), BATCH):
        parts.append(_encoding(encoder, generator, images[part] * 2 - 1))
        advance(part.stop - part.start)
    frames = torch.cat([part.frames for part in parts], dim=1)
    seconds = torch.tensor([part.frame_seconds for part in parts], dtype=torch.float64).sum(0)
    return Traced(
        latents=Latents.cat([part.latents for part in parts]),
        steps=parts[0].frame_steps,
        milliseconds=1000 * seconds / len(images),
        errors=mean_squares(frames, images).cpu(),
        frames=frames[:, :shown].cpu(),
    )


def _encoding(encoder: Encoder, generator: Generator, signed: Tensor) -> Encoding:
    if isinstance(encoder, OptimizeEncoder):
        return encoder.optimize(signed, frame_steps=trace_steps(encoder.options.optimize_steps))
    with torch.no_grad(), evaluating(encoder, generator):
        latents = encoder.encode_signed(signed)
        seconds = statistics.median(_pass_seconds(encoder, signed) for _ in range(NETWORK_PASSES))
        return Encoding(latents, signed.new_empty(0), generator(latents)[None], (0,), (seconds,))


def _pass_seconds(encoder: Encoder, signed: Tensor) -> float:
    begun = time.perf_counter()
    encoder.encode_signed(signed).styles.sum().item()  # reading a number waits for an accelerator
    return time.perf_counter() - begun
