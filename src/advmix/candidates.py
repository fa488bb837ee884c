"""Candidates of a search: latents, decoded and judged by a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from advmix.generators.base import Generator, State
from advmix.utils.arithmetic import ArithmeticOptions, exact
from advmix.utils.torch_tools import answers, mistakes

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits `(B, C)` and labels `(B,)` to one loss per example, `(B,)`."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """One candidate `z⊥` per row, decoded and judged: `perp (N, P)`, the `flip (N, P)` that fooled first, the `donors
    (N,)` that it began with, `images`, `losses (N,)`, `fooled (N,)`, `unanswered (N,)`.
    """

    perp: Tensor
    flip: Tensor
    donors: Tensor
    images: Tensor
    losses: Tensor
    fooled: Tensor
    unanswered: Tensor

    def worse(self, rows: Tensor, found: Candidates) -> Candidates:
        """The candidate with the higher loss, row by row (the older one on a tie); `found` is about `rows` only."""
        higher = found.losses > self.losses[rows]

        def choose(old: Tensor, new: Tensor, mask: Tensor = higher) -> Tensor:
            mask = mask.view(-1, *[1] * (new.ndim - 1))
            return old.index_copy(0, rows, torch.where(mask, new, old[rows]))

        return Candidates(
            choose(self.perp, found.perp),
            choose(self.flip, found.flip, ~self.fooled[rows]),
            choose(self.donors, found.donors),
            choose(self.images, found.images),
            choose(self.losses, found.losses),
            self.fooled.index_copy(0, rows, found.fooled | self.fooled[rows]),
            self.unanswered.index_copy(0, rows, found.unanswered | self.unanswered[rows]),
        )

    def __getitem__(self, rows: Tensor) -> Candidates:
        return Candidates(*(getattr(self, part.name)[rows] for part in fields(self)))

    def put(self, rows: Tensor, others: Candidates) -> Candidates:
        """The same with others in some rows."""
        parts = ((getattr(self, part.name), getattr(others, part.name)) for part in fields(self))
        return Candidates(*(own.index_copy(0, rows, other) for own, other in parts))

    def corrected(self, rows: Tensor, again: Candidates) -> Candidates:
        """The same with what some rows are worth when they are judged again; what fooled before still does."""
        own = self[rows]
        flip = torch.where(own.fooled[:, None], own.flip, again.perp)
        fooled, unanswered = own.fooled | again.fooled, own.unanswered | again.unanswered
        return self.put(rows, replace(again, flip=flip, fooled=fooled, unanswered=unanswered))


def decode_and_classify(generator: Generator, model: nn.Module, state: State, perp: Tensor) -> tuple[Tensor, Tensor]:
    """Images and logits."""
    images = generator.render(state, perp)
    return images, model(images)


MOSTLY = 0.75
"""Share of the rows that something was compiled for from which fewer ones are filled up to them."""


@dataclass(frozen=True, eq=False)
class CandidateJudge:
    """Decodes candidates and classifies them.

    Args:
        generator: `dec`, in eval mode.
        model: images in [0, 1] to logits, in eval mode.
        loss: what is climbed.
        arithmetic: how candidates are computed, `auto` decided.
        verdicts: whether mistakes in 16 bits are judged again.
        answer: generator, model, state and `z⊥` to images and logits.
        rows: how many at once `answer` is compiled for; 0 where it is not.
    """

    generator: Generator
    model: nn.Module
    loss: Loss
    arithmetic: ArithmeticOptions
    verdicts: bool
    answer: Callable[[Generator, nn.Module, State, Tensor], tuple[Tensor, Tensor]]
    rows: int = 0

    def __call__(
        self, state: State, perp: Tensor, donors: Tensor, labels: Tensor, climb: bool, known: Tensor
    ) -> tuple[Candidates, Tensor]:
        """Candidates, and with `climb` the gradient of the loss in `perp`, and in nothing else. One without an answer
        is never the worst. In 16 bits every mistake is asked again, but for rows of which one is `known`, `(N,)`.
        """
        perp, count = perp.detach(), len(perp)
        with torch.set_grad_enabled(climb or self.rows > 0):  # compiled once, with the gradient
            state, asked = self._filled(state, perp)
            asked = asked.detach().requires_grad_(torch.is_grad_enabled())
            images, logits = (part[:count] for part in self._answered(state, asked))
            losses = self.loss(logits, labels)
            gradient = torch.autograd.grad(losses.sum(), asked)[0][:count] if climb else torch.zeros_like(perp)
        found, images = answers(logits.detach()), images.detach()
        losses = losses.detach().masked_fill((found < 0) | losses.isnan(), -torch.inf)
        judged = Candidates(perp, perp, donors, images, losses, mistakes(found, labels), found < 0)
        if self.asks_again:
            rows = (judged.unanswered | (judged.fooled & ~known)).nonzero()[:, 0]
            judged = judged.put(rows, self.again(state, judged, labels, rows)) if len(rows) else judged
        return judged, gradient

    @property
    def asks_again(self) -> bool:
        """Whether mistakes are judged again, and what is kept in the end."""
        return self.verdicts and self.arithmetic.is_reduced

    def _filled(self, state: State, perp: Tensor) -> tuple[State, Tensor]:
        """Rows again and again up to the number that is compiled, if that is not far."""
        if not MOSTLY * self.rows <= len(perp) < self.rows:
            return state, perp
        every = torch.arange(self.rows, device=perp.device) % len(perp)
        return state[every], perp[every]

    def _answered(self, state: State, perp: Tensor) -> tuple[Tensor, Tensor]:
        """Images and logits."""
        answer = self.answer if len(perp) == self.rows else decode_and_classify
        with self.arithmetic.reduced(perp.device):
            images, logits = answer(self.generator, self.model, state, perp)
        return (images.to(perp), logits.to(perp)) if self.arithmetic.is_reduced else (images, logits)

    def again(self, state: State, found: Candidates, labels: Tensor, rows: Tensor) -> Candidates:
        """Some rows of what was found, decoded and classified in the networks' own type."""
        judge, these = replace(self, arithmetic=ArithmeticOptions(), rows=0), found[rows]
        with exact(labels.device):
            return judge(state[rows], these.perp, these.donors, labels[rows], False, these.fooled)[0]
