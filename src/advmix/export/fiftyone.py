"""What an export holds as a data set of FiftyOne, in its documented `FiftyOneImageClassificationDataset` format.

FiftyOne is not needed to write it: `data.json` names the files, `labels.json` the classes and what is known of each
image, `predictions.json` the classifier's answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KEPT = ("source", "classifier", "variant", "donor", "label_kept")
"""Columns of the table that go into a variation's attributes as they are."""

Answer = dict[str, Any]


def fiftyone_files(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> dict[str, bytes]:
    """The three files, by name.

    Args:
        rows: of the table of an export.
        classes: all names.
    """
    found = dict(_samples(rows))
    labels, predictions = ({_key(name): pair[place] for name, pair in found.items()} for place in (0, 1))
    return {
        "data.json": _json({name: name for name in found}),
        "labels.json": _json({"classes": list(classes), "labels": labels}),
        "predictions.json": _json({"classes": list(classes), "labels": predictions}),
    }


def _json(value: Any) -> bytes:
    return f"{json.dumps(value, indent=2)}\n".encode()


def _key(filename: str) -> str:
    """FiftyOne's name of an image: its file's without the ending."""
    return filename.removesuffix(".png")


def _samples(rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, tuple[Answer, Answer]]]:
    """Each file with its label and the classifier's answer; of an image beside its variations, the first classifier's,
    as it comes last of them.
    """
    for row in reversed(rows):
        known = {name: row[name] for name in KEPT} | {"fooled": row["fooled"] == "yes", "loss": float(row["loss"])}
        yield row["filename"], ({"label": row["label"], "attributes": known}, _answer(row, "after"))
        if row["original"]:
            plain = {"label": row["label"], "attributes": {"source": row["source"], "variant": "original"}}
            yield row["original"], (plain, _answer(row, "before"))


def _answer(row: Mapping[str, str], when: str) -> Answer:
    return {"label": row[f"prediction_{when}"], "confidence": float(row[f"probability_{when}"])}
