"""What a few numbers of each image tell by themselves: shortcuts that a classifier of these images may learn.

A logistic regression of an image's style predicts the label, the group and the site of images that it has not seen:
cross-validated, and at other sites than the one that it was fitted on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.data.images import ImageSet, to_bytes, to_float
from advmix.data.photos.load import Photos
from advmix.intervals import Interval, balanced_share
from advmix.utils.memory import in_parts
from advmix.utils.torch_tools import generator

MAX_IMAGES = 2000
"""Of each split, drawn at random."""

MAX_SIDE = 64
"""Pixels to which larger images are shrunk: a style is of the whole image."""

MIN_IMAGES = 10
"""A class, group or site with fewer is not asked for."""

FOLDS = 5

Rule = Callable[[Tensor], Tensor]
"""Features `(N, F)` to probabilities `(N, C)`."""


@dataclass(frozen=True, eq=False)
class ShortcutImages:
    """The images that shortcuts are looked for in: of the split to train on, and of all others where there are sites.

    Attributes:
        images: at most 2,000 of each split, of at most 64 pixels.
        train: `(N,)` boolean, those of the split to train on.
        targets: `label`, and `group` and `site` where there are several: `(N,)` class indices each.
        names: what these are called.
        units: `(N,)`, the same for images that no fold may divide.
    """

    images: ImageSet
    train: Tensor
    targets: Mapping[str, Tensor]
    names: Mapping[str, tuple[str, ...]]
    units: Tensor

    @staticmethod
    def draw(photos: Photos, seed: int, count: int = MAX_IMAGES) -> ShortcutImages:
        """At most `count` images of each split that is needed, by the seed."""
        first = next(iter(photos.splits))
        used = list(photos.splits) if len(photos.sites) > 1 else [first]
        rows = {name: _drawn(len(photos.splits[name]), count, seed, name) for name in used}
        parts = [(photos.splits[name], rows[name]) for name in used]
        names = {"label": photos.classes, "group": photos.groups, "site": photos.sites}
        known = {
            "label": torch.cat([found.images.labels[some] for found, some in parts]),
            "group": torch.cat([found.groups[some] for found, some in parts]),
            "site": torch.cat([found.sites[some] for found, some in parts]),
        }
        pixels = _shrunk(torch.cat([found.images.pixels[some] for found, some in parts]))
        return ShortcutImages(
            ImageSet(pixels, known["label"], photos.classes),
            torch.cat([torch.full((len(rows[name]),), name == first) for name in used]),
            {target: values for target, values in known.items() if len(names[target]) > 1},
            names,
            torch.cat([found.units[some] for found, some in parts]),
        )

    @cached_property
    def home(self) -> int | None:
        """The site with most images to train on; None where there are no others."""
        if "site" not in self.targets:
            return None
        return int(self.targets["site"][self.train].bincount().argmax())

    def among(self, target: str) -> Tensor:
        """The images that a target is predicted of, `(N,)` boolean: those to train on, and for the site all."""
        return torch.ones_like(self.train) if target == "site" else self.train


def _drawn(total: int, count: int, seed: int, split: str) -> Tensor:
    return torch.randperm(total, generator=generator(seed, "shortcuts", split))[:count].sort().values


def _shrunk(pixels: Tensor) -> Tensor:
    if pixels.shape[-1] <= MAX_SIDE:
        return pixels

    def shrink(rows: slice) -> Tensor:
        return to_bytes(F.interpolate(to_float(pixels[rows]), (MAX_SIDE, MAX_SIDE), mode="bilinear", antialias=True))

    return torch.cat(in_parts(shrink, len(pixels), pixels.device))


@dataclass(frozen=True, eq=False)
class Told:
    """What a rule answers for images that it has not seen.

    Attributes:
        rows: `(M,)`, places among the images.
        labels: `(M,)`, the truth.
        probabilities: `(M, C)`.
        classes: how many of the C it was fitted to tell apart.
    """

    rows: Tensor
    labels: Tensor
    probabilities: Tensor
    classes: int

    @property
    def answers(self) -> Tensor:
        """`(M,)`."""
        return self.probabilities.argmax(dim=1)

    @property
    def chance(self) -> float:
        """Balanced accuracy of a rule that knows nothing."""
        return 1 / self.classes

    @property
    def accuracy(self) -> Interval:
        """Balanced accuracy with its 95 % interval."""
        return balanced_share(self.answers == self.labels, self.labels)

    def surest(self, right: bool, count: int, label: int | None = None) -> Tensor:
        """Places among the M of the answers with the highest probability, right or wrong ones, surest first.

        Args:
            right: which.
            count: at most so many.
            label: of images of this class alone.
        """
        among = (self.answers == self.labels) == right
        if label is not None:
            among &= self.labels == label
        order = self.probabilities.max(dim=1).values.argsort(descending=True, stable=True)
        return order[among[order]][:count]


def tell(features: Tensor, images: ShortcutImages, target: str, seed: int, at_home: bool = False) -> Told | None:
    """How well features predict a target, each image by a rule that was fitted on the other folds.

    Args:
        features: `(N, F)`, of all images.
        images: the images.
        target: `label`, `group` or `site`.
        seed: fixes the folds.
        at_home: of images of the home site alone.

    Returns:
        None where fewer than two classes have ten images, or all are of one unit.
    """
    among, labels = images.among(target), images.targets[target]
    if at_home:
        among = among & (images.targets["site"] == images.home)
    rows = _common(labels, among).nonzero()[:, 0]
    found = cross_validate(features[rows], labels[rows], images.units[rows], seed)
    return None if found is None else Told(rows, labels[rows], found, len(labels[rows].unique()))


def tell_elsewhere(features: Tensor, images: ShortcutImages) -> dict[int, Told]:
    """How well a rule for the label that was fitted at the home site is right at each other one; by site. Of classes
    that it knows, and of sites with ten such images.

    Args:
        features: `(N, F)`, of all images.
        images: the images.
    """
    labels, sites = images.targets["label"], images.targets["site"]
    rows = _common(labels, images.train & (sites == images.home)).nonzero()[:, 0]
    known = labels[rows].unique()
    if len(known) < 2:
        return {}
    rule, found = fit_rule(features[rows], labels[rows], len(images.names["label"])), {}
    for site in range(len(images.names["site"])):
        there = ((sites == site) & torch.isin(labels, known)).nonzero()[:, 0]
        if site != images.home and len(there) >= MIN_IMAGES:
            found[site] = Told(there, labels[there], rule(features[there]), len(known))
    return found


def _common(labels: Tensor, among: Tensor) -> Tensor:
    """Those among them whose class has ten images, `(N,)` boolean."""
    counts = labels[among].bincount(minlength=int(labels.max()) + 1)
    return among & (counts[labels] >= MIN_IMAGES)


def cross_validate(features: Tensor, labels: Tensor, units: Tensor, seed: int) -> Tensor | None:
    """Probabilities `(N, C)` of every image by a rule that was fitted without its fold; None where there is nothing to
    tell apart.

    Args:
        features: `(N, F)`.
        labels: `(N,)`; each class that occurs has at least ten.
        units: `(N,)`, the same for images that no fold may divide.
        seed: fixes the folds, of which there are five, with as many of each class as units allow.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    number = len(units.unique())
    if len(labels.unique()) < 2 or number < 2:
        return None
    together = number < len(units)
    kind = StratifiedGroupKFold if together else StratifiedKFold
    folds = kind(min(FOLDS, number), shuffle=True, random_state=seed)
    found = torch.zeros(len(labels), int(labels.max()) + 1, dtype=torch.float64)
    for fitted, left in folds.split(features, labels, units if together else None):
        if len(left):
            found[left] = fit_rule(features[fitted], labels[fitted], found.shape[1])(features[left])
    return found


def fit_rule(features: Tensor, labels: Tensor, classes: int) -> Rule:
    """A logistic regression of standardised features, all classes alike in weight.

    Args:
        features: `(N, F)`.
        labels: `(N,)`.
        classes: C, of which not all need occur; the probability of others is 0.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = labels.unique()
    one_hot = F.one_hot(known, classes).double()
    if len(known) == 1:
        return lambda asked: one_hot.expand(len(asked), -1)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=500, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # then the numbers tell a little more than is found
        model.fit(np.asarray(features.double()), np.asarray(labels))
    return lambda asked: torch.from_numpy(model.predict_proba(np.asarray(asked.double()))) @ one_hot
