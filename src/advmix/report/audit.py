"""What `advmix audit` found, as a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

Part = Mapping[str, Any]
COLUMNS = {
    "right": "as it is",
    "right_reconstruction": "recon-\nstruct.",
    "right_mixed": "mixed at\nrandom",
    "right_worst": "worst\ncase",
}
TOO_BLURRED = 0.05
"""A worst case is no headline where reconstructions cost more accuracy than this."""


def audit_table(parts: Sequence[Part]) -> Table:
    """Accuracies in percent with their 95 % intervals: all, each class, each group."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("accuracy, %")
    view.add_column("images", justify="right")
    for head in COLUMNS.values():
        view.add_column(head, justify="right")
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None and before["kind"] != part["kind"]:
            view.add_section()
        cells = [_cell(part[key]) for key in COLUMNS]
        view.add_row(escape(part["name"]), f"{part['images']:,}", *cells)
    return view


def _cell(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.1f} [dim]({100 * share['low']:.0f}–{100 * share['high']:.0f})[/]"


def audit_sentences(results: Mapping[str, Any]) -> Iterator[str]:
    """The headline, or why there is none; and where it is worst."""
    parts = results["parts"]
    everything = parts[0]
    clean, drawn, worst = (everything[key]["value"] for key in ("right", "right_reconstruction", "right_worst"))
    if clean - drawn > TOO_BLURRED:
        yield (
            f"No headline: {drawn:.1%} right on reconstructions and {clean:.1%} on the images. The generator draws too "
            "little of what the classifier looks at, so a worst case would blame the classifier for it. Train the "
            "generator longer (--fit-steps), or with --perceptual-weight."
        )
    else:
        yield f"{clean:.1%} right as they are; {worst:.1%} whatever of this kind the search tried."
    for kind in ("class", "group"):
        rows = [part for part in parts if part["kind"] == kind]
        if len(rows) > 1:
            lowest = min(rows, key=lambda part: part["right_worst"]["value"])
            right, share = lowest["right"]["value"], lowest["right_worst"]["value"]
            yield f"Worst {kind}: {lowest['name']}, {right:.1%} as they are, {share:.1%} in the worst case."
