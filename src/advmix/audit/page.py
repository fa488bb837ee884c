"""Single images as data URIs, for galleries that a browser lays out."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advmix.audit import words
from advmix.audit.advice import votes_command
from advmix.audit.words import why_no_verdict
from advmix.data.images import to_bytes
from advmix.named_changes import FEW_FLIPS, unanswered_words
from advmix.report.figures import rescaled_difference
from advmix.report.page import SEARCH, environment, resource
from advmix.report.tables import Column, columns_of

LARGEST = 192

"""Images are not inlined with more pixels to a side: a page of a hundred of them stays a few megabytes."""


def image_uri(image: Tensor) -> str:
    """`(C, H, W)` in [0, 1], C 1 or 3: PNG where it is small, JPEG where it is a photograph."""
    pixels = to_bytes(image.detach().cpu().expand(3, -1, -1)).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    kind, options = ("PNG", {}) if max(pixels.shape[:2]) <= 64 else ("JPEG", {"quality": 90})
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


class PicturePair(NamedTuple):
    """An image and what became of it as arrays, `(H, W, C)` in [0, 1] each, C 1 or 3: what `imshow` takes.

    >>> for before, after in result.pictures():
    ...     plt.imshow(after)
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImagePair:
    """An image and what became of it, `(C, H, W)` in [0, 1] each; `smallest` is the least change that flips the answer,
    where one does.
    """

    before: Tensor
    after: Tensor
    smallest: Tensor | None = None

    def arrays(self) -> PicturePair:
        """The same for matplotlib."""
        before, after = (image.detach().cpu().permute(1, 2, 0).numpy() for image in (self.before, self.after))
        return PicturePair(before, after)

    def uris(self) -> dict[str, Any]:
        """All of them; their difference, scaled to its own maximum, where there is no smallest change."""
        between = self.smallest
        if between is None:
            between = rescaled_difference(self.before[None], self.after[None])[0]
        pictures = {"before": self.before, "after": self.after, "between": between}
        return {name: image_uri(image) for name, image in pictures.items()} | {"side": self.before.shape[-1]}


@dataclass(frozen=True, eq=False)
class Gallery:
    """The pictures of one classifier: in the order of its entries in the results, some of every kind of change, and one
    for each swap and each named change by name.
    """

    strongest: list[ImagePair]
    label_lost: list[ImagePair]
    swaps: dict[str, ImagePair]
    kinds: list[list[ImagePair]]
    named: dict[str, ImagePair]
    sheet: list[ImagePair]


def render_audit(results: Mapping[str, Any], galleries: Sequence[Gallery]) -> str:
    """One self-contained page.

    Args:
        results: as in `results.json`.
        galleries: of each classifier, in the same order.
    """
    both = zip(results["classifiers"], galleries, strict=True)
    entries = [_classifier(entry, results, gallery) for entry, gallery in both]
    return (
        environment()
        .from_string(resource("audit.html.j2"))
        .render(
            results=results,
            classifiers=entries,
            style=Markup(resource("report.css") + resource("audit.css")),
            columns=_columns(results),
            probability_columns=[
                column for column in columns_of("probabilities") if column.key in results["classifiers"][0]["parts"][0]
            ],
            comparison=words.comparison_words(results),
            search_meanings=SEARCH,
            few_flips=FEW_FLIPS,
            most_parts=MOST_PARTS,
            worst_parts=WORST_PARTS,
            script=Markup(resource("sheet.js")),
            words=words,
            votes_command=votes_command(results),
        )
    )


def _columns(results: Mapping[str, Any]) -> list[Column]:
    """The columns that say something: the size only where it differs, the drawn ones where details are kept."""
    native = any(entry["side"] > results["generator"]["resolution"] for entry in results["classifiers"])
    drawn = bool(results["residual"])
    return [
        column
        for column in columns_of("page")
        if column.key in results["classifiers"][0]["parts"][0]
        and (native or column.key != "accuracy_small")
        and (drawn or not column.key.endswith("drawn"))
    ]


NAMED_SHOWN = 6
"""Examples of named changes on the page."""

PLOT_LEFT, PLOT_BOTTOM, PLOT_WIDTH, PLOT_HEIGHT = 52, 280, 648, 260
"""Of the curve's plot, in units of the drawing."""


def curve_lines(curve: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Points of an SVG for accuracy against strength: both lines, and the band of the worst case."""

    def points(rows: Sequence[tuple[float, float]]) -> str:
        at = [(PLOT_LEFT + PLOT_WIDTH * strength, PLOT_BOTTOM - PLOT_HEIGHT * share) for strength, share in rows]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in at)

    lines = {
        name: points([(row["strength"], row[f"accuracy_{name}"]["value"]) for row in curve])
        for name in ("random_mix", "worst_case")
    }
    low, high = ([(row["strength"], row["accuracy_worst_case"][end]) for row in curve] for end in ("low", "high"))
    return lines | {"band": points([*low, *reversed(high)])}


MOST_PARTS, WORST_PARTS = 24, 10
"""Where there are more classes, groups or sites, the page opens with so many of the worst ones."""


def _shown_parts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of the table that is open; how many there are of each kind; whether there are others, in a folded table."""
    shown, counts = [], Counter(part["kind"] for part in parts)
    for kind, count in counts.items():
        rows = [part for part in parts if part["kind"] == kind]
        if count > MOST_PARTS:
            rows = sorted(rows, key=lambda part: float(part["accuracy_worst_case"]["value"]))[:WORST_PARTS]
        shown += rows
    return {"shown_parts": shown, "counts": counts, "folds": len(shown) < len(parts)}


def _classifier(entry: Mapping[str, Any], results: Mapping[str, Any], gallery: Gallery) -> dict[str, Any]:
    def with_shots(rows: Sequence[Mapping[str, Any]], shots: Sequence[ImagePair]) -> list[dict[str, Any]]:
        return [{**row, "shot": shot.uris()} for row, shot in zip(rows, shots, strict=True)]

    swaps = [
        {
            **row,
            "shot": gallery.swaps[row["name"]].uris(),
            "title": words.swap_title(row),
            "changes": words.changes(row),
        }
        for row in entry["swaps"]
    ]
    return {
        **entry,
        "headline": words.headline(entry, results),
        "doubt": why_no_verdict(entry, results),
        "lines": curve_lines(entry["curve"]),
        **_shown_parts(entry["parts"]),
        "kinds": [
            {**kind, "shown": with_shots(kind["pictures"], shots)}
            for kind, shots in zip(entry["kinds"], gallery.kinds, strict=True)
        ],
        "named_shots": [
            {**row, "shot": gallery.named[row["name"]].uris()}
            for row in entry["named_changes"]
            if row["name"] in gallery.named
        ][:NAMED_SHOWN],
        "unanswered_changes": unanswered_words(entry["named_changes"]),
        "sheet": with_shots(entry["sheet"], gallery.sheet),
        "strongest": with_shots(entry["strongest"], gallery.strongest),
        "label_lost": with_shots(entry["label_lost"], gallery.label_lost),
        "levels": [row for row in swaps if row["kind"] == "resolution" or (row["grid"] and row["kind"] == "layer")],
        "swaps": swaps,
        "worst": {kind: words.worst_part(entry, kind) for kind in ("site", "class", "group", "class in group")},
        "first": words.first_layers(entry),
    }
