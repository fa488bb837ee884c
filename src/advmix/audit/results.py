"""What comes out of an audit: results.json, pictures, page, and `AuditResult` for Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advmix.audit.inputs import AuditImages, AuditInputs
from advmix.audit.measure import AuditedClassifier, AuditSetup
from advmix.audit.page import Gallery, ImagePair, render_audit
from advmix.audit.records import AuditRecords
from advmix.audit.settings import AuditConfig
from advmix.audit.statistics import (
    LabelCheck,
    check_entry,
    commonest_entry,
    comparison_entries,
    is_trusted,
    part_entries,
    probability_drop,
    strongest_failures,
    swap_entries,
)
from advmix.audit.words import audit_sentences, audit_tables
from advmix.data.datasets import broken_of
from advmix.intervals import Resamples
from advmix.latents import Latents
from advmix.metrics import unexplained
from advmix.mixing import SearchOptions
from advmix.report.tables import RESULTS, as_text, header
from advmix.training.reference import ReferenceClassifier
from advmix.utils.config import to_dict
from advmix.utils.files import atomic_write, copy_folder, write_json
from advmix.utils.progress import PhaseTimer
from advmix.utils.torch_tools import eval_mode

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class WorstCaseKey:
    """The circumstances of a worst-case number.

    Attributes:
        generator: fingerprint of the generator that drew the variations.
        pool: fingerprint of the latents that were borrowed.
        search: settings of the search and seed of its donors, in words.
        images: fingerprint of the test images.
    """

    generator: str
    pool: str
    search: str
    images: str


def as_record(key: WorstCaseKey) -> dict[str, str]:
    """As it goes into `results.json`."""
    return asdict(key)


class Pictures:
    """Draws single images of an audit, and what the search or a swap made of them.

    Args:
        bench: what the images were mixed with.
        subjects: the classifiers.
        images: reads the test images.
        found: what was found.
    """

    def __init__(
        self, bench: AuditSetup, subjects: Sequence[AuditedClassifier], images: AuditImages, found: AuditRecords
    ) -> None:
        self.bench, self.subjects, self.images, self.found = bench, subjects, images, found

    def entries(self, number: int, places: Sequence[int]) -> list[dict[str, Any]]:
        """What is said of the images at `places`, for classifier `number`: name, label, answers, probabilities."""
        asked, judged = self.found.asked, self.found.judged[number]
        names = self.images.case.names(asked.rows[list(places)])
        donors = self._donor_names(judged.donors[list(places)])
        falls = probability_drop(asked, judged)
        return [
            {
                "place": place,
                "name": name,
                "donor": donor,
                "label": self._class(asked.labels[place]),
                "before": self._answer(judged.before[place]),
                "after": self._answer(judged.after[place]),
                "change": float(judged.change[place]),
                "swing": float(falls[place]),
            }
            for place, name, donor in zip(places, names, donors, strict=True)
        ]

    def gallery(self, number: int, telling: Sequence[dict[str, Any]], lost: Sequence[dict[str, Any]]) -> Gallery:
        """All pictures of one classifier."""
        shown = Gallery([], [], {})
        for entries, pairs in ((telling, shown.telling), (lost, shown.label_lost)):
            for entry in entries:
                pairs.append(self._shot(number, entry))
        for unit, swap in enumerate(self.found.metadata["swaps"]):
            shown.swaps[swap["name"]] = self._example(number, unit)
        return shown

    def _donor_names(self, donors: Tensor) -> list[str]:
        """Of pool members; numbers, where the pool is of other images than the audited data set's."""
        data = self.images.case.data
        same = data.train.fingerprint == self.images.case.fitted.store.index["images"]
        photos = getattr(data, "photos", None) if same else None
        return [f"pool image {donor}" if photos is None else photos.train.names[donor] for donor in donors.tolist()]

    def _class(self, label: Tensor) -> str:
        return str(self.found.metadata["classes"][int(label)])

    def _answer(self, probabilities: Tensor) -> dict[str, Any]:
        return {"answer": self._class(probabilities.argmax()), "probability": float(probabilities.max())}

    def _shot(self, number: int, entry: dict[str, Any]) -> ImagePair:
        """One image and the mix that was found."""
        begun = self._begun(number, entry["place"])
        perp = self.found.judged[number].perp[entry["place"]][None]
        after = self._decode(self.found.split.with_perp(begun, perp.to(begun.styles)))
        return ImagePair(self._decode(begun), after)

    def _example(self, number: int, unit: int) -> ImagePair:
        """Of the answers that a swap flips, the one with the typical change; of all images where it flips none."""
        asked, judged = self.found.asked, self.found.judged[number]
        flipped = judged.right_clean & (judged.swap_answers[:, unit] != asked.labels)
        among = flipped if flipped.any() else torch.ones_like(flipped)
        change = asked.swap_change[:, unit].masked_fill(~among, torch.nan)
        place = int((change - change.nanmedian()).abs().nan_to_num(torch.inf).argmin())
        swap = self.bench.swaps[unit]
        begun = self._begun(number, place)
        donor = self.bench.pool[asked.swap_donors[place][None].to(begun.styles.device)]
        return ImagePair(self._decode(begun), self._decode(swap.split.combine(begun, donor)))

    def _begun(self, number: int, place: int) -> Latents:
        """What the image's mixes began with."""
        device = self.bench.pool.styles.device
        latents = self.found.asked.latents[place : place + 1].to(device)
        if not self.found.metadata["residual"]:
            return latents
        shown = self.images.pixels(self.found.asked.rows[place][None], self.subjects[number].side)
        return self.bench.generator.complete(latents, shown.to(device))

    @torch.no_grad()
    def _decode(self, latents: Latents) -> Tensor:
        with eval_mode(self.bench.generator) as (dec,):
            image: Tensor = dec(latents)[0].cpu()
        return image


