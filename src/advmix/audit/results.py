"""What comes out of an audit: results.json, pictures, page, and `AuditResult` for Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from advmix.audit.advice import advise
from advmix.audit.explorer import write_explorer
from advmix.audit.figures import Pictures, galleries
from advmix.audit.inputs import AuditImages, AuditInputs
from advmix.audit.measure import AuditedClassifier, AuditSetup
from advmix.audit.model_card import model_card
from advmix.audit.notebook import notebook_html
from advmix.audit.page import Gallery, PicturePair, render_audit
from advmix.audit.records import AuditRecords
from advmix.audit.settings import AuditConfig
from advmix.audit.statistics import (
    LabelCheck,
    check_entry,
    commonest_entry,
    comparison_entries,
    curve_entries,
    gate_entry,
    is_trusted,
    kind_entries,
    part_entries,
    sheet_places,
    smallest_entry,
    strongest_failures,
    swap_entries,
)
from advmix.audit.thresholds import missed_thresholds, read_thresholds
from advmix.audit.votes import audit_digest, read_votes, with_votes
from advmix.audit.words import audit_sentences, audit_tables
from advmix.change_kinds import corroboration_words
from advmix.data.datasets import broken_of
from advmix.encoders.network import encoded
from advmix.intervals import Resamples
from advmix.metrics import unexplained
from advmix.mixing import SearchOptions
from advmix.report.tables import RESULTS, as_text, columns_of, header, interval_cell
from advmix.training.reference import ReferenceClassifier
from advmix.utils.config import to_dict
from advmix.utils.files import atomic_write, copy_folder, write_json
from advmix.utils.progress import PhaseTimer

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


REPORT = "report.html"

UNEXPLAINED_IMAGES = 1000

Entry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class AuditRun:
    """All that took part in an audit; `options` are the search's as it was run."""

    config: AuditConfig
    inputs: AuditInputs
    setup: AuditSetup
    options: SearchOptions
    classifiers: Sequence[AuditedClassifier]
    reference: ReferenceClassifier

    @cached_property
    def pool(self) -> str:
        """Fingerprint of the pool."""
        return self.setup.pool.fingerprint

    @property
    def drawn(self) -> str:
        """How many images draw their donors together."""
        return f"drawn for {self.setup.drawn_together(self.classifiers)} images of {self.config.chunk} at once"

    def metadata(self) -> Entry:
        """What `found.safetensors` says of itself: plain JSON values."""
        data, split = self.inputs.data, self.setup.mixer.split
        parts = zip(self.inputs.classifiers, self.config.named_classifiers, self.classifiers, strict=True)
        classifiers = [
            {"name": one.name, "fingerprint": one.fingerprint, "options": to_dict(options), "side": shown.side}
            for one, options, shown in parts
        ]
        values = {
            "data": to_dict(data.config),
            "data_seed": data.seed,
            "images": data.test.fingerprint,
            "generator": str(self.config.generator),
            "pool_options": to_dict(self.config.pool),
            "latents": None if self.config.latents is None else str(self.config.latents),
            "generator_fingerprint": self.inputs.fitted.metadata["fingerprint"],
            "pool": self.pool,
            "encoder": self.inputs.fitted.index["encoder"],
            "split": {"layers": split.layers, "perp": split.perp, "grid": split.grid},
            "swaps": [swap.to_dict() for swap in self.setup.swaps],
            "search": to_dict(self.options),
            "residual": self.config.residual,
            "exact": self.setup.generator.exact,
            "drawn": self.setup.searches_drawings,
            "seed": self.config.seed,
            "classes": data.test.classes,
            "groups": self.inputs.groups,
            "sites": self.inputs.sites,
            "reference": self.reference.to_dict(),
            "classifiers": classifiers,
        }
        plain: Entry = json.loads(json.dumps(values))
        return plain


def write_audit(run: AuditRun, images: AuditImages, found: AuditRecords, clock: PhaseTimer) -> None:
    """The page, then the results: where these are, all is done."""
    digest = audit_digest(found)
    if run.config.votes is not None:
        names = [one.name for one in run.inputs.classifiers]
        found = with_votes(found, names, read_votes(run.config.votes), run.config.votes)
    pictures = Pictures(run.setup, run.classifiers, images, found)
    with clock("named changes"):
        named_changes = [pictures.named_changes(number) for number in range(len(run.classifiers))]
    with clock("report"):
        results = _results(run, pictures, found, named_changes) | {"digest": digest}
        for entry in results["classifiers"]:
            entry["advice"] = [advice.to_dict() for advice in advise(entry, results, run.inputs.data.config)]
        shown = galleries(pictures, results)
    if run.config.explore:
        with clock("explore"):
            write_explorer(run.config.out, pictures, results)
    results["phases"] = clock.seconds
    atomic_write(run.config.out / REPORT, render_audit(results, shown).encode())
    write_json(run.config.out / RESULTS, results)


