"""`Latents`, the code of a batch of images, and `Split`, which of its numbers decide the label and which do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.utils.errors import UserError
from advmix.utils.files import hexdigest, named, read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class Latents:
    """One batch's code: a style per generator layer and, for photographs, a spatial grid. Immutable.

    >>> latents = Latents(torch.zeros(8, 6, 64))          # 8 images, 6 layers, 64 numbers each
    >>> latents[:4], latents[torch.tensor([5, 2])]        # index like a tensor
    >>> Latents.cat([latents, latents])                   # 16 images

    Args:
        styles: `(B, L, D)`, no unit, any range.
        grid: `(B, C, H, W)` or None.
        residual: `(B, C, H, W)` in [-1, 1] or None: what the generator cannot draw of the image, `x - dec(enc(x))`.
            It is added to whatever is decoded, in its own size, and stays with the image in every mix, as `z∥` does.
        drawn: `(B, C, h, w)` in [0, 1] or None: `dec(enc(x))`, where the image is larger than that.
    """

    styles: Tensor
    grid: Tensor | None = None
    residual: Tensor | None = None
    drawn: Tensor | None = None

    def __post_init__(self) -> None:
        if self.styles.ndim != 3:
            raise ValueError(f"styles must be (B, L, D), not {tuple(self.styles.shape)}")
        if self.grid is not None and (self.grid.ndim != 4 or len(self.grid) != len(self.styles)):
            raise ValueError(f"grid must be ({len(self.styles)}, C, H, W), not {tuple(self.grid.shape)}")
        if self.residual is not None and len(self.residual) != len(self.styles):
            raise ValueError(f"residual must be ({len(self.styles)}, C, H, W), not {tuple(self.residual.shape)}")

    def __len__(self) -> int:
        return len(self.styles)

    def __getitem__(self, index: Tensor | slice) -> Latents:
        return self._each(lambda part: part[index])

    def __repr__(self) -> str:
        return f"Latents({', '.join(f'{name} {tuple(part.shape)}' for name, part in self.tensors().items())})"

    def _each(self, change: Callable[[Tensor], Tensor]) -> Latents:
        return Latents(**{name: change(part) for name, part in self.tensors().items()})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Latents:
        """The same code on another device or in another dtype."""
        return self._each(lambda part: part.to(device=device, dtype=dtype))

    def detach(self) -> Latents:
        """The same numbers without their history; itself where there is none."""
        if not any(part.requires_grad for part in self.tensors().values()):
            return self
        return self._each(Tensor.detach)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any number."""
        return hexdigest(*named(self.tensors().items()))

    def tensors(self) -> dict[str, Tensor]:
        """By name, as they go into a file."""
        parts = {"styles": self.styles, "grid": self.grid, "residual": self.residual, "drawn": self.drawn}
        return {name: part for name, part in parts.items() if part is not None}

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically."""
        write_tensors(path, "latents", self.tensors(), {})

    @staticmethod
    def load(path: Path) -> Latents:
        """Read what `save` wrote.

        Raises:
            UserError: missing, damaged or not latents, or not finite.
        """
        return Latents.read(path)[0]

    @staticmethod
    def read(path: Path) -> tuple[Latents, Any]:
        """What a file of latents holds, and its metadata.

        Raises:
            UserError: missing, damaged or not latents, or not finite.
        """
        tensors, metadata = read_tensors(path, "latents")
        try:
            latents = Latents(**tensors)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: not latents, or damaged ({str(error)[:120]}); encode the data again") from error
        if not all(part.is_floating_point() for part in latents.tensors().values()):
            raise UserError(f"{path}: not latents, or damaged (other numbers than floats); encode the data again")
        broken = latents.not_finite
        if len(broken):
            raise UserError(
                f"{path}: {len(broken):,} of {len(latents):,} latents hold numbers that are not finite, the first of "
                f"them in place {int(broken[0]):,}; encode the data again"
            )
        return latents, metadata

    @property
    def not_finite(self) -> Tensor:
        """Places of latents with an infinity or NaN, in order."""
        each = [part.flatten(1).isfinite().all(dim=1) for part in self.tensors().values()]
        return (~torch.stack(each).all(dim=0)).nonzero().flatten()

    @staticmethod
    def cat(parts: Sequence[Latents]) -> Latents:
        """Concatenate along the batch."""
        return Latents(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()})

    @cached_property
    def spread(self) -> Latents:
        """Standard deviation of every latent number over the batch, as `Latents` of length 1: the search's unit of
        length.
        """
        return replace(self, residual=None, drawn=None)._each(lambda part: part.std(dim=0, correction=0, keepdim=True))


@dataclass(frozen=True)
class Split:
    """Which layers' styles are `z⊥` (harmless variation); everything else is `z∥` (decides the label).

    >>> Split.fine(layers=6, count=2)                # the last two layers are z⊥
    Split(layers=6, perp=(4, 5), grid=False)
    >>> split.combine(parallel_from=a, perp_from=b)  # a's z∥ with b's z⊥

    Args:
        layers: number of layers of the generator.
        perp: indices of the layers that are `z⊥`.
        grid: whether a spatial grid, where there is one, belongs to `z⊥` too (the reversed task).

    Raises:
        UserError: a layer outside the network, or nothing left to mix.
    """

    layers: int
    perp: tuple[int, ...]
    grid: bool = False

    def __post_init__(self) -> None:
        outside = [layer for layer in self.perp if not 0 <= layer < self.layers]
        if outside:
            raise UserError(f"split: layers {outside} are outside the network, which has layers 0 to {self.layers - 1}")
        if not self.perp and not self.grid:
            raise UserError("split: z⊥ is empty, so there is nothing to mix; name at least one layer")
        object.__setattr__(self, "perp", tuple(sorted(set(self.perp))))

    @classmethod
    def fine(cls, layers: int, count: int) -> Split:
        """The last `count` layers are `z⊥`: colour and light, in a StyleGAN."""
        if not 0 < count <= layers:
            raise UserError(f"split: cannot take the {count} finest layers of a network that has {layers}")
        return cls(layers, tuple(range(layers - count, layers)))

    @classmethod
    def named(cls, layers: int, perp: Sequence[int], grid: bool = False, flag: str = "--perp") -> Split:
        """The layers that a user names; negative numbers count from the finest, as in Python.

        Raises:
            UserError: a layer outside the network, naming the flag.
        """
        outside = [layer for layer in perp if not -layers <= layer < layers]
        if outside:
            raise UserError(
                f"{flag} {outside[0]}: outside the network, which has layers 0 to {layers - 1} (or -{layers} to -1)"
            )
        return cls(layers, tuple(layer % layers for layer in perp), grid)

    def within(self, other: Split) -> bool:
        """Whether all of this one's `z⊥` is also the other's."""
        return set(self.perp) <= set(other.perp) and (other.grid or not self.grid)

    @property
    def first(self) -> int:
        """The first layer that depends on `z⊥`; all before it can be computed once."""
        return 0 if self.grid else self.perp[0]

    def perp_of(self, latents: Latents) -> Tensor:
        """`z⊥` as one flat row per example, `(B, P)`."""
        parts = [latents.styles[:, :0].flatten(1), *(latents.styles[:, layer] for layer in self.perp)]
        if self.grid and latents.grid is not None:
            parts.append(latents.grid.flatten(1))
        return torch.cat(parts, dim=1)

    def with_perp(self, latents: Latents, perp: Tensor) -> Latents:
        """`latents` with its `z⊥` replaced by the rows of `perp`, `(B, P)`; differentiable in `perp`."""
        depth, layers = latents.styles.shape[2], list(latents.styles.unbind(1))
        count = len(self.perp) * depth
        for layer, style in zip(
            self.perp, perp[:, :count].unflatten(1, (len(self.perp), depth)).unbind(1), strict=True
        ):
            layers[layer] = style
        styles = torch.stack(layers, dim=1)
        if not self.grid or latents.grid is None:
            return replace(latents, styles=styles)
        return replace(latents, styles=styles, grid=perp[:, count:].unflatten(1, latents.grid.shape[1:]))

    def combine(self, parallel_from: Latents, perp_from: Latents) -> Latents:
        """`z∥` of one batch with `z⊥` of another."""
        return self.with_perp(parallel_from, self.perp_of(perp_from))


def single_splits(layers: int, grid: bool) -> tuple[Split, ...]:
    """What can be swapped by itself, coarse to fine: the grid, where there is one, then every layer."""
    single = tuple(Split(layers, (layer,)) for layer in range(layers))
    return (Split(layers, (), grid=True), *single) if grid else single


def join_splits(splits: Sequence[Split]) -> Split:
    """All layers of several splits."""
    perp = tuple(layer for split in splits for layer in split.perp)
    return Split(splits[0].layers, perp, any(split.grid for split in splits))


def split_parts(split: Split) -> tuple[Split, ...]:
    """The units of a split, coarse to fine: the inverse of `join_splits`."""
    return tuple(unit for unit in single_splits(split.layers, split.grid) if unit.grid or unit.perp[0] in split.perp)


def complement_split(split: Split, grid: bool) -> Split | None:
    """All that a split leaves out, in a generator with or without a grid; None where that is nothing."""
    others = [unit for unit in single_splits(split.layers, grid) if unit not in split_parts(split)]
    return join_splits(others) if others else None


def neighbour_splits(layers: int, grid: bool) -> tuple[Split, ...]:
    """All runs of neighbouring units, `U * (U + 1) / 2` of them."""
    every = single_splits(layers, grid)
    count = len(every)
    return tuple(join_splits(every[first:last]) for first in range(count) for last in range(first + 1, count + 1))


def split_name(unit: Split) -> str:
    """`"grid"`, or the layer's number."""
    return "grid" if unit.grid else str(unit.perp[0])
