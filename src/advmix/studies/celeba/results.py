"""From what was found about the classifiers to the rows of `results.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advmix.audit.bootstrap import GroupBootstrap
from advmix.audit.ranking import auc_interval
from advmix.data import ImageSet
from advmix.seeds import generator
from advmix.studies.celeba.faces import Faces
from advmix.studies.celeba.judge import Judge
from advmix.studies.celeba.metrics import Metric, group_errors, metrics

Found = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Measure:
    """What all methods are measured by, so that their intervals are paired.

    Args:
        metrics: by their key.
        boot: of the persons.
        labels: `(N,)`, of the judged images.
        groups: `(N,)` of a stress test, and their names.
    """

    metrics: dict[str, Metric]
    boot: GroupBootstrap
    labels: Tensor
    groups: tuple[Tensor, tuple[str, ...]] | None = None

    @classmethod
    def of(cls, faces: Faces, resamples: int, cue: str | None) -> Measure:
        """For the judged images, with intervals over persons."""
        boot = GroupBootstrap.draw(faces.persons, resamples, generator(0, "celeba", "bootstrap"))
        groups = None if faces.groups is None else (faces.groups, group_names(faces.judged.classes, str(cue)))
        return cls(metrics(faces), boot, faces.judged.labels, groups)

    @classmethod
    def of_also(cls, images: ImageSet, resamples: int) -> Measure:
        """For another source, with intervals over images: nothing is known of the persons."""
        faces = Faces(images, images, images, torch.arange(len(images)))
        boot = GroupBootstrap.draw(faces.persons, resamples, generator(0, "celeba", "bootstrap"))
        return cls(metrics(faces), boot, images.labels)

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

    def _auc(self, found: Sequence[Found]) -> dict[str, float] | None:
        """Of the probability of the second class, averaged over the seeds; None where there are more than two."""
        scores = torch.stack([tensors["probabilities"] for tensors in found]).mean(dim=0)
        if scores.shape[1] != 2:
            return None
        return auc_interval(scores[:, 1], self.labels == 1, self.boot).to_dict()


def group_names(classes: Sequence[str], cue: str) -> tuple[str, ...]:
    """Of the four groups of a stress test: `"Smiling, not Male"`."""
    return tuple(f"{name}, {word}{cue}" for name in classes for word in ("not ", ""))


def mean_wrong(found: Sequence[Found]) -> Tensor:
    """Share of the seeds in which each image is wrong, `(N,)`."""
    return torch.stack([(~tensors["right"]).double() for tensors in found]).mean(0)


def share(right: Tensor) -> float:
    """Of a boolean vector."""
    return float(right.double().mean())


def method_rows(methods: Sequence[str], judges: Sequence[Judge], measure: Measure) -> list[dict[str, Any]]:
    """A row for each method: errors of every seed, intervals over persons of their means, what the search did."""
    found = {method: [judge.found(method) for judge in judges] for method in methods}
    tensors = {method: [row for row, _ in rows] for method, rows in found.items()}
    return [
        {
            "method": method,
            **measure.errors(tensors[method], tensors["nominal"]),
            "accuracy_mixed_by_seed": [share(row["right_mixed"]) for row in tensors[method]],
            "accuracy_worst_case_by_seed": [share(row["right_worst"]) for row in tensors[method]],
            "worst_case_images": len(tensors[method][0]["searched"]),
            "train_seconds": [metadata["train_seconds"] for _, metadata in rows],
        }
        for method, rows in found.items()
    ]


def also_rows(
    methods: Sequence[str], judges: Sequence[Judge], images: ImageSet, resamples: int
) -> list[dict[str, Any]]:
    """The same of another source, where nothing is searched."""
    measure = Measure.of_also(images, resamples)
    found = {method: [judge.found_also(method) for judge in judges] for method in methods}
    return [{"method": method, **measure.errors(found[method], found["nominal"])} for method in methods]
