"""How a result shows itself in a notebook: the head of its page in one piece, without a style sheet or a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from advmix.audit.page import ImagePair, image_uri
from advmix.audit.words import audit_sentences, comparison_headline, headline, interval, percent
from advmix.report.page import environment, resource

Entry = Mapping[str, Any]

CARDS = (
    ("Right as it is", "accuracy_clean"),
    ("After a random change", "accuracy_random_mix"),
    ("After the worst change found", "accuracy_worst_case"),
)

OPENING = 3
"""Pictures beside the headline."""


def notebook_html(results: Entry, pairs: Sequence[ImagePair], table: str) -> str:
    """Headline, three figures of each classifier, the first pictures, the sentences, and a folded table.

    Args:
        results: of an audit.
        pairs: pictures of the first classifier's strongest failures, in their order; may be none.
        table: HTML of every class and group.
    """
    entries = results["classifiers"]
    rows = entries[0]["strongest"]
    return (
        environment()
        .from_string(resource("notebook.html.j2"))
        .render(
            headline=headline(entries[0], results) if len(entries) == 1 else comparison_headline(results),
            classifiers=[{"name": entry["name"], "cards": _cards(entry)} for entry in entries],
            shots=[_shot(row, pair) for row, pair in zip(rows[:OPENING], pairs[:OPENING], strict=False)],
            sentences=list(audit_sentences(results)),
            table=Markup(table),
            percent=percent,
            interval=interval,
        )
    )


def _cards(entry: Entry) -> list[tuple[str, Entry]]:
    return [(title, entry["parts"][0][key]) for title, key in CARDS]


def _shot(row: Entry, pair: ImagePair) -> dict[str, Any]:
    uris = {"before_uri": image_uri(pair.before), "after_uri": image_uri(pair.after)}
    return {**row, **uris, "side": pair.before.shape[-1]}
