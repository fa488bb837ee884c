"""Fingerprints: sixteen hex digits that change with any number or letter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def hexdigest(*parts: str | Tensor) -> str:
    """The first sixteen digits of `sha256`."""
    return sha256(*parts)[:16]


def sha256(*parts: str | Tensor) -> str:
    """Of texts and tensors in this order. Tensors count by their bytes alone: name type and shape where they vary."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(part.encode())
    return digest.hexdigest()


def named(tensors: Iterable[tuple[str, Tensor]]) -> list[str | Tensor]:
    """Parts for `hexdigest`: each tensor after its name and shape."""
    return [part for name, tensor in tensors for part in (f"{name}{tuple(tensor.shape)}", tensor)]
