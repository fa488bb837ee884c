"""Which pictures tell most, and what became of the label: rules that a reader can check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from advmix.answers import answers, mistakes
from advmix.audit.found import Asked, Found, Judged

HONEST = 0.9
"""A reference that is right on the audited images less than this share as often as on the training images reads a bias
of these, or knows them by heart: its votes say nothing."""
LEAST_CHANGE = 0.02
"""Root mean square pixel change below which one mix is not smaller than another to the eye: 5 of 255."""


@dataclass(frozen=True, eq=False)
class LabelCheck:
    """What a reference says of the mixes that flip a classifier's answer: `(N,)` boolean each.

    The reference votes where it is right on the image itself; elsewhere it cannot say what the mix has lost.
    """

    asked: Asked
    judged: Judged

    @cached_property
    def flipped(self) -> Tensor:
        """Right as they are, and wrong on what was found."""
        return self.judged.right & ~self.judged.right_worst & ~self.judged.unanswered

    @cached_property
    def votes(self) -> Tensor:
        """Images on which the reference is right."""
        return self.asked.reference_before == self.asked.labels

    @cached_property
    def voted(self) -> Tensor:
        """Flipped by the picture that the reference was shown: the worst in loss, which where others flip the answer
        need not do so itself.
        """
        seen = (self.judged.reference_after >= 0) & mistakes(answers(self.judged.after), self.asked.labels)
        return self.flipped & self.votes & seen

    @cached_property
    def kept(self) -> Tensor:
        """Flipped, and the reference still sees the label: the classifier's own mistake."""
        return self.voted & (self.judged.reference_after == self.asked.labels)

    @cached_property
    def lost(self) -> Tensor:
        """Flipped, and the reference sees another class as well."""
        return self.voted & (self.judged.reference_after != self.asked.labels)

    @cached_property
    def no_vote(self) -> Tensor:
        """Flipped, and the reference is wrong on the image itself."""
        return self.flipped & ~self.votes

    @cached_property
    def unseen(self) -> Tensor:
        """Flipped by a picture that the reference was not shown, though it votes: the one that it was shown did not."""
        return self.flipped & self.votes & ~self.voted

    @cached_property
    def checked(self) -> Tensor:
        """Images of the checked figure: those where the reference votes, without those whose label was lost. Where it
        was not shown what flipped the answer, that counts against the classifier.
        """
        return self.votes & ~self.lost


def is_trusted(found: Found) -> bool:
    """Whether the reference's votes count."""
    right = float((found.asked.reference_before == found.asked.labels).double().mean())
    trusted: bool = right >= HONEST * found.metadata["reference"]["right_train"]
    return trusted


def swing(asked: Asked, judged: Judged) -> Tensor:
    """How far the probability of the true class falls, `(N,)` in [-1, 1]."""
    rows = torch.arange(len(asked.labels))
    return (judged.before - judged.after)[rows, asked.labels]


def most_telling(asked: Asked, judged: Judged, among: Tensor, count: int) -> list[int]:
    """Places of the images whose probability swings furthest for the change of the image, best first.

    The rule: fall of the true class's probability, divided by the root mean square pixel change (at least 0.02).

    Args:
        asked: the images.
        judged: the classifier's answers.
        among: `(N,)` boolean, those that may be chosen; a mix that the classifier is right on is never chosen.
        count: at most so many.
    """
    wrong = mistakes(answers(judged.after), asked.labels)
    score = swing(asked, judged) / judged.change.clamp_min(LEAST_CHANGE)
    order = score.masked_fill(~(among & wrong), -torch.inf).sort(descending=True, stable=True)
    return [place for place, value in zip(order.indices.tolist(), order.values.tolist(), strict=True) if value > 0][
        :count
    ]
