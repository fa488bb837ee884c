"""Bootstrap intervals of shares and of their differences, at any number of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from advmix.audit.bootstrap import Interval
from advmix.seeds import derive


@dataclass(frozen=True)
class Resamples:
    """Bootstrap by percentiles, each image resampled by itself.

    A share depends on an image only through what it counts as (yes, no, not asked), so a resample of the images is a
    multinomial draw of how many there are of each kind: exact, and as cheap for a million images as for ten.

    >>> Resamples(2000, seed=0).share(right, "all")
    Interval(value=0.91, low=0.89, high=0.93)

    Args:
        count: how many resamples.
        seed: fixes them.
        level: of the interval, in (0, 1).
    """

    count: int
    seed: int
    level: float = 0.95

    def share(self, hits: Tensor, name: str, among: Tensor | None = None) -> Interval | None:
        """The share of `hits`, of those `among` whom it is asked (all by default); None where there are none.

        Args:
            hits: `(N,)` boolean.
            name: of the share; different ones are resampled on their own.
            among: `(N,)` boolean.
        """
        counted = torch.ones_like(hits) if among is None else among
        kinds = torch.where(counted, 1 + (hits & counted).long(), 0)

        def statistic(counts: np.ndarray) -> np.ndarray:
            return np.asarray(counts[:, 2] / (counts[:, 1] + counts[:, 2]))

        return self._interval(kinds, 3, name, statistic)

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
            return np.asarray((counts[:, 2] - counts[:, 0]) / counts[:, :3].sum(axis=1))

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
        tail = (1 - self.level) / 2
        low, high = np.nanquantile(drawn, [tail, 1 - tail])
        return Interval(float(value), float(low), float(high))
