"""Algorithm 1 from the paper's text, as literally as it can be written: one example at a time, nothing reused.

Slow on purpose. Every candidate is decoded from scratch, and `z⊥` is put into the latents by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.mixing import Step

ZERO, ONE = torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)


@dataclass(frozen=True)
class Worst:
    """The candidate with the highest loss of one example; `fooled` is about all of its candidates."""

    image: Tensor
    loss: float
    donor: int
    fooled: bool


def perp_numbers(latents: Latents, split: Split) -> Tensor:
    """`z⊥` of a single example as one vector."""
    parts = [latents.styles[0, layer] for layer in split.perp]
    if split.grid and latents.grid is not None:
        parts.append(latents.grid[0].flatten())
    return torch.cat(parts)


def crossed(split: Split, own: Latents, perp: Tensor) -> Latents:
    """The example's own latents with its `z⊥` overwritten."""
    depth = own.styles.shape[2]
    layers = list(own.styles[0])
    for place, layer in enumerate(split.perp):
        layers[layer] = perp[place * depth : (place + 1) * depth]
    grid = own.grid
    if split.grid and grid is not None:
        grid = perp[len(split.perp) * depth :].reshape(grid.shape)
    return Latents(torch.stack(layers)[None], grid)


def decode(generator: Generator, split: Split, own: Latents, perp: Tensor) -> Tensor:
    """The same through the whole generator."""
    image: Tensor = generator(crossed(split, own, perp))
    return image if own.residual is None else torch.minimum(torch.maximum(image + own.residual, ZERO), ONE)


def uphill(perp: Tensor, gradient: Tensor, unit: Tensor, step_size: float, step: Step) -> Tensor:
    """One step; every number of the latent is measured in its own standard deviation."""
    gradient = gradient * unit
    direction = torch.sign(gradient) if step == "sign" else gradient / torch.sqrt((gradient**2).sum())
    return perp + step_size * unit * direction


def into_box(perp: Tensor, start: Tensor, unit: Tensor, radius: float | None) -> Tensor:
    """Number by number."""
    if radius is None:
        return perp
    return torch.minimum(torch.maximum(perp, start - radius * unit), start + radius * unit)


def worst_of_one(
    generator: Generator,
    split: Split,
    classifier: nn.Module,
    *,
    own: Latents,
    label: int,
    pool: Latents,
    donors: list[int],
    steps: int,
    step_size: float,
    radius: float | None,
    step: Step,
    stop_early: bool,
) -> Worst:
    """All restarts of one example, step by step."""
    everyone = torch.stack([perp_numbers(pool[i : i + 1], split) for i in range(len(pool))])
    unit = ((everyone - everyone.mean(0)) ** 2).mean(0).sqrt()
    starts = [everyone[donor] for donor in donors]
    perps, worst, fooled = list(starts), None, False
    for _ in range(steps + 1):
        following = []
        for donor, start, perp in zip(donors, starts, perps, strict=True):
            variable = perp.clone().requires_grad_()
            image = decode(generator, split, own, variable)
            logits = classifier(image)
            loss = torch.logsumexp(logits[0], 0) - logits[0, label]
            (gradient,) = torch.autograd.grad(loss, variable)
            fooled = fooled or int(logits.argmax()) != label
            if worst is None or loss.item() > worst.loss:
                worst = Worst(image[0].detach(), loss.item(), donor, fooled)
            following.append(into_box(uphill(perp, gradient, unit, step_size, step), start, unit, radius))
        if stop_early and fooled:
            break
        perps = following
    assert worst is not None
    return Worst(worst.image, worst.loss, worst.donor, fooled)
