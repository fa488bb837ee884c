"""An audit in Markdown: for a pull request, a job's summary, and a model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advmix.audit.words import audit_sentences, comparison_headline, headline
from advmix.report.tables import Column, columns_of, interval_cell
from advmix.utils.errors import printable

Entry = Mapping[str, Any]

MOST_ROWS = 60
"""Of classes and groups in a comment, which may have 65,536 characters."""


def audit_markdown(results: Entry, missed: Sequence[str] = ()) -> str:
    """The headline, what was missed, a row for each classifier, the sentences, and the parts, folded.

    Args:
        results: of an audit.
        missed: a line for each threshold that was missed.
    """
    entries = results["classifiers"]
    title = headline(entries[0], results) if len(entries) == 1 else comparison_headline(results)
    failures = ["**Below what is wanted:**", "", *(f"- {escaped(line)}" for line in missed), ""] if missed else []
    lines = [
        f"### advmix audit: {escaped(title)}",
        "",
        *failures,
        *accuracy_table([(entry["name"], entry["parts"][0]) for entry in entries], "Right, in percent"),
        "",
        *(f"- {escaped(sentence)}" for sentence in audit_sentences(results)),
        "",
        *(line for entry in entries for line in _folded(entry)),
    ]
    return "\n".join(lines)


def accuracy_table(rows: Sequence[tuple[str, Entry]], title: str) -> Iterator[str]:
    """Accuracies in percent with their 95 % intervals.

    Args:
        rows: a name and what was counted of it.
        title: of the column of names.
    """
    columns = accuracy_columns(rows[0][1])
    yield _row([title, "Images", *(column.title for column in columns)])
    yield _row(["---", "---:", *("---:" for _ in columns)])
    for name, part in rows:
        yield _row([escaped(name), f"{part['images']:,}", *(interval_cell(part[column.key]) for column in columns)])


def accuracy_columns(part: Entry) -> list[Column]:
    """Those of the terminal that were measured."""
    return [column for column in columns_of("terminal") if column.key in part]


def escaped(text: str) -> str:
    """Somebody's text, without what Markdown or HTML would make of it."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#~" else letter for letter in plain)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _folded(entry: Entry) -> Iterator[str]:
    """The parts of one classifier's images."""
    parts = entry["parts"][1:]
    yield f"<details><summary>{escaped(entry['name'])}: every class and group</summary>"
    yield ""
    yield from accuracy_table([(part["name"], part) for part in [entry["parts"][0], *parts[:MOST_ROWS]]], "Part")
    if len(parts) > MOST_ROWS:
        yield ""
        yield f"{len(parts) - MOST_ROWS:,} more are in results.json."
    yield ""
    yield "</details>"
    yield ""
