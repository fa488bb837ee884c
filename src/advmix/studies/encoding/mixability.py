"""Mixability: does the label survive when an image's latents are mixed, and does the colour come from the donor?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.audit.survival import kept_labels, mixes
from advmix.generators import Generator
from advmix.latents import Latents, Split
from advmix.modes import evaluating

BRIGHT_SHARE = 0.05
APART = 0.3


@dataclass(frozen=True, eq=False)
class Mixed:
    """N images, each with the `z⊥` of D donors, as a reference classifier sees them; on the CPU.

    Attributes:
        right: `(N,)`, whether the reconstruction, unmixed, is classified rightly.
        predictions: `(D, N)`, classes of the mixes.
        colors: `(D, N, 3)`, bright colours of the mixes.
        reconstruction_colors: `(N, 3)`.
        pictures: `(D, K, C, H, W)` in [0, 1], mixes of the first K images.
    """

    right: Tensor
    predictions: Tensor
    colors: Tensor
    reconstruction_colors: Tensor
    pictures: Tensor


@torch.no_grad()
def cross(
    reference: nn.Module,
    generator: Generator,
    split: Split,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    donors: Tensor,
    shown: int,
) -> Mixed:
    """Mix every image with every one of its donors.

    Args:
        reference: images in [0, 1] to logits.
        generator: of the latents.
        split: which layers are `z⊥`.
        latents: of N images.
        labels: `(N,)`, on the CPU as are `donors`.
        pool: latents of the donors, made by the same encoder.
        donors: `(D, N)`, places in the pool.
        shown: how many images to keep pictures of.
    """
    with evaluating(reference, generator) as (model, _):
        plain = generator(latents)
        rows = []
        for images in mixes(generator, split, latents, pool, donors):
            rows.append((model(images).argmax(dim=1).cpu(), bright_color(images).cpu(), images[:shown].cpu()))
        predictions, colors, pictures = (torch.stack(column) for column in zip(*rows, strict=True))
        right = model(plain).argmax(dim=1).cpu() == labels
    return Mixed(right, predictions, colors, bright_color(plain).cpu(), pictures)


def bright_color(images: Tensor) -> Tensor:
    """Mean colour `(N, 3)` of the brightest twentieth of each image's pixels, by the sum of the channels."""
    pixels = images.flatten(2)
    count = max(1, round(BRIGHT_SHARE * pixels.shape[2]))
    places = pixels.sum(1).topk(count, dim=1).indices
    return pixels.gather(2, places[:, None].expand(-1, pixels.shape[1], -1)).mean(2)


def label_numbers(mixed: Mixed, labels: Tensor, donor_labels: Tensor) -> dict[str, float | None]:
    """What becomes of labels `(N,)` in mixes with donors of `donor_labels` `(D, N)`; shares in [0, 1], None of none."""
    survived, others = mixed.predictions == labels, donor_labels != labels
    return {
        "accuracy_reconstruction": _mean(mixed.right),
        "mixability": _mean(kept_labels(mixed.predictions, labels, mixed.right)),
        "accuracy_mix": _mean(survived),
        "label_of_donor": _mean((mixed.predictions == donor_labels)[others]),
    }


def color_numbers(mixed: Mixed, colors: Tensor, donor_colors: Tensor) -> dict[str, float | None]:
    """Whether the colour comes from the donor: bright colours of the real images `(N, 3)` and donors `(D, N, 3)`.

    Distances are Euclidean, RGB in [0, 1]; `color_follows` counts pairs whose real colours are at least 0.3 apart.
    """
    to_donor, to_own = (mixed.colors - donor_colors).norm(dim=-1), (mixed.colors - colors).norm(dim=-1)
    apart = (colors - donor_colors).norm(dim=-1) >= APART
    return {
        "color_error_reconstruction": _mean((mixed.reconstruction_colors - colors).norm(dim=-1)),
        "color_error_mix": _mean(to_donor),
        "color_follows": _mean((to_donor < to_own)[apart]),
    }


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if values.numel() else None
