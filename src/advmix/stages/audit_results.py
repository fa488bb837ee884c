"""An audit's results, and the page that shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from advmix.audit.comparison import WorstCaseKey, as_record
from advmix.audit.doctor.measure import unexplained
from advmix.audit.entries import check_entry, commonest_entry, comparison_entries, part_entries, swap_entries
from advmix.audit.found import Found
from advmix.audit.judge import Bench, Subject
from advmix.audit.resample import Resamples
from advmix.audit.telling import LabelCheck, is_trusted, most_telling
from advmix.classifiers import OpenClassifier
from advmix.clock import Clock
from advmix.config import to_dict
from advmix.data.sources import broken_of
from advmix.files import atomic_write, write_json
from advmix.report.audit_page import render_audit
from advmix.results import RESULTS, header
from advmix.stages.audit_case import Batches, Case
from advmix.stages.audit_config import AuditConfig
from advmix.stages.audit_pictures import Pictures
from advmix.stages.audit_reference import Voter
from advmix.training.methods import SearchOptions

REPORT = "report.html"
UNEXPLAINED_IMAGES = 1000
Entry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Made:
    """All that took part in an audit; `options` are the search's as it was run."""

    config: AuditConfig
    case: Case
    bench: Bench
    options: SearchOptions
    opened: Sequence[OpenClassifier]
    subjects: Sequence[Subject]
    voter: Voter

    @cached_property
    def pool(self) -> str:
        """Fingerprint of the pool."""
        return self.bench.pool.fingerprint

    @property
    def drawn(self) -> str:
        """How many images draw their donors together."""
        return f"drawn for {self.bench.batch_size(self.subjects)} images of {self.config.chunk} at once"

    def metadata(self) -> Entry:
        """What `found.safetensors` says of itself: plain JSON values."""
        data, split = self.case.data, self.bench.search.split
        classifiers = [
            {"name": one.name, "fingerprint": one.fingerprint, "options": to_dict(named), "side": subject.side}
            for one, named, subject in zip(self.opened, self.config.subjects, self.subjects, strict=True)
        ]
        values = {
            "data": to_dict(data.config),
            "data_seed": data.seed,
            "images": data.test.fingerprint,
            "generator": str(self.config.generator or self.config.out / "generator"),
            "latents": str(self.config.latents or self.config.out / "latents"),
            "generator_fingerprint": self.case.metadata["fingerprint"],
            "pool": self.pool,
            "encoder": self.case.store.index["encoder"],
            "split": {"layers": split.layers, "perp": split.perp, "grid": split.grid},
            "swaps": [swap.to_dict() for swap in self.bench.swaps],
            "search": to_dict(self.options),
            "residual": self.config.residual,
            "seed": self.config.seed,
            "classes": data.test.classes,
            "groups": self.case.groups,
            "reference": self.voter.to_dict(),
            "classifiers": classifiers,
        }
        plain: Entry = json.loads(json.dumps(values))
        return plain


def write_audit(made: Made, images: Batches, found: Found, clock: Clock) -> None:
    """The page, then the results: where these are, all is done."""
    pictures = Pictures(made.bench, made.subjects, images, found)
    with clock("report"):
        results = _results(made, pictures, found)
        galleries = [
            pictures.gallery(number, entry["telling"], entry["label_lost"])
            for number, entry in enumerate(results["classifiers"])
        ]
    results["phases"] = clock.seconds
    atomic_write(made.config.out / REPORT, render_audit(results, galleries).encode())
    write_json(made.config.out / RESULTS, results)


def _results(made: Made, pictures: Pictures, found: Found) -> Entry:
    resamples = Resamples(made.config.resamples, made.config.seed)
    names = [one.name for one in made.opened]
    votes = LabelCheck(found.asked, found.judged[0]).votes
    return {
        **header("audit", made.config),
        "images": len(found),
        "data": made.case.data.config.data,
        "broken": [image.to_dict() for image in broken_of(made.case.data)],
        "generator": _generator_entry(made, found),
        "search": to_dict(made.options),
        "residual": made.config.residual,
        "reference": {**made.voter.to_dict(), "right": _mean(votes), "trusted": is_trusted(found)},
        "classifiers": [_classifier_entry(made, pictures, found, number, resamples) for number in range(len(names))],
        "comparison": comparison_entries(found, names, resamples),
    }


def _generator_entry(made: Made, found: Found) -> Entry:
    metadata, network = made.case.metadata, made.case.model.config
    known = {key: metadata.get(key) for key in ("fingerprint", "fit_seconds", "reconstruction_mse")}
    return {
        **known,
        "fitted_here": made.config.generator is None,
        "resolution": network.resolution,
        "layers": network.layers,
        "unexplained": _unexplained(made.case, found),
        "fitted_on_audited": made.case.fitted_on(found.asked.rows),
    }


def _unexplained(case: Case, found: Found) -> float | None:
    """The share of the images' variance that reconstructions miss, on the first of them."""
    some = slice(0, UNEXPLAINED_IMAGES)
    latents = found.asked.latents[some].to(case.pool.styles.device)
    return unexplained(case.model.generator, latents, case.data.test[found.asked.rows[some]])


def _classifier_entry(made: Made, pictures: Pictures, found: Found, number: int, resamples: Resamples) -> Entry:
    opened, subject, judged = made.opened[number], made.subjects[number], found.judged[number]
    check, count, trusted = LabelCheck(found.asked, judged), made.config.pictures, is_trusted(found)
    kept, lost = (check.kept, check.lost) if trusted else (check.flipped, check.flipped & False)
    key = WorstCaseKey(
        generator=made.case.metadata["fingerprint"],
        pool=made.pool,
        search=f"{made.options}, residual {made.config.residual}, seed {made.config.seed}, {made.drawn}",
        images=f"{made.case.data.test.fingerprint}, {len(found)} of seed {made.config.seed}",
    )
    return {
        "name": opened.name,
        "method": opened.method,
        "fingerprint": opened.fingerprint,
        "differentiable": opened.differentiable,
        "vanished": int(judged.vanished.sum()),
        "unanswered": int(judged.unanswered.sum()),
        "side": subject.side,
        "key": as_record(key),
        "commonest": commonest_entry(found, judged),
        "parts": part_entries(found, judged, resamples),
        "swaps": swap_entries(found, judged, resamples),
        "label_check": check_entry(found.asked, judged),
        "telling": pictures.entries(number, most_telling(found.asked, judged, kept, count)),
        "label_lost": pictures.entries(number, most_telling(found.asked, judged, lost, count)),
    }


def _mean(mask: Any) -> float:
    return float(mask.double().mean())
