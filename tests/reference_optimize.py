"""Algorithm 2 as literally as it can be written: one image at a time, every cross decoded from scratch by itself.

Slow on purpose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advmix.encoders.optimize import OptimizeEncoder
from advmix.latents import Latents
from advmix.utils.torch_tools import generator as seeded
from reference import crossed, perp_numbers

EPSILON = 1e-5
"""Of instance normalisation."""


def encode_one(encoder: OptimizeEncoder, signed: Tensor) -> tuple[Latents, list[float]]:
    """Latents of one image `(1, C, H, W)` in [-1, 1] from the mean of the pool, and the loss before each step."""
    options, pool = encoder.options, encoder.pool
    encoder.eval()
    numbers = [pool.styles.mean(0, keepdim=True).clone().requires_grad_()]
    if pool.grid is not None:
        numbers.append(pool.grid.mean(0, keepdim=True).clone().requires_grad_())
    optimizer, losses = torch.optim.Adam(numbers, lr=options.optimize_lr), []
    for step in range(options.optimize_steps + 1):
        rng = seeded(options.optimize_seed, "mixing", step)
        partner = pool[torch.randint(len(pool), (1,), generator=rng)]
        loss = whole_loss(encoder, Latents(*numbers), partner, signed)
        losses.append(loss.item())
        if step == options.optimize_steps:
            break
        optimizer.param_groups[0]["lr"] = (
            options.optimize_lr * (1 + math.cos(math.pi * step / options.optimize_steps)) / 2
        )
        for number, gradient in zip(numbers, torch.autograd.grad(loss, numbers), strict=True):
            number.grad = gradient
        optimizer.step()
    return Latents(*(number.detach() for number in numbers)), losses


def whole_loss(encoder: OptimizeEncoder, own: Latents, partner: Latents, signed: Tensor) -> Tensor:
    """Pixels, features, and the mixing loss."""
    options = encoder.options
    image = drawn(encoder, own, own)
    loss = options.pixel_weight * ((image - signed) ** 2).mean()
    wanted, theirs = features(encoder, signed), features(encoder, drawn(encoder, partner, partner))
    if encoder.features is not None:
        pairs = zip(features(encoder, image), wanted, strict=True)
        loss = loss + options.feature_weight * sum(((found - like) ** 2).mean() for found, like in pairs)
    for parallel, perp, layout, statistics in ((own, partner, wanted, theirs), (partner, own, theirs, wanted)):
        found = features(encoder, drawn(encoder, parallel, perp))
        for mine, like in zip(found, layout, strict=True):
            loss = loss + options.mixing_weight * ((normalised(mine) - normalised(like)) ** 2).mean()
        for mine, like in zip(found, statistics, strict=True):
            for what in (mean, deviation):
                loss = loss + options.mixing_weight * ((what(mine, 1e-6) - what(like, 1e-6)) ** 2).mean()
    return loss


def drawn(encoder: OptimizeEncoder, parallel: Latents, perp: Latents) -> Tensor:
    """The image of one's `z∥` with the other's `z⊥`, around [-1, 1]."""
    return encoder.generator.decode_signed(crossed(encoder.split, parallel, perp_numbers(perp, encoder.split)))


def features(encoder: OptimizeEncoder, signed: Tensor) -> list[Tensor]:
    """The pixels themselves where there is no network."""
    return [signed] if encoder.features is None else list(encoder.features((signed + 1) / 2))


def mean(maps: Tensor, _: float = 0.0) -> Tensor:
    """Per channel."""
    return maps.sum(dim=(2, 3)) / maps[0, 0].numel()


def deviation(maps: Tensor, epsilon: float) -> Tensor:
    """Standard deviation per channel."""
    centred = maps - mean(maps)[:, :, None, None]
    return torch.sqrt(mean(centred**2) + epsilon)


def normalised(maps: Tensor) -> Tensor:
    """What is left of feature maps without mean and standard deviation."""
    return (maps - mean(maps)[:, :, None, None]) / deviation(maps, EPSILON)[:, :, None, None]
