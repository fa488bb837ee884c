"""95 % intervals: of shares by Wilson, of paired differences and of images that come in groups by resampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from advmix.utils.torch_tools import derive


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval."""

    value: float
    low: float
    high: float

    @property
    def rest(self) -> Interval:
        """Of a share: that of all other cases."""
        return Interval(1 - self.value, 1 - self.high, 1 - self.low)

    def to_dict(self) -> dict[str, float]:
        """As it goes into `results.json`."""
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson(hits: float, total: float) -> Interval:
    """`hits` of `total` with the score interval of Wilson (1927), which is also right for shares near 0 and 1.

    >>> wilson(0, 20)
    Interval(value=0.0, low=0.0, high=0.161...)
    """
    z = 1.959964
    share, extra = hits / total, z * z / total
    middle = (share + extra / 2) / (1 + extra)
    half = z * sqrt(share * (1 - share) / total + extra / (4 * total)) / (1 + extra)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(share, 0.0 if hits == 0 else low, 1.0 if hits == total else high)


def share_of(hits: Tensor, among: Tensor | None = None) -> Interval | None:
    """The share of `hits`, of those `among` whom it is asked (all by default); None where there are none.

    Args:
        hits: `(N,)` boolean.
        among: `(N,)` boolean.
    """
    counted = torch.ones_like(hits) if among is None else among
    total = int(counted.sum())
    return wilson(int((hits & counted).sum()), total) if total else None


def balanced_share(hits: Tensor, labels: Tensor) -> Interval:
    """The mean over the classes of the share of hits in each: balanced accuracy, which no common class decides alone.

    The interval is that of Wilson for as many images as would say as much if all counted alike (Kish, "Survey
    Sampling", 1965): an image counts by the rarity of its class.

    Args:
        hits: `(N,)`, boolean or in [0, 1].
        labels: `(N,)`, class indices; classes that do not occur are not counted.
    """
    counts = labels.bincount().double()
    shares = torch.zeros_like(counts).index_add_(0, labels, hits.double()) / counts
    there = counts > 0
    number = int(there.sum())
    effective = number**2 / float((1 / counts[there]).sum())
    return wilson(min(float(shares[there].mean()), 1.0) * effective, effective)


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


@dataclass(frozen=True)
class Resamples:
    """Bootstrap by percentiles, each image resampled by itself.

    A difference depends on an image only through what it counts as (better, worse, the same, not asked), so a resample
    of the images is a multinomial draw of how many there are of each kind: exact, and as cheap for a million images as
    for ten.

    >>> Resamples(2000, seed=0).difference(mine, theirs, "right")
    Interval(value=0.03, low=0.01, high=0.05)

    Args:
        count: how many resamples.
        seed: fixes them.
        level: of the interval, in (0, 1).
    """

    count: int
    seed: int
    level: float = 0.95

    def difference(self, first: Tensor, second: Tensor, name: str, among: Tensor | None = None) -> Interval | None:
        """The share of `first` less the share of `second`, paired: both are about the same images.

        Args:
            first: `(N,)` boolean.
            second: `(N,)` boolean.
            name: of the difference.
            among: `(N,)` boolean; all by default.
        """
        kinds = 1 + first.long() - second.long()
        kinds = kinds if among is None else torch.where(among, kinds, 3)

        def statistic(counts: np.ndarray) -> np.ndarray:
            share: np.ndarray = (counts[:, 2] - counts[:, 0]) / counts[:, :3].sum(axis=1)
            return share

        return self._interval(kinds, 4, name, statistic)

    def _interval(
        self, kinds: Tensor, number: int, name: str, statistic: Callable[[np.ndarray], np.ndarray]
    ) -> Interval | None:
        counts = kinds.bincount(minlength=number).double().numpy()
        with np.errstate(invalid="ignore"):
            value = statistic(counts[None])[0]
            if np.isnan(value):
                return None
            rng = np.random.default_rng(derive(self.seed, "audit", "bootstrap", name))
            drawn = statistic(rng.multinomial(len(kinds), counts / counts.sum(), size=self.count))
        tail, asked = (1 - self.level) / 2, drawn[~np.isnan(drawn)]
        if not len(asked):
            return None
        low, high = np.quantile(asked, [tail, 1 - tail])
        return Interval(float(value), float(low), float(high))
