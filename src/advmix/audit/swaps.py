"""Which layers flip answers: an image with the latents of another one in some layers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.answers import answers
from advmix.audit.layers import unit_name, units
from advmix.generators import Generator, NetworkConfig
from advmix.latents import Latents, Split


@dataclass(frozen=True)
class Swap:
    """Some layers that are swapped together.

    Attributes:
        name: `grid`, `layer 3`, `layers 2 3`, or `z⊥`, all that the search moves.
        split: the layers.
        resolution: side in pixels at which they act; None for several.
        kind: `layer`, `resolution` or `all`.
    """

    name: str
    split: Split
    resolution: int | None
    kind: str

    def to_dict(self) -> dict[str, Any]:
        """As it goes into a file."""
        layers = {"layers": list(self.split.perp), "grid": self.split.grid}
        return {"name": self.name, "kind": self.kind, "resolution": self.resolution, **layers}


def swaps(network: NetworkConfig, perp: Split) -> tuple[Swap, ...]:
    """Every layer alone, the two of every resolution, and all of z⊥; coarse to fine, the grid first."""
    grid = network.grid_shape is not None
    sides = [network.start * 2 ** (layer // 2) for layer in range(network.layers)]
    single = [
        Swap("grid", unit, network.start, "layer")
        if unit.grid
        else Swap(f"layer {unit_name(unit)}", unit, sides[unit.perp[0]], "layer")
        for unit in units(network.layers, grid)
    ]
    pairs = [
        Swap(f"layers {layer} {layer + 1}", Split(network.layers, (layer, layer + 1)), sides[layer], "resolution")
        for layer in range(0, network.layers, 2)
    ]
    return (*single, *pairs, Swap("z⊥", perp, None, "all"))


Swapped = tuple[Tensor, Tensor, Tensor, Tensor]


@torch.no_grad()
def swapped(
    generator: Generator, model: nn.Module, latents: Latents, donors: Latents, asked: tuple[Swap, ...]
) -> Swapped:
    """A classifier's answers `(B, U)` after each of U swaps, and what these change, `(B, U)` each: root mean square
    pixel difference, share of it that is colour (`color_share`), share that is broad (`broad_share`).

    Args:
        generator: `dec`, in eval mode.
        model: images in [0, 1] to logits, in eval mode.
        latents: B images, with their residual where mixes keep it.
        donors: B others.
        asked: the swaps.
    """
    plain = generator(latents)
    found = []
    for swap in asked:
        images = generator.render(generator.prefix(latents, swap.split), swap.split.perp_of(donors))
        change = images - plain
        found.append((answers(model(images)), rms(change), color_share(plain, change), broad_share(change)))
    seen, size, color, broad = (torch.stack(column, dim=1) for column in zip(*found, strict=True))
    return seen, size, color, broad


def rms(difference: Tensor) -> Tensor:
    """Root mean square over the pixels of each image: `(B, C, H, W)` to `(B,)`."""
    return difference.flatten(1).square().mean(dim=1).sqrt()


def color_share(images: Tensor, change: Tensor) -> Tensor:
    """How much of a change one colour map of the whole image makes, `(B,)` in [0, 1].

    The map is the affine one of colours to colours that fits best (least squares): it repaints, relights and changes
    contrast, and can move no edge. The share is of the squared change; 0 where nothing changes. It is
    computed in float64 on the CPU: not every device has that.

    Args:
        images: `(B, C, H, W)` before.
        change: what is added to them.
    """
    colors = images.flatten(2).cpu().double().mT
    known = torch.cat([colors, torch.ones_like(colors[..., :1])], dim=2)
    wanted = change.flatten(2).cpu().double().mT
    square = known.mT @ known + 1e-6 * torch.eye(known.shape[2], dtype=torch.float64)
    fitted = known @ torch.linalg.solve(square, known.mT @ wanted)
    return _share((wanted - fitted).flatten(1), wanted.flatten(1))


def broad_share(change: Tensor) -> Tensor:
    """How much of a change is left when it is averaged over blocks of an eighth of the side: `(B,)` in [0, 1]."""
    side = change.shape[-1]
    coarse = F.interpolate(F.adaptive_avg_pool2d(change, min(8, side)), change.shape[-2:], mode="nearest")
    return _share((change - coarse).flatten(1), change.flatten(1))


def _share(rest: Tensor, whole: Tensor) -> Tensor:
    """One less the squared rest's part of the squared whole, `(B,)`."""
    total = whole.square().sum(dim=1)
    share = 1 - rest.square().sum(dim=1) / total.clamp_min(1e-12)
    return torch.where(total > 1e-12, share.clamp(0, 1), 0).float()
