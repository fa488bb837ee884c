"""Which kind of light an image was taken in, found without being told."""

from __future__ import annotations

import torch
from torch import Tensor

from advmix.data.images import ImageSet, slices
from advmix.generators.image_statistics import take_moments


class Lights:
    """Kinds of light among images: clusters of k-means among the standardised means and deviations of their channels.

    >>> lights = Lights(train, seed=0)
    >>> GroupDRO(train, lights.groups(train)), lights.groups(held_out)     # class x kind of light

    Args:
        images: among which they are found.
        kinds: how many.
        seed: of the clusters.
    """

    def __init__(self, images: ImageSet, kinds: int = 4, seed: int = 0) -> None:
        from sklearn.cluster import KMeans

        styles = _styles(images)
        self.mean, self.spread = styles.mean(dim=0), styles.std(dim=0).clamp_min(1e-6)
        self.clusters = KMeans(kinds, n_init=10, random_state=seed).fit(self._standardised(styles).numpy())

    def _standardised(self, styles: Tensor) -> Tensor:
        return (styles - self.mean) / self.spread

    def kinds(self, images: ImageSet) -> Tensor:
        """The kind of light of each image, `(N,)`: 0 and up."""
        found = self.clusters.predict(self._standardised(_styles(images)).numpy())
        return torch.from_numpy(found).long()

    def groups(self, images: ImageSet) -> Tensor:
        """A number for each class in each kind of light, `(N,)`; not all of them need occur."""
        groups: Tensor = images.labels * self.clusters.n_clusters + self.kinds(images)
        return groups


def _styles(images: ImageSet) -> Tensor:
    """Means and log deviations, `(N, 2 * C)`, float64."""
    parts = [take_moments(images.batch(rows)[0])[0].flatten(1) for rows in slices(len(images), 250)]
    return torch.cat(parts).double()