@dataclass(frozen=True, eq=False, repr=False)
class AuditResult:
    """What an audit found.

    >>> result.table()                      # a pandas frame: accuracies of all images, each class, each group
    >>> before, after = result.pictures()[0]          # the strongest failure, (H, W, C) in [0, 1]
    >>> result.to_html("report.html"), result.save("runs/audit")

    In a notebook it shows itself; `print(result)` says the same in a terminal.

    Attributes:
        results: all numbers, as in `results.json`.
        folder: where they lie with records and page.
        draw: makes the pictures.
        inputs: what it was made of.
    """

    results: Entry
    folder: Path
    draw: Callable[[], list[Gallery]]
    inputs: Callable[[], AuditInputs]

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

    def below(self, thresholds: str) -> list[str]:
        """What is missed of `worst_case=0.6, worst_group=0.5`, a line for each: the lower end of the 95 % interval
        counts. Nothing where all held.

        >>> assert not result.below("worst_case=0.6, random_mix=0.9")

        Raises:
            UserError: an unknown name, or a figure that was not measured.
        """
        return missed_thresholds(read_thresholds(thresholds), self.results)

    def pictures(self, kind: str = "strongest", classifier: int = 0) -> list[PicturePair]:
        """Images with the mixes that were found for them, as arrays.

        Args:
            kind: `strongest` failures, or `label_lost`, those where the reference sees another class too.
            classifier: which one, counted from 0.

        Raises:
            ValueError: another kind.
        """
        if kind not in ("strongest", "label_lost"):
            raise ValueError(f"kind {kind!r}: unknown; use strongest or label_lost")
        return [pair.arrays() for pair in getattr(self._galleries[classifier], kind)]

    def to_html(self, path: str | Path | None = None) -> str:
        """The page, which needs no other file; written to `path`, too, where one is named."""
        page = (self.folder / REPORT).read_bytes()
        if path is not None:
            atomic_write(Path(path), page)
        return page.decode()

    def to_model_card(self, classifier: int = 0) -> str:
        """A part of a model card: the `model-index` of Hugging Face's hub between rules, then Markdown.

        Args:
            classifier: which one, counted from 0.

        Raises:
            UserError: huggingface_hub is not installed.
        """
        return model_card(self.results, classifier)

    def to_fiftyone(self, folder: str | Path) -> None:
        """Every image and its worst mix as a data set of FiftyOne, which is not needed for it.

        >>> result.to_fiftyone("runs/fiftyone")
        >>> format = fiftyone.types.FiftyOneImageClassificationDataset
        >>> fiftyone.Dataset.from_dir("runs/fiftyone", dataset_type=format, data_path="data.json")

        Args:
            folder: a new one.

        Raises:
            UserError: there is something in it already.
        """
        from advmix.export.run import export_result

        export_result(self.folder, self.inputs(), Path(folder))

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
        return notebook_html(self.results, self._galleries[0].strongest, self._brief().to_html(index=False, border=0))

    def _brief(self) -> pandas.DataFrame:
        """The columns of the terminal in percent, with their intervals, as text."""
        import pandas

        entries, shown = self.results["classifiers"], columns_of("terminal")
        rows = [
            {"classifier": entry["name"], "": part["name"], "images": part["images"]}
            | {f"{column.title}, %": interval_cell(part[column.key]) for column in shown if column.key in part}
            for entry in entries
            for part in entry["parts"]
        ]
        return pandas.DataFrame(rows).drop(columns=[] if len(entries) > 1 else ["classifier"])


def _flat(part: Entry) -> Entry:
    """A row of a table: a share becomes three numbers."""
    flat: Entry = {}
    for key, value in part.items():
        if isinstance(value, Mapping):
            flat |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        else:
            flat[key] = float("nan") if value is None else value
    return flat


def _results(run: AuditRun, pictures: Pictures, found: AuditRecords, named_changes: Sequence[list[Entry]]) -> Entry:
    resamples = Resamples(run.config.resamples, run.config.seed)
    names = [one.name for one in run.inputs.classifiers]
    votes = LabelCheck(found.images, found.classifiers[0]).votes
    return {
        **header("audit", run.config),
        "images": len(found),
        "classes": found.metadata["classes"],
        "data": run.inputs.data.config.data,
        "broken": [image.to_dict() for image in broken_of(run.inputs.data)],
        "generator": _generator_entry(run, found),
        "search": to_dict(run.options),
        "residual": run.config.residual,
        "reference": {**run.reference.to_dict(), "accuracy": _mean(votes), "trusted": is_trusted(found)},
        "classifiers": [
            _classifier_entry(run, pictures, found, number, rows) for number, rows in enumerate(named_changes)
        ],
        "comparison": comparison_entries(found, names, resamples),
    }


