"""What classifiers are worth that are trained with each variant of the photo autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from advmix.studies.celeba.bench import Bench
from advmix.studies.celeba.judge import Judge
from advmix.studies.celeba.results import Measure
from advmix.studies.celeba.variants import BASE

Record = dict[str, Any]
Judges = Mapping[str, Judge]
"""By the variant whose generator their classifiers are trained and judged with."""


def open_judges(bench: Bench, variants: tuple[str, ...], methods: tuple[str, ...]) -> dict[str, Judge]:
    """Of every variant; none where no methods are named."""
    if not methods:
        return {}
    bench = replace(bench, config=replace(bench.config, methods=methods))
    return {name: Judge(bench.of_variant(name)) for name in variants}


def classifier_rows(judges: Judges, resamples: int) -> list[Record]:
    """A row for each method under each variant: errors on all judged images, with the paired change against nominal
    training; accuracies on the searched ones, under the variant's own generator; `less_base`, the error less that of
    the same method under `base`, paired (None without `base`).
    """
    if not judges:
        return []
    first = next(iter(judges.values()))
    measure = Measure.of(first.bench.faces, first.searched(), resamples)
    everything = {
        name: {method: judge.found(method) for method in judge.bench.config.methods} for name, judge in judges.items()
    }
    base = everything.get(BASE)
    return [
        {
            "variant": name,
            "method": method,
            **measure.errors([found], [of_variant["nominal"][0]]),
            **measure.of_search([found]),
            "less_base": None if base is None else measure.difference([found], [base[method][0]])["error"],
            "worst_case_images": len(found["searched"]),
            "train_seconds": facts["train_seconds"],
        }
        for name, of_variant in everything.items()
        for method, (found, facts) in of_variant.items()
    ]
