"""What a classifier answers: a class, or nothing where its numbers are none; and how sure it is."""

from __future__ import annotations

import torch
from torch import Tensor


def answers(logits: Tensor) -> Tensor:
    """The class with the highest logit, and -1 where there is none: `(B, C)` to `(B,)`.

    A row has no answer where its probabilities are not numbers: one logit is NaN or infinite, or all are minus
    infinity. Such an answer is never right, and never a mistake that somebody made the classifier make.

    Args:
        logits: or probabilities, `(B, C)`.
    """
    return torch.where(logits.softmax(dim=1).isnan().any(dim=1), -1, logits.argmax(dim=1))


def probabilities(logits: Tensor) -> Tensor:
    """`(B, C)` in float64, on the CPU: in float32 those of small or close logits are equal, and their order is lost."""
    return logits.detach().cpu().double().softmax(dim=1)


def mistakes(found: Tensor, labels: Tensor) -> Tensor:
    """Where an answer was given and is wrong: `(B,)` boolean, of `answers` and labels."""
    return (found != labels) & (found >= 0)
