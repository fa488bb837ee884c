"""Which layers flip answers: an image with the latents of another one in some layers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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

    def within(self, perp: Split) -> bool:
        """Whether all of it is z⊥."""
        return set(self.split.perp) <= set(perp.perp) and (perp.grid or not self.split.grid)

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


@torch.no_grad()
def swapped(
    generator: Generator, model: nn.Module, latents: Latents, donors: Latents, asked: tuple[Swap, ...]
) -> tuple[Tensor, Tensor]:
    """A classifier's answers `(B, U)` after each of U swaps, and how far they change the image, `(B, U)` (root mean
    square).

    Args:
        generator: `dec`, in eval mode.
        model: images in [0, 1] to logits, in eval mode.
        latents: B images, with their residual where mixes keep it.
        donors: B others.
        asked: the swaps.
    """
    plain = generator(latents)
    answers, change = [], []
    for swap in asked:
        images = generator.render(generator.prefix(latents, swap.split), swap.split.perp_of(donors))
        answers.append(model(images).argmax(dim=1))
        change.append(rms(images - plain))
    return torch.stack(answers, dim=1), torch.stack(change, dim=1)


def rms(difference: Tensor) -> Tensor:
    """Root mean square over the pixels of each image: `(B, C, H, W)` to `(B,)`."""
    return difference.flatten(1).square().mean(dim=1).sqrt()
