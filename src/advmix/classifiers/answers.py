"""What networks answer with, brought to one tensor: scores of the classes, an image a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advmix.errors import UserError

LOGITS = "logits"


@dataclass(frozen=True)
class Answer:
    """One tensor of a network's answer.

    Attributes:
        scores: `(B, K)`.
        note: which of several it is, as a person reads it; empty where there is one.
    """

    scores: Tensor
    note: str = ""


def scores_of(answer: Any, count: int, head: str = "") -> Answer:
    """The scores in an answer to `count` images: a tensor, or the tensor called `logits`, or the only one that may be.

    Args:
        answer: a tensor or array; a tuple, list, mapping or object of such, at any depth.
        count: number of images, B.
        head: which one, by its name or number; empty where that is clear.

    Raises:
        UserError: none that may be, or several; class numbers; complex numbers; another shape.
    """
    named = dict(_named(answer))
    fitting = {name: tensor for name, tensor in named.items() if _may_be(tensor, count)}
    if head:
        if head not in named:
            there = f"there are {_listed(named)}" if len(named) > 1 else "there is one; leave --head out"
            raise UserError(f"--head {head}: no output is called so; {there}")
        return Answer(_rows(named[head], count), f"output {head}" if len(named) > 1 else "")
    if len(named) < 2:
        return Answer(_rows(next(iter(named.values()), answer), count))
    if not fitting:
        raise UserError(f"answers {count} images with {_listed(named)}, not with logits ({count}, K)")
    logits = [name for name in fitting if name.rpartition(".")[2] == LOGITS]
    chosen = logits or list(fitting)
    in_order = all(name.isdecimal() for name in chosen)
    if len(chosen) > 1 and not in_order:
        raise UserError(
            f"answers with several outputs, {_listed(named)}; say which are the logits with --head, as in --head "
            f"{chosen[0]}"
        )
    name = chosen[0]
    note = f"output {name} of {len(named)} taken" + ("" if logits else ", another with --head")
    return Answer(_rows(fitting[name], count), note)


def _named(answer: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in an answer, by its name or number."""
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(answer)
    if isinstance(answer, Tensor):
        yield prefix, answer
        return
    parts: Mapping[Any, Any] = {}
    if isinstance(answer, Mapping):
        parts = answer
    elif hasattr(answer, "_asdict"):
        parts = answer._asdict()
    elif isinstance(answer, tuple | list):
        parts = dict(enumerate(answer))
    elif is_dataclass(answer) and not isinstance(answer, type):
        parts = vars(answer)
    elif hasattr(answer, LOGITS):
        parts = {LOGITS: answer.logits}
    for name, part in parts.items():
        yield from _named(part, f"{prefix}.{name}" if prefix else str(name))


def _may_be(tensor: Tensor, count: int) -> bool:
    """Whether a tensor may hold scores: a row of floating numbers for each image."""
    flat = _flat(tensor)
    return flat.is_floating_point() and flat.ndim in (1, 2) and len(flat) == count


def _flat(tensor: Tensor) -> Tensor:
    """Without the dimensions of one pixel that a convolution leaves, `(B, K, 1, 1)`."""
    while tensor.ndim > 2 and tensor.shape[-1] == 1:
        tensor = tensor[..., 0]
    return tensor


def _rows(answer: Any, count: int) -> Tensor:
    """Scores `(B, K)`, checked."""
    if not isinstance(answer, Tensor):
        raise UserError(f"answers {count} images with a {type(answer).__name__}, not with logits ({count}, K)")
    plain = answer.dequantize() if answer.is_quantized else answer
    flat = _flat(plain if plain.layout == torch.strided else plain.to_dense())
    if flat.is_complex():
        raise UserError(f"answers {count} images with complex numbers, not with logits ({count}, K)")
    if count == 1 and (flat.ndim == 0 or (flat.ndim == 1 and len(flat) != 1)):
        flat = flat[None]  # a network that squeezes all it has
    if flat.ndim == 1 and len(flat) == count:
        flat = flat[:, None]
    if flat.ndim != 2 or len(flat) != count or flat.shape[1] == 0:
        raise UserError(f"answers {count} images with shape {tuple(answer.shape)}, not with logits ({count}, K)")
    if flat.dtype == torch.bool or (flat.shape[1] == 1 and not flat.is_floating_point()):
        kind = "yes and no" if flat.dtype == torch.bool else "whole numbers"
        raise UserError(
            f"answers {count} images with {kind} of shape {tuple(answer.shape)}: numbers of classes, not their "
            "scores; let it return its logits, before any argmax"
        )
    return flat


def _listed(named: Mapping[str, Tensor]) -> str:
    return " and ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in named.items())
