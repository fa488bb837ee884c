"""What `advmix audit` found, as tables and sentences in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from advmix.report.audit_doubts import doubt
from advmix.report.audit_words import (
    caveats,
    changes,
    check_words,
    comparison_words,
    first_layers,
    percent,
    swap_title,
    verdict_words,
    worst_part,
)

Part = Mapping[str, Any]
COLUMNS = {
    "right": "as it is",
    "right_reconstruction": "recon-\nstruct.",
    "right_mixed": "mixed at\nrandom",
    "right_worst": "worst\ncase",
    "right_checked": "label\nchecked",
    "right_attacked": "attacked",
}


def audit_table(parts: Sequence[Part]) -> Table:
    """Accuracies in percent with their 95 % intervals: all, each class, each group."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("accuracy, %")
    view.add_column("images", justify="right")
    columns = {key: head for key, head in COLUMNS.items() if key in parts[0]}
    for head in columns.values():
        view.add_column(head, justify="right")
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None and before["kind"] != part["kind"]:
            view.add_section()
        cells = [_cell(part[key]) for key in columns]
        view.add_row(escape(part["name"]), f"{part['images']:,}", *cells)
    return view


def swap_table(swaps: Sequence[Part]) -> Table:
    """How many right answers each resolution's swap flips, in percent."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    for head in ("borrowed alone", "part of", "changes"):
        view.add_column(head)
    view.add_column("flips, %", justify="right")
    for swap in swaps:
        if swap["kind"] != "layer" or swap["grid"]:
            view.add_row(swap_title(swap), "z⊥" if swap["perp"] else "z∥", changes(swap), _cell(swap["flips"]))
    return view


def _cell(share: Mapping[str, float] | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share['value']:.1f} [dim]({100 * share['low']:.0f}–{100 * share['high']:.0f})[/]"


def audit_sentences(results: Mapping[str, Any]) -> Iterator[str]:
    """The headline of each classifier, or why there is none; what flips it, where it is worst, what the check says."""
    several = len(results["classifiers"]) > 1
    for entry in results["classifiers"]:
        for sentence in _sentences(entry, results):
            yield f"{entry['name']}: {sentence}" if several else sentence
    yield from comparison_words(results)


def _sentences(entry: Part, results: Part) -> Iterator[str]:
    yield from caveats(entry)
    doubted = doubt(entry, results)
    if doubted is not None:
        yield doubted.words
        return
    yield verdict_words(entry)
    strongest = first_layers(entry)
    if strongest is not None:
        flips = percent(strongest["flips"]["value"])
        yield f"Flips most by itself: {swap_title(strongest)} ({changes(strongest)}), {flips} of the right answers."
    for kind in ("class", "group", "class in group"):
        worst = worst_part(entry, kind)
        if worst is not None:
            right, share = worst["right"]["value"], worst["right_worst"]["value"]
            yield f"Worst {kind}: {worst['name']}, {right:.1%} as they are, {share:.1%} in the worst case."
    yield check_words(entry, results["reference"])
