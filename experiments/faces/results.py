"""How well a score ranks, whatever the threshold: what is left to ask where a shift has moved all scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advmix.data.images import ImageSet
from advmix.intervals import GroupBootstrap, Interval
from advmix.utils.torch_tools import generator
from experiments.controls import REFIT
from experiments.faces.dataset import Faces
from experiments.faces.evaluate import Judge
from experiments.faces.settings import DECODED, FILTERED, base_of


def roc_auc(scores: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Area under the ROC curve: how often a positive scores higher than a negative, a tie counting half.

    Args:
        scores: `(N,)`.
        positive: `(N,)` booleans.
        weights: `(R, N)`, how often each image counts.

    Returns:
        `(R,)` in [0, 1]; nan where one of the two kinds has no weight.
    """
    values, rank = scores.unique(return_inverse=True)
    mass = [
        torch.zeros(len(weights), len(values), dtype=torch.float64).index_add_(1, rank, weights.double() * which)
        for which in (positive, ~positive)
    ]
    higher, lower = mass
    below = lower.cumsum(dim=1) - lower / 2
    return (higher * below).sum(dim=1) / (higher.sum(dim=1) * lower.sum(dim=1))


def auc_interval(scores: Tensor, positive: Tensor, boot: GroupBootstrap) -> Interval:
    """The area with its 95 % bootstrap interval; resamples without one of the two kinds do not count."""
    value = float(roc_auc(scores, positive, torch.ones(1, len(scores))))
    found = roc_auc(scores, positive, boot.weights[:, boot.groups])
    low, high = found.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)


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


Found = dict[str, Tensor]

Everything = dict[str, list[tuple[Found, dict[str, Any]]]]

"""Of each method, seed by seed: what was found, and the facts about it."""

SEARCHED = {"accuracy_mixed": "right_mixed", "accuracy_worst_case": "right_worst"}

"""What is known of the searched images alone, by its key in `results.json`."""


@dataclass(frozen=True, eq=False)
class Measure:
    """What all methods are measured by, so that their intervals are paired.

    Args:
        metrics: by their key.
        boot: of the persons.
        labels: `(N,)`, of the judged images.
        searched: of the persons on the searched images.
        groups: `(N,)` of a stress test, and their names.
    """

    metrics: dict[str, Metric]
    boot: GroupBootstrap
    labels: Tensor
    searched: GroupBootstrap
    groups: tuple[Tensor, tuple[str, ...]] | None = None

    @classmethod
    def of(cls, faces: Faces, searched: Tensor, resamples: int) -> Measure:
        """For the judged images, and those places `searched` among them, with intervals over persons."""
        boot, some = (
            GroupBootstrap.draw(persons, resamples, generator(0, "celeba", "bootstrap"))
            for persons in (faces.persons, faces.persons[searched])
        )
        groups = None if faces.groups is None else (faces.groups, faces.group_names)
        return cls(metrics(faces), boot, faces.judged.labels, some, groups)

    @classmethod
    def of_also(cls, images: ImageSet, resamples: int) -> Measure:
        """For another source, with intervals over images: nothing is known of the persons."""
        faces = Faces(images, images, images, torch.arange(len(images)))
        boot = GroupBootstrap.draw(faces.persons, resamples, generator(0, "celeba", "bootstrap"))
        return cls(metrics(faces), boot, images.labels, boot)

    def errors(self, found: Sequence[Found], nominal: Sequence[Found]) -> dict[str, Any]:
        """Every metric with its interval, and the same relative to nominal training."""
        wrong, base = mean_wrong(found), mean_wrong(nominal)
        row: dict[str, Any] = {"error_by_seed": [1 - share(tensors["right"]) for tensors in found]}
        for key, metric in self.metrics.items():
            row[key] = metric.interval(wrong, self.boot).to_dict()
            row[key.replace("error", "change")] = metric.change(wrong, base, self.boot)
        if self.groups is not None:
            row["group_errors"] = group_errors(wrong, *self.groups, self.boot)
        return row | {"roc_auc": self._auc(found)}

    def of_search(self, found: Sequence[Found]) -> dict[str, Any]:
        """Accuracies on the searched images, mixed at random and in the worst case, with their intervals."""
        means = {key: mean_of(found, name) for key, name in SEARCHED.items()}
        return {key: self.searched.interval(mean).to_dict() for key, mean in means.items()}

    def difference(self, first: Sequence[Found], second: Sequence[Found]) -> dict[str, Any]:
        """Error (in a stress test also that of the worst group) and accuracies of `first` less those of `second`,
        paired.
        """
        wrong, base = mean_wrong(first), mean_wrong(second)
        errors = {
            key: metric.difference(wrong, base, self.boot)
            for key, metric in self.metrics.items()
            if key in ("error", "worst_group_error")
        }
        right = {
            key: self.searched.interval(mean_of(first, name) - mean_of(second, name)).to_dict()
            for key, name in SEARCHED.items()
        }
        return errors | right

    def _auc(self, found: Sequence[Found]) -> dict[str, float] | None:
        """Of the probability of the second class, averaged over the seeds; None where there are more than two."""
        scores = torch.stack([tensors["probabilities"] for tensors in found]).mean(dim=0)
        if scores.shape[1] != 2:
            return None
        return auc_interval(scores[:, 1], self.labels == 1, self.boot).to_dict()


