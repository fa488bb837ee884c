"""What to do about what an audit found: rules on its numbers, each with a command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advmix.audit.words import FEW, percent, why_no_verdict
from advmix.change_kinds import MIN_FLIPS
from advmix.data.photos.decode import PhotoShape
from advmix.data.settings import DataConfig
from advmix.named_changes import FEW_FLIPS
from advmix.report.tables import RESULTS, short_name

Entry = Mapping[str, Any]

PLACE = ("shift", "rotation", "nearer", "farther", "crop", "mirror")
"""Named changes of place, which no style contains."""


@dataclass(frozen=True)
class Advice:
    """What to do, why, and how: a command line, or a line of Python; neither where there is nothing to do."""

    title: str
    reason: str
    command: str = ""

    def to_dict(self) -> dict[str, str]:
        """As it goes into `results.json`."""
        return {"title": self.title, "reason": self.reason, "command": self.command}


def advise(entry: Entry, results: Entry, data: DataConfig) -> list[Advice]:
    """What to do about one classifier, the most urgent first.

    Args:
        entry: of the classifier.
        results: as in `results.json`.
        data: the audited images, which `config` need not name: a generator's folder knows them.
    """
    doubted = why_no_verdict(entry, results)
    if doubted is not None:
        return [Advice("First make the audit sound", doubted.words)]
    if not entry["parts"][0]["accuracy_clean"]["value"]:
        return []
    found = [
        *_site(entry, results, data),
        *_style(entry, data),
        *_place(entry),
        *_labels(entry),
        *_votes(entry, results),
    ]
    return found or [
        Advice("Nothing", "No change that was tried costs it a part of its accuracy that these images can show.")
    ]


def _site(entry: Entry, results: Entry, data: DataConfig) -> Iterator[Advice]:
    everything = entry["parts"][0]["accuracy_clean"]
    for part in entry["parts"]:
        if part["kind"] == "site" and part["images"] >= FEW and part["accuracy_clean"]["high"] < everything["low"]:
            yield Advice(
                f"Adapt it to {short_name(part['name'])}",
                f"There it is right on {percent(part['accuracy_clean']['value'])}, on all images on "
                f"{percent(everything['value'])}. Some hundred images of that site are needed, and no labels.",
                f"advmix adapt --classifier {_path(entry, results)} {data_flags(data)} --new-site FOLDER",
            )


MIXED = ("randmix", "advmix")
"""Methods of a classifier that has seen such styles in its training."""


def _style(entry: Entry, data: DataConfig) -> Iterator[Advice]:
    everything = entry["parts"][0]
    clean, mixed, worst = (everything[f"accuracy_{name}"] for name in ("clean", "random_mix", "worst_natural"))
    flips = entry["smallest"]["flips"] - entry["smallest"]["extreme"]
    if entry["method"] in MIXED:
        return
    if mixed["high"] < clean["low"]:
        yield Advice(
            "Train with random styles",
            f"The style of another image, drawn at random, costs it {100 * (clean['value'] - mixed['value']):.0f} "
            "points. In a training of your own: advmix.transforms.RandomStyle.",
            f"advmix train --method randmix {data_flags(data)}",
        )
    elif worst["high"] < clean["low"] and flips >= MIN_FLIPS:
        yield Advice(
            "Train against the worst styles, where such light and colour can occur",
            f"A random style costs it little, but {flips:,} answers flip under changes no larger than those between "
            "these images. In a training of your own: advmix.transforms.AdversarialStyle.",
            f"advmix train --method advmix {data_flags(data)}",
        )


def _place(entry: Entry) -> Iterator[Advice]:
    rows = [row for row in entry["named_changes"] if row["name"] in PLACE and row["right"]]
    weak = [row for row in rows if row["strengths"][0]["flips"]["low"] >= FEW_FLIPS]
    if weak:
        row = max(weak, key=lambda one: float(one["strengths"][0]["flips"]["value"]))
        weakest = row["strengths"][0]
        yield Advice(
            "Train with shifted, turned and cropped images",
            f"“{row['name']}” at its weakest ({weakest['strength']:g} {row['unit']}) flips "
            f"{percent(weakest['flips']['value'])} of the right answers; no style contains such a change.",
            "torchvision.transforms.v2.RandomAffine(degrees=15, translate=(0.1, 0.1), scale=(0.8, 1.2))",
        )


def _labels(entry: Entry) -> Iterator[Advice]:
    everything = entry["parts"][0]["accuracy_clean"]
    kinds = ("class", "group", "site")
    few = [part["name"] for part in entry["parts"] if part["kind"] in kinds and part["images"] < FEW]
    weak = [
        part["name"]
        for part in entry["parts"]
        if part["kind"] in ("class", "group") and part["images"] >= FEW
        if part["accuracy_clean"]["high"] < everything["low"]
    ]
    if weak:
        yield Advice(
            f"More training labels of {_listed(weak)}",
            f"As they are it is right on fewer of these than of all images ({percent(everything['value'])}).",
        )
    if few:
        yield Advice(
            f"More test labels of {_listed(few)}",
            f"Fewer than {FEW} images of each were audited: nothing can be said of them. Audit more (--images), or "
            "label more.",
        )


def _votes(entry: Entry, results: Entry) -> Iterator[Advice]:
    if entry["label_check"]["flipped"] >= MIN_FLIPS and not results["reference"]["trusted"]:
        asked = results["reference"]["accuracy_train"] is not None
        why = "The reference cannot be believed" if asked else "No reference was asked"
        yield Advice(
            "Say whether the labels survived",
            f"{why}. Answer on the sheet above, save the answers, and read them back.",
            votes_command(results),
        )


def _path(entry: Entry, results: Entry) -> str:
    """Of a classifier as it was named to the audit."""
    config, place = results["config"], [one["name"] for one in results["classifiers"]].index(entry["name"])
    return shlex.quote([name for name in (config["classifier"], *config["compare"]) if name][place])


def _listed(names: list[str]) -> str:
    shown = ", ".join(short_name(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def votes_command(results: Entry) -> str:
    """What reads a person's answers back, where the audit was run."""
    saved = shlex.quote(str(Path(results["config"]["out"]) / RESULTS))
    return f"advmix audit --config {saved} --votes votes.json"


def data_flags(data: DataConfig) -> str:
    """`--data faces --target Smiling`: the flags that name the audited images again; `--data DATA` of tensors."""
    flags = ["--data", data.data or "DATA"]
    if data.target:
        flags += ["--target", data.target]
    for name in ("site", "size", "channels", "crop"):
        value = getattr(data.photos, name)
        if value != getattr(PhotoShape(), name):
            flags += [f"--{name}", str(value)]
    return shlex.join(flags)
