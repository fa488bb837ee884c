"""Errors with intervals: of all judged images, balanced over classes, and of the worst group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.audit.bootstrap import GroupBootstrap, Interval
from advmix.studies.celeba.faces import Faces

Numbers = dict[str, float]


@dataclass(frozen=True, eq=False)
class Metric:
    """The error within parts of the judged images, averaged over the parts, or that of the worst part.

    Args:
        parts: `(N,)` booleans each.
        worst: the largest error of a part instead of the mean of all.
    """

    parts: Sequence[Tensor]
    worst: bool = False

    def interval(self, wrong: Tensor, boot: GroupBootstrap) -> Interval:
        """Of the share of seeds `(N,)` in which each image is wrong."""
        return boot.interval(*self._vectors(wrong), *self._sizes(), statistic=self._error)

    def change(self, wrong: Tensor, base: Tensor, boot: GroupBootstrap) -> Numbers | None:
        """Relative to another method's error, paired; None where that hardly errs, so that a resample may have no
        error at all.
        """
        resampled = self._error(*(boot.means(vector) for vector in (*self._vectors(base), *self._sizes())))
        if not bool(resampled.all()):
            return None
        return self._paired(wrong, base, boot, lambda ours, theirs: ours / theirs - 1)

    def difference(self, wrong: Tensor, base: Tensor, boot: GroupBootstrap) -> Numbers:
        """Less another method's error, paired."""
        return self._paired(wrong, base, boot, torch.sub)

    def _paired(
        self, wrong: Tensor, base: Tensor, boot: GroupBootstrap, compare: Callable[[Tensor, Tensor], Tensor]
    ) -> Numbers:
        count = len(self.parts)

        def compared(*means: Tensor) -> Tensor:
            sizes = means[2 * count :]
            return compare(self._error(*means[:count], *sizes), self._error(*means[count : 2 * count], *sizes))

        vectors = (*self._vectors(wrong), *self._vectors(base), *self._sizes())
        return boot.interval(*vectors, statistic=compared).to_dict()

    def _vectors(self, wrong: Tensor) -> tuple[Tensor, ...]:
        return tuple(wrong * part for part in self.parts)

    def _sizes(self) -> tuple[Tensor, ...]:
        return tuple(part.double() for part in self.parts)

    def _error(self, *means: Tensor) -> Tensor:
        """From the means of wrong images and of sizes, part by part; a part that a resample lacks counts as right."""
        count = len(self.parts)
        errors = torch.stack([w / size.clamp_min(1e-12) for w, size in zip(means[:count], means[count:], strict=True)])
        return errors.amax(dim=0) if self.worst else errors.mean(dim=0)


def metrics(faces: Faces) -> dict[str, Metric]:
    """What is reported of every method, by its key in `results.json`."""
    labels = faces.judged.labels
    classes = [labels == place for place in range(len(faces.judged.classes))]
    found = {
        "error": Metric([torch.ones(len(labels), dtype=torch.bool)]),
        "balanced_error": Metric([part for part in classes if part.any()]),
    }
    if faces.groups is not None:
        found["worst_group_error"] = Metric(group_masks(faces.groups), worst=True)
    return found


def group_masks(groups: Tensor) -> list[Tensor]:
    """A mask `(N,)` for each of the four groups."""
    return [groups == place for place in range(4)]


def group_errors(wrong: Tensor, groups: Tensor, names: Sequence[str], boot: GroupBootstrap) -> dict[str, Numbers]:
    """The error of every group, by its name."""
    masks = zip(names, group_masks(groups), strict=True)
    return {name: Metric([mask]).interval(wrong, boot).to_dict() for name, mask in masks}