REPORT = "report.html"

GENERATOR = "generator"

"""Where an audit keeps a generator of its own."""

UNEXPLAINED_IMAGES = 1000

Entry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class AuditRun:
    """All that took part in an audit; `options` are the search's as it was run."""

    config: AuditConfig
    case: AuditInputs
    bench: AuditSetup
    options: SearchOptions
    subjects: Sequence[AuditedClassifier]
    voter: ReferenceClassifier

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
        data, split = self.case.data, self.bench.mixer.split
        classifiers = [
            {"name": one.name, "fingerprint": one.fingerprint, "options": to_dict(named), "side": subject.side}
            for one, named, subject in zip(self.case.classifiers, self.config.subjects, self.subjects, strict=True)
        ]
        values = {
            "data": to_dict(data.config),
            "data_seed": data.seed,
            "images": data.test.fingerprint,
            "generator": None if self.config.generator is None else str(self.config.generator),
            "latents": None if self.config.latents is None else str(self.config.latents),
            "generator_fingerprint": self.case.fitted.metadata["fingerprint"],
            "pool": self.pool,
            "encoder": self.case.fitted.store.index["encoder"],
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


def write_audit(made: AuditRun, images: AuditImages, found: AuditRecords, clock: PhaseTimer) -> None:
    """The page, then the results: where these are, all is done."""
    pictures = Pictures(made.bench, made.subjects, images, found)
    with clock("report"):
        results = _results(made, pictures, found)
        shown = galleries(pictures, results)
    results["phases"] = clock.seconds
    atomic_write(made.config.out / REPORT, render_audit(results, shown).encode())
    write_json(made.config.out / RESULTS, results)


def galleries(pictures: Pictures, results: Entry) -> list[Gallery]:
    """The pictures of every classifier."""
    found = []
    for number, entry in enumerate(results["classifiers"]):
        found.append(pictures.gallery(number, entry["telling"], entry["label_lost"]))
    return found


@dataclass(frozen=True, eq=False, repr=False)
class AuditResult:
    """What an audit found.

    >>> result.table()                      # a pandas frame: accuracies of all images, each class, each group
    >>> result.pictures()[0].after          # the mix that tells most, (C, H, W) in [0, 1]
    >>> result.to_html("report.html"), result.save("runs/audit")

    In a notebook it shows itself; `print(result)` says the same in a terminal.

    Attributes:
        results: all numbers, as in `results.json`.
        folder: where they lie with records and page.
        draw: makes the pictures.
    """

    results: Entry
    folder: Path
    draw: Callable[[], list[Gallery]]

    @cached_property
    def records(self) -> AuditRecords:
        """What was found, image by image."""
        return AuditRecords.load(self.folder)

    @cached_property
    def _galleries(self) -> list[Gallery]:
        return self.draw()

    def table(self) -> pandas.DataFrame:
        """A row for each classifier and each part of its images: all, each class, each group, each class in a group.

        Columns: `classifier`, `kind`, `name`, `images`; then each accuracy in [0, 1] with the ends of its 95 %
        interval, `accuracy_worst_case`, `accuracy_worst_case_low`, `accuracy_worst_case_high`, and so on; NaN where
        nothing was counted.
        """
        import pandas

        entries = self.results["classifiers"]
        rows = [{"classifier": entry["name"], **_flat(part)} for entry in entries for part in entry["parts"]]
        return pandas.DataFrame(rows)

    def pictures(self, kind: str = "telling", classifier: int = 0) -> list[ImagePair]:
        """Images with the mixes that were found for them.

        Args:
            kind: `telling`, those that tell most, or `label_lost`, those where the reference sees another class too.
            classifier: which one, counted from 0.

        Raises:
            ValueError: another kind.
        """
        if kind not in ("telling", "label_lost"):
            raise ValueError(f"kind {kind!r}: unknown; use telling or label_lost")
        found: list[ImagePair] = list(getattr(self._galleries[classifier], kind))
        return found

    def to_html(self, path: str | Path | None = None) -> str:
        """The page, which needs no other file; written to `path`, too, where one is named."""
        page = (self.folder / REPORT).read_bytes()
        if path is not None:
            atomic_write(Path(path), page)
        return page.decode()

    def save(self, folder: str | Path) -> None:
        """Copy everything into a new folder, which `advmix export --audit` and `advmix doctor` read.

        Raises:
            UserError: there is something in it already.
        """
        copy_folder(self.folder, folder)

    def __repr__(self) -> str:
        names = [entry["name"] for entry in self.results["classifiers"]]
        return f"AuditResult({self.results['images']:,} images, {', '.join(names)}; in {self.folder})"

    def __str__(self) -> str:
        return as_text([*audit_tables(self.results), *audit_sentences(self.results)])

    def _repr_html_(self) -> str:
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in audit_sentences(self.results))
        shown = self.table().round(3).to_html(index=False, border=0, na_rep="–")
        return f"<ul>{said}</ul>{shown}"