def _generator_entry(run: AuditRun, found: AuditRecords) -> Entry:
    metadata, network = run.inputs.fitted.metadata, run.inputs.fitted.model.config
    known = {key: metadata.get(key) for key in ("fingerprint", "fit_seconds", "reconstruction_mse")}
    return {
        **known,
        "fitted_here": run.config.fits,
        "ready_made": metadata.get("ready_made"),
        "exact": run.setup.generator.exact,
        "pool_of": None if run.config.pool.is_train else run.config.pool.pool,
        "resolution": run.inputs.fitted.side(run.inputs.data.test),
        "layers": network.layers,
        "unexplained": None if run.setup.generator.exact else _unexplained(run.inputs, found),
        "fitted_on_audited": run.inputs.fitted_on(found.images.rows),
    }


def _unexplained(inputs: AuditInputs, found: AuditRecords) -> float | None:
    """The share of the images' variance that reconstructions miss, on the first of them."""
    some, fitted = slice(0, UNEXPLAINED_IMAGES), inputs.fitted
    images = inputs.data.test[found.images.rows[some]]
    if fitted.generator.any_size:
        return unexplained(fitted.generator, encoded(images, fitted.encoder), images)
    return unexplained(fitted.generator, found.images.latents[some].to(fitted.pool.styles.device), images)


def _kind_entries(pictures: Pictures, found: AuditRecords, number: int) -> list[Entry]:
    """Kinds of changes that flip, with what is said of some pictures of each."""
    images, records, entries = found.images, found.classifiers[number], []
    for kind in kind_entries(images, records):
        members = torch.zeros(len(found), dtype=torch.bool)
        members[kind["members"]] = True
        places = strongest_failures(images, records, members, KIND_PICTURES)
        entries.append(kind | {"pictures": pictures.entries(number, places)})
    return entries


def _sheet_entries(pictures: Pictures, found: AuditRecords, number: int, seed: int) -> list[Entry]:
    """What is said of the pictures on the sheet: with the reference's vote, where it counts, and a person's."""
    records, trusted = found.classifiers[number], is_trusted(found)
    reference = LabelCheck(found.images, replace(records, label_votes=None))
    places = sheet_places(found.images, records, trusted, seed)
    entries = pictures.entries(number, places)
    for entry, place in zip(entries, places, strict=True):
        voted = trusted and bool(reference.votes[place])
        entry["vote"] = ("kept" if reference.kept[place] else "lost") if voted else ""
        entry["answered"] = -1 if records.label_votes is None else int(records.label_votes[place])
    return entries


KIND_PICTURES = 6
"""At most so many pictures of each kind of change."""


def _classifier_entry(
    run: AuditRun, pictures: Pictures, found: AuditRecords, number: int, changes: list[Entry]
) -> Entry:
    opened, classifier, records = run.inputs.classifiers[number], run.classifiers[number], found.classifiers[number]
    check, count, trusted = LabelCheck(found.images, records), run.config.pictures, is_trusted(found)
    kept, lost = (check.kept, check.lost) if trusted else (check.flipped, check.flipped & False)
    kinds = _kind_entries(pictures, found, number)
    key = WorstCaseKey(
        generator=run.inputs.fitted.metadata["fingerprint"],
        pool=run.pool,
        search=f"{run.options}, residual {run.config.residual}, seed {run.config.seed}, {run.drawn}",
        images=f"{run.inputs.data.test.fingerprint}, {len(found)} of seed {run.config.seed}",
    )
    return {
        "name": opened.name,
        "method": opened.method,
        "fingerprint": opened.fingerprint,
        "differentiable": opened.differentiable,
        "vanished": int(records.vanished.sum()),
        "unanswered": int(records.unanswered.sum()),
        "side": classifier.side,
        "key": as_record(key),
        "commonest": commonest_entry(found, records),
        "reconstruction_flips": gate_entry(found, records),
        "smallest": smallest_entry(found.images, records),
        "kinds": kinds,
        "named_changes": changes,
        "corroboration": corroboration_words(kinds, changes),
        "curve": curve_entries(records),
        "parts": part_entries(found, records),
        "swaps": swap_entries(found, records),
        "label_check": check_entry(found.images, records, trusted),
        "sheet": _sheet_entries(pictures, found, number, run.config.seed),
        "strongest": pictures.entries(number, strongest_failures(found.images, records, kept, count)),
        "label_lost": pictures.entries(number, strongest_failures(found.images, records, lost, count)),
    }


def _mean(mask: Any) -> float:
    return float(mask.double().mean())
