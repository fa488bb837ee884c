"""Styles in a small file: a byte for each number, for a pool that is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.latents import Latents
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors, write_tensors

STEPS = 255


def write_styles(path: Path, styles: Tensor, metadata: dict[str, Any]) -> None:
    """Write the styles of many images, each number in 256 even steps from the least to the largest of its place.

    Args:
        path: of the file.
        styles: `(N, L, D)`, finite.
        metadata: what they are of, and made with.
    """
    least, most = styles.amin(dim=0), styles.amax(dim=0)
    step = (most - least).clamp_min(torch.finfo(styles.dtype).tiny) / STEPS
    numbers = ((styles - least) / step).round().to(torch.uint8)
    write_tensors(path, "styles", {"numbers": numbers, "offset": least, "scale": step}, metadata)


def read_styles(path: Path) -> tuple[Latents, dict[str, Any]]:
    """What `write_styles` wrote, to half a step in every number: latents without a grid, and the metadata.

    Raises:
        UserError: missing or damaged, or not styles.
    """
    tensors, metadata = read_tensors(path, "styles")
    numbers, offset, scale = (tensors.get(name, torch.empty(0)) for name in ("numbers", "offset", "scale"))
    right = numbers.dtype == torch.uint8 and numbers.ndim == 3 and len(numbers) > 0
    for part in (offset, scale):
        right = right and part.is_floating_point() and part.shape == numbers.shape[1:]
        right = right and bool(part.isfinite().all())
    if not right:
        raise UserError(f"{path}: not styles, or damaged; make it again")
    return Latents(offset + scale * numbers), metadata