def _flat(part: Entry) -> Entry:
    """A row of a table: a share becomes three numbers."""
    flat: Entry = {}
    for key, value in part.items():
        if isinstance(value, Mapping):
            flat |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        else:
            flat[key] = float("nan") if value is None else value
    return flat


def _results(made: AuditRun, pictures: Pictures, found: AuditRecords) -> Entry:
    resamples = Resamples(made.config.resamples, made.config.seed)
    names = [one.name for one in made.case.classifiers]
    votes = LabelCheck(found.asked, found.judged[0]).votes
    return {
        **header("audit", made.config),
        "images": len(found),
        "data": made.case.data.config.data,
        "broken": [image.to_dict() for image in broken_of(made.case.data)],
        "generator": _generator_entry(made, found),
        "search": to_dict(made.options),
        "residual": made.config.residual,
        "reference": {**made.voter.to_dict(), "accuracy": _mean(votes), "trusted": is_trusted(found)},
        "classifiers": [_classifier_entry(made, pictures, found, number) for number in range(len(names))],
        "comparison": comparison_entries(found, names, resamples),
    }


def _generator_entry(made: AuditRun, found: AuditRecords) -> Entry:
    metadata, network = made.case.fitted.metadata, made.case.fitted.model.config
    known = {key: metadata.get(key) for key in ("fingerprint", "fit_seconds", "reconstruction_mse")}
    return {
        **known,
        "fitted_here": made.config.generator is None,
        "resolution": network.resolution,
        "layers": network.layers,
        "unexplained": _unexplained(made.case, found),
        "fitted_on_audited": made.case.fitted_on(found.asked.rows),
    }


def _unexplained(case: AuditInputs, found: AuditRecords) -> float | None:
    """The share of the images' variance that reconstructions miss, on the first of them."""
    some = slice(0, UNEXPLAINED_IMAGES)
    latents = found.asked.latents[some].to(case.fitted.pool.styles.device)
    return unexplained(case.fitted.generator, latents, case.data.test[found.asked.rows[some]])


def _classifier_entry(made: AuditRun, pictures: Pictures, found: AuditRecords, number: int) -> Entry:
    opened, subject, judged = made.case.classifiers[number], made.subjects[number], found.judged[number]
    check, count, trusted = LabelCheck(found.asked, judged), made.config.pictures, is_trusted(found)
    kept, lost = (check.kept, check.lost) if trusted else (check.flipped, check.flipped & False)
    key = WorstCaseKey(
        generator=made.case.fitted.metadata["fingerprint"],
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
        "parts": part_entries(found, judged),
        "swaps": swap_entries(found, judged),
        "label_check": check_entry(found.asked, judged),
        "telling": pictures.entries(number, strongest_failures(found.asked, judged, kept, count)),
        "label_lost": pictures.entries(number, strongest_failures(found.asked, judged, lost, count)),
    }


def _mean(mask: Any) -> float:
    return float(mask.double().mean())
