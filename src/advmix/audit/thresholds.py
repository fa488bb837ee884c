"""What an audit must reach, `--fail-under "worst_case=0.6, worst_group=0.5"`, at the lower ends of its intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advmix.audit.words import FEW, interval, percent, why_no_verdict
from advmix.report.tables import columns_of
from advmix.utils.errors import UserError, printable

Entry = Mapping[str, Any]

ACCURACIES = {column.key.removeprefix("accuracy_"): column.key for column in columns_of("terminal")}
"""Accuracies of all images, by the name that a threshold has."""

PARTS = {f"worst_{kind}": kind for kind in ("class", "group", "site")}
"""The worst case of the worst part, by the name that a threshold has."""


@dataclass(frozen=True)
class Threshold:
    """What an accuracy must be at least, in [0, 1]."""

    name: str
    least: float

    @property
    def words(self) -> str:
        """`at least 60 %`."""
        return f"at least {100 * self.least:g} %"


def read_thresholds(text: str) -> tuple[Threshold, ...]:
    """`worst_case=0.6, random_mix=0.9` as thresholds; none of an empty text.

    Raises:
        UserError: a name that is unknown or there twice, or a value that is no number in [0, 1].
    """
    thresholds = tuple(_read_threshold(part.strip()) for part in text.split(",")) if text else ()
    names = [threshold.name for threshold in thresholds]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--fail-under {name}: there twice; leave one out")
    return thresholds


def _read_threshold(text: str) -> Threshold:
    name, equals, value = (part.strip() for part in text.partition("="))
    known = (*ACCURACIES, *PARTS)
    if name not in known or not equals:
        raise UserError(f"--fail-under {text!r}: write NAME=VALUE, with a name of {', '.join(known)}")
    try:
        least = float(value)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise UserError(f"--fail-under {text!r}: the value must be a number in [0, 1]")
    return Threshold(name, least)


def check_known(thresholds: Sequence[Threshold], missing: Collection[str]) -> None:
    """Refuse a threshold of what the audit does not measure.

    Args:
        thresholds: what is wanted.
        missing: names of what is not measured.

    Raises:
        UserError: naming it.
    """
    for threshold in thresholds:
        if threshold.name in missing:
            raise UserError(
                f"--fail-under {threshold.name}: this audit does not measure it{REASONS.get(threshold.name, '')}; "
                "leave it out"
            )


REASONS = {
    "reconstruction": " (the generator is exact: reconstructions are the images)",
    "checked": " (--reference none)",
    "attacked": " (no --attack)",
    "worst_group": " (no --group)",
    "worst_site": " (no --site)",
}


def unmeasured(results: Entry) -> set[str]:
    """Names of thresholds for which `results` have no figure."""
    parts = results["classifiers"][0]["parts"]
    kinds = {part["kind"] for part in parts}
    accuracies = {name for name, key in ACCURACIES.items() if key not in parts[0]}
    return accuracies | {name for name, kind in PARTS.items() if kind not in kinds}


def missed_thresholds(thresholds: Sequence[Threshold], results: Entry) -> list[str]:
    """A line for each classifier and each threshold that it misses: classifier, figure, value, interval, number of
    images, and what is wanted.

    The lower end of the 95 % interval counts. `worst_class` and the like are the lowest of these among parts of at
    least 20 images. What the audit gives no verdict on is missed.

    Args:
        thresholds: what is wanted.
        results: of an audit.

    Raises:
        UserError: one of what the audit does not measure.
    """
    check_known(thresholds, unmeasured(results))
    entries = results["classifiers"]
    return [line for entry in entries for threshold in thresholds for line in _missed(threshold, entry, results)]


def _missed(threshold: Threshold, entry: Entry, results: Entry) -> Iterator[str]:
    said = f"{printable(entry['name'])}: {threshold.name}"
    doubted = why_no_verdict(entry, results)
    if doubted is not None:
        yield f"{said} has no verdict ({printable(doubted.reason)}); wanted {threshold.words}"
        return
    measured = _measured(threshold.name, entry)
    if measured is None:
        yield f"{said} was not counted (no part of {FEW} images, or no vote); wanted {threshold.words}"
        return
    share, images, name = measured
    if share["low"] < threshold.least:
        found = f"{percent(share['value'], 1)} (95 % interval {interval(share, 1)}, n = {images:,}{name})"
        yield f"{said} is {found}; wanted {threshold.words} at the lower end"


def _measured(name: str, entry: Entry) -> tuple[Entry, int, str] | None:
    """An accuracy, of how many images, and of which part; None where nothing was counted."""
    if name in ACCURACIES:
        everything = entry["parts"][0]
        share = everything[ACCURACIES[name]]
        images = everything["checked_images" if name == "checked" else "images"]
        return None if share is None else (share, images, "")
    parts = [part for part in entry["parts"] if part["kind"] == PARTS[name] and part["images"] >= FEW]
    if not parts:
        return None
    worst = min(parts, key=lambda part: float(part["accuracy_worst_case"]["low"]))
    return worst["accuracy_worst_case"], worst["images"], f", {printable(worst['name'])}"
