"""A spurious correlation made on purpose: who is trained on, who refits, who is judged. A declared stress test."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.errors import UserError

GROUPS = 4
"""Two classes, with and without the cue: group `2 * label + cue`."""


@dataclass(frozen=True, eq=False)
class Division:
    """Rows of one set of images; no person is in two of the parts.

    Attributes:
        train: label and cue agree as often as was asked for.
        refit: as many images of each of the four groups.
        judged: as many images of each of the four groups.
    """

    train: Tensor
    refit: Tensor
    judged: Tensor


def groups_of(labels: Tensor, cues: Tensor) -> Tensor:
    """Which of the four groups each image belongs to, `(N,)`."""
    return 2 * labels + cues


def go_together(counts: Tensor) -> bool:
    """Whether label and cue are correlated, rather than either with the absence of the other, from the `counts` `(4,)`
    of the groups.
    """
    none, cue, label, both = map(float, counts)
    return none * both >= cue * label


def agreement_of(counts: Tensor) -> float:
    """The share of the images in which label and cue agree, in the sense in which they mostly do."""
    agreeing = counts[[0, 3]] if go_together(counts) else counts[[1, 2]]
    return int(agreeing.sum()) / int(counts.sum())


def agrees(labels: Tensor, cues: Tensor) -> Tensor:
    """Whether label and cue go together as they mostly do, `(N,)`: blond with female, not blond with male.

    The sense is that of their correlation among these images.
    """
    return (labels == cues) == go_together(torch.bincount(groups_of(labels, cues), minlength=GROUPS))


def divide_by_cue(
    labels: Tensor,
    cues: Tensor,
    persons: Tensor,
    *,
    judged: int,
    refit: int,
    agreement: float,
    rng: torch.Generator,
) -> Division:
    """Move whole persons out of the training images until `judged` and `refit` images of every group are there, then
    leave so few conflicting images in training that `agreement` of it agrees: of either class as many, as far as there
    are.

    The rarest group is served first. Of the persons who are moved, images above the number are in no part.

    Args:
        labels: `(N,)`, 0 or 1.
        cues: `(N,)`, 0 or 1.
        persons: `(N,)`, any integers.
        judged: images of each group.
        refit: images of each group.
        agreement: share of the training images in which label and cue agree, in [0.5, 1].
        rng: on the CPU.

    Raises:
        UserError: a group has too few images, or no training image of either class is left.
    """
    groups, (_, person) = groups_of(labels, cues), persons.unique(return_inverse=True)
    free = torch.ones(int(person.max()) + 1, dtype=torch.bool)
    moved = [_balanced(groups, person, free, count, rng) for count in (judged, refit)]
    agree = agrees(labels, cues)
    left = free[person]
    with_cue = torch.nonzero(left & agree)[:, 0]
    wanted = round(len(with_cue) * (1 - agreement) / agreement)
    against = _in_equal_shares([torch.nonzero(left & ~agree & (labels == k))[:, 0] for k in (0, 1)], wanted, rng)
    train = torch.cat([with_cue, against]).sort().values
    if len(labels[train].unique()) < 2:
        raise UserError("the stress test leaves no two classes in training; use fewer images with --stress-images")
    return Division(train, refit=moved[1], judged=moved[0])


def _in_equal_shares(kinds: list[Tensor], count: int, rng: torch.Generator) -> Tensor:
    """`count` of two kinds of rows, as many of each as there are: all of the rarer kind, where it is very rare."""
    few, many = sorted((rows[torch.randperm(len(rows), generator=rng)] for rows in kinds), key=len)
    few = few[: count // 2]
    return torch.cat([few, many[: count - len(few)]])


def _balanced(groups: Tensor, person: Tensor, free: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Rows of `count` images of every group; who is on them is not `free` afterwards."""
    taken = torch.zeros_like(free)
    order = torch.randperm(len(free), generator=rng)
    for group in torch.bincount(groups, minlength=GROUPS).argsort().tolist():
        of_person = torch.bincount(person[groups == group], minlength=len(free))
        missing = count - int(of_person[taken].sum())
        for who in order[(free & ~taken & (of_person > 0))[order]].tolist():
            if missing <= 0:
                break
            taken[who], missing = True, missing - int(of_person[who])
        if missing > 0:
            raise UserError(
                f"--stress-images, --refit-images: too few images of class {group // 2} with cue {group % 2} "
                f"({missing} missing of {count}); use fewer"
            )
    free &= ~taken
    rows = []
    for group in range(GROUPS):
        mine = torch.nonzero((groups == group) & taken[person])[:, 0]
        rows.append(mine[torch.randperm(len(mine), generator=rng)[:count]])
    return torch.cat(rows).sort().values
