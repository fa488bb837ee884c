"""Projected gradient descent on pixels: the l_p adversarial training that the paper compares with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.modes import evaluating

Norm = Literal["linf", "l2"]


def _expand(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def project_ball(delta: Tensor, radius: float, norm: Norm) -> Tensor:
    """The nearest perturbation of at most `radius` in the norm, per example."""
    if norm == "linf":
        return delta.clamp(-radius, radius)
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
    return delta * _expand((radius / length).clamp(max=1), delta)


def random_ball(shape: torch.Size, radius: float, norm: Norm, rng: torch.Generator | None) -> Tensor:
    """A uniform draw from the ball, on the CPU."""
    if norm == "linf":
        return (torch.rand(shape, generator=rng) * 2 - 1) * radius
    delta = torch.randn(shape, generator=rng)
    numbers = delta[0].numel()
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
    return delta * _expand(radius * torch.rand(shape[0], generator=rng) ** (1 / numbers) / length, delta)


def pgd(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    steps: int = 7,
    step_size: float | None = None,
    norm: Norm = "linf",
    rng: torch.Generator | None = None,
) -> Tensor:
    """PGD with a random start (Madry et al., 2018), clamped to [0, 1]; the classifier is in eval mode meanwhile.

    Args:
        classifier: images in [0, 1] to logits.
        images: `(B, C, H, W)` in [0, 1].
        labels: `(B,)`.
        radius: of the ball, in pixel values of [0, 1].
        steps: gradient steps.
        step_size: length of one step; `2.5 * radius / steps` by default.
        norm: `linf` or `l2`.
        rng: CPU random generator; torch's global one when None.

    Returns:
        Adversarial images, detached, the same shape, in [0, 1] and within `radius` of `images`.
    """
    length = 2.5 * radius / max(steps, 1) if step_size is None else step_size
    delta = random_ball(images.shape, radius, norm, rng).to(images)
    adversarial = (images + delta).clamp(0, 1)
    with evaluating(classifier) as (model,):
        for _ in range(steps):
            adversarial = adversarial.detach().requires_grad_()
            loss = F.cross_entropy(model(adversarial), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            if norm == "linf":
                step = gradient.sign()
            else:
                step = gradient / _expand(gradient.flatten(1).norm(dim=1).clamp_min(1e-12), gradient)
            delta = project_ball(adversarial.detach() + length * step - images, radius, norm)
            adversarial = (images + delta).clamp(0, 1)
    return adversarial.detach()