def mean_wrong(found: Sequence[Found]) -> Tensor:
    """Share of the seeds in which each image is wrong, `(N,)`."""
    return 1 - mean_of(found, "right")


def mean_of(found: Sequence[Found], name: str) -> Tensor:
    """Share of the seeds in which something is true of each image, `(N,)`."""
    return torch.stack([tensors[name].double() for tensors in found]).mean(0)


def share(right: Tensor) -> float:
    """Of a boolean vector."""
    return float(right.double().mean())


def tensors_of(found: Everything, method: str) -> list[Found]:
    """What was found of a method, seed by seed."""
    return [tensors for tensors, _ in found[method]]


def method_rows(found: Everything, judges: Sequence[Judge], measure: Measure) -> list[dict[str, Any]]:
    """A row for each method: errors of every seed, intervals over persons of their means, what the search did."""
    tensors = {method: tensors_of(found, method) for method in found}
    return [
        {
            "method": method,
            **measure.errors(tensors[method], tensors["nominal"]),
            **measure.of_search(tensors[method]),
            "accuracy_mixed_by_seed": [share(row["right_mixed"]) for row in tensors[method]],
            "accuracy_worst_case_by_seed": [share(row["right_worst"]) for row in tensors[method]],
            "worst_case_images": len(tensors[method][0]["searched"]),
            "train_seconds": [facts["train_seconds"] for _, facts in rows],
            "encode_seconds": [facts["encode_seconds"] for _, facts in rows],
            "generator_seconds": [judge.bench.generator_seconds(method) for judge in judges],
        }
        for method, rows in found.items()
    ]


AGAINST = ("randmix", "nominal-long", "randmix-long", "jitter", "augmix", "advmix-small")

"""What AdvMix is compared with, besides nominal training."""


def pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared: every method with nominal training; AdvMix with chance, what takes as long, what is cheaper
    and fewer images; filtering, leaving out the residual and refitting with what they change; AdvMix and whatever is
    refitted with the cheap control of a stress test, nominal features refitted.
    """
    wanted = [(method, "nominal") for method in methods if method != "nominal"]
    wanted += [("advmix", other) for other in AGAINST]
    wanted += [(changed, "advmix") for changed in (FILTERED, DECODED)]
    refitted, cheap = [method for method in methods if base_of(method) != method], f"nominal{REFIT}"
    wanted += [(method, base_of(method)) for method in refitted]
    wanted += [(method, cheap) for method in ("advmix", *refitted) if method != cheap]
    return [pair for pair in dict.fromkeys(wanted) if set(pair) <= set(methods)]


def comparisons(found: Everything, measure: Measure) -> list[dict[str, Any]]:
    """Differences of two methods, with intervals over persons."""
    return [
        {
            "first": first,
            "second": second,
            **measure.difference(tensors_of(found, first), tensors_of(found, second)),
        }
        for first, second in pairs(list(found))
    ]


def also_rows(
    methods: Sequence[str], judges: Sequence[Judge], images: ImageSet, resamples: int
) -> list[dict[str, Any]]:
    """The same of another source, where nothing is searched."""
    measure = Measure.of_also(images, resamples)
    found = {method: [judge.found_also(method) for judge in judges] for method in methods}
    return [{"method": method, **measure.errors(found[method], found["nominal"])} for method in methods]
