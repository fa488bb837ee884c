"""Intervals of what was measured on images that come in groups: several pictures show the same person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """An estimate and its bootstrap interval, by percentiles."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """As it goes into `results.json`."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, eq=False)
class GroupBootstrap:
    """Resamples of whole groups (Davison and Hinkley, 1997, section 3.8): the same ones for all that is compared.

    >>> boot = GroupBootstrap.draw(person, resamples=2000, rng=generator(0, "bootstrap"))
    >>> boot.interval(wrong)                                        # mean of an (N,) vector, its 95 % interval
    >>> boot.interval(wrong_a, wrong_b, statistic=lambda a, b: a / b - 1)     # paired

    Args:
        groups: `(N,)`, index of each image's group, from 0.
        weights: `(R, G)`, how often each resample holds each group.
    """

    groups: Tensor
    weights: Tensor

    @staticmethod
    def draw(groups: Tensor, resamples: int, rng: torch.Generator) -> GroupBootstrap:
        """Resamples as large as the original, counted in groups.

        Args:
            groups: `(N,)`, any integers.
            resamples: how many.
            rng: on the CPU.
        """
        _, index = groups.unique(return_inverse=True)
        count = int(index.max()) + 1
        chosen = torch.randint(count, (resamples, count), generator=rng)
        weights = torch.zeros(resamples, count, dtype=torch.float64)
        return GroupBootstrap(index, weights.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64)))

    def means(self, values: Tensor) -> Tensor:
        """Mean over the images of every resample, `(N,)` to `(R,)`."""
        return (self.weights @ self._sums(values.double())) / (self.weights @ self._sums(torch.ones(len(self.groups))))

    def _sums(self, values: Tensor) -> Tensor:
        sums = torch.zeros(self.weights.shape[1], dtype=torch.float64)
        return sums.index_add_(0, self.groups, values.double())

    def interval(
        self, *values: Tensor, statistic: Callable[..., Tensor] = lambda mean: mean, level: float = 0.95
    ) -> Interval:
        """A statistic of the means of vectors `(N,)`, with its percentile interval.

        Args:
            values: one or more vectors about the same images.
            statistic: of their means; takes and returns tensors of any shape.
            level: of the interval, in (0, 1).
        """
        value = float(statistic(*(vector.double().mean() for vector in values)))
        resampled = statistic(*(self.means(vector) for vector in values))
        tail = (1 - level) / 2
        low, high = resampled.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
        return Interval(value, low, high)
