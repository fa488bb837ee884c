"""What `advmix adapt` measured, and the files that hold it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from advmix.adapt.inputs import AdaptInputs
from advmix.adapt.settings import AdaptConfig
from advmix.adapt.words import adapt_sentences
from advmix.classifiers.open import OpenClassifier
from advmix.classifiers.save import check_saved, save_classifier
from advmix.report.tables import header
from advmix.utils.files import atomic_write

ADAPTED, REPORT = "classifier", "report.html"

Entry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class TriedClassifier:
    """A classifier that may be kept.

    Attributes:
        name: `none`, `normalisation`, `styles` or `both`.
        network: images to logits.
        core: the module within, whose weights a file holds.
    """

    name: str
    network: nn.Module
    core: nn.Module

    @staticmethod
    def of(opened: OpenClassifier) -> TriedClassifier:
        """The classifier as it is: a copy."""
        network, core = copy.deepcopy((opened.network, opened.core))
        return TriedClassifier("none", network, core or network)

    def copied(self, name: str) -> TriedClassifier:
        """The same weights under another name."""
        network, core = copy.deepcopy((self.network, self.core))
        return TriedClassifier(name, network, core)


@dataclass(frozen=True, eq=False, repr=False)
class AdaptResult:
    """What came of it.

    Attributes:
        results: all numbers, as in `results.json`.
        folder: where they lie, with page and classifier.
    """

    results: Entry
    folder: Path

    @property
    def classifier(self) -> Path | None:
        """What `--classifier` and `open_classifier` take; None where nothing could be trained, or the classifier was in
        memory: then its weights are in `classifier/weights.safetensors`.
        """
        named = self.results["adapted"]
        return None if named is None else self.folder / named

    def to_html(self, path: str | Path | None = None) -> str:
        """The page, which needs no other file; written to `path`, too, where one is named."""
        page = (self.folder / REPORT).read_bytes()
        if path is not None:
            atomic_write(Path(path), page)
        return page.decode()

    def __str__(self) -> str:
        return "\n".join(adapt_sentences(self.results))


def results_of(
    config: AdaptConfig,
    inputs: AdaptInputs,
    entries: list[Entry],
    chosen: int,
    left_out: Mapping[str, str],
    adapted: str | None,
) -> Entry:
    """All numbers.

    Args:
        config: the settings.
        inputs: what took part.
        entries: of the candidates.
        chosen: the one that is kept.
        left_out: why the others are not there, by name.
        adapted: where the kept one lies, below the folder.
    """
    home, site, metadata = inputs.home, inputs.site, inputs.model.metadata
    truth = site.labelled
    return {
        **header("adapt", config),
        "classifier": {
            "name": inputs.opened.name,
            "method": inputs.opened.method,
            "fingerprint": inputs.opened.fingerprint,
        },
        "data": home.data.config.data,
        "site": config.site.new_site,
        "classes": list(home.train.classes),
        "images": {
            "train": len(home.train),
            "validation": len(home.validation),
            "test": len(home.test),
            "site": len(site.images),
            "truth": 0 if truth is None else len(truth),
        },
        "own_validation": home.own_validation,
        "generator": {"name": str(config.generator), "fingerprint": metadata["fingerprint"]},
        "candidates": entries,
        "left_out": dict(left_out),
        "chosen": entries[chosen]["name"],
        "adapted": adapted,
    }


def write_classifier(config: AdaptConfig, inputs: AdaptInputs, chosen: TriedClassifier) -> str | None:
    """The classifier that is kept; where it lies, below the folder."""
    about = {"adapted": {"how": chosen.name, "site": inputs.site.images.fingerprint, "seed": config.seed}}
    path = save_classifier(config.out / ADAPTED, inputs.opened, chosen.core, about)
    if path is None:
        return None
    check_saved(path, inputs.opened, chosen.network.cpu(), inputs.home.test.batch(slice(0, 8))[0])
    return str(path.relative_to(config.out))
