"""One picture of an audit: flips that the search found, and flips by named changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from advmix.audit.page import ImagePair
from advmix.audit.results import AuditResult
from advmix.change_kinds import MIN_FLIPS
from advmix.report.drawing import MUTED, RIGHT, WRONG, Canvas, frame, shorten

SIZE, COLUMNS, PITCH = 0.75, 6, 1.75
"""In inches: of an image, and from one pair to the next; pairs in a row."""

Flip = tuple[Tensor, Tensor, str, str, str]
"""Images before and after, both answers, what changed."""


def audit_picture(result: AuditResult) -> Figure:
    """The search's commonest kind of flips above the named changes that flip most easily; what there are of them."""
    entry, drawn = result.results["classifiers"][0], result.draw()[0]
    kinds = [_found(kind, pairs) for kind, pairs in zip(entry["kinds"], drawn.kinds, strict=True)]
    searched = kinds[0] if kinds else []
    named = _named(entry["named_changes"], drawn.named, result.results["classes"])
    title = f"Found by the search: {entry['smallest']['flips']} flips in all"
    if kinds and entry["kinds"][0]["count"] >= MIN_FLIPS:
        title = f"Found by the search: {entry['kinds'][0]['name']}"
    rows = [(title, searched), ("Named changes that flip most easily", named)]
    rows = [(title, flips[:COLUMNS]) for title, flips in rows if flips]
    canvas = Canvas(COLUMNS * PITCH + 0.1, max(1, len(rows)) * 1.75)
    for place, (title, flips) in enumerate(rows):
        _draw_flips(canvas, title, flips, place * 1.75)
    return canvas.figure


def _found(kind: Mapping[str, Any], pairs: Sequence[ImagePair]) -> list[Flip]:
    """The smallest change that flips each."""
    shown = []
    for row, pair in zip(kind["pictures"], pairs, strict=True):
        after = pair.after if pair.smallest is None else pair.smallest
        answer = (row["smallest"] or row["after"])["answer"]
        shown.append((pair.before, after, row["before"]["answer"], answer, ""))
    return shown


def _named(changes: Sequence[Mapping[str, Any]], pairs: Mapping[str, ImagePair], classes: Sequence[str]) -> list[Flip]:
    """The example of each change that has one, those first that flip most easily."""
    shown = []
    for row in changes:
        if row["example"] is not None:
            pair, example = pairs[row["name"]], row["example"]
            what = (
                row["name"] if len(row["strengths"]) == 1 else f"{row['name']}, {example['strength']:g} {row['unit']}"
            )
            shown.append((pair.before, pair.after, "", classes[example["answer"]], what))
    return shown


def _draw_flips(canvas: Canvas, title: str, flips: Sequence[Flip], top: float) -> None:
    canvas.text(0.1, top + 0.2, title, 11, ha="left", weight="bold")
    for place, (before, after, was, became, what) in enumerate(flips):
        left = 0.1 + place * PITCH
        for side, (image, color, answer) in enumerate(((before, RIGHT, was), (after, WRONG, became))):
            x = left + side * (SIZE + 0.05)
            frame(canvas.image(image.expand(3, -1, -1), x, top + 0.45, SIZE, SIZE), color, 1.5)
            canvas.text(x + SIZE / 2, top + 0.45 + SIZE + 0.12, shorten(answer), 8, color=color)
        canvas.text(left + SIZE, top + 0.45 + SIZE + 0.32, what, 7, color=MUTED)
