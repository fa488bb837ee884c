"""What is said of labels that are probably not what was meant: nobody is refused for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from advmix.data.photos.rows import Source
from advmix.data.photos.words import alike, first_few, is_number
from advmix.errors import printable

SPLITS = ("val", "test")
"""Those that may come without labels."""
HIDDEN = "-1"
MANY_NUMBERS = 20
"""More classes than these that are all numbers are probably measurements."""


def without_unlabelled(source: Source, target: str) -> tuple[Source, list[str]]:
    """Without the validation or test images of a split where none has a label, as publishers leave them out to judge
    by, with a remark for each such split. -1 is no label where a whole split has it and nothing else does.
    """
    splits = {split: [row for row in source.rows if row.split == split] for split in SPLITS}
    left = {split for split, rows in splits.items() if rows and all(source.lacks(row, target) for row in rows)}
    hidden = {split for split, rows in splits.items() if {row.values.get(target) for row in rows} == {HIDDEN}}
    if all(row.values.get(target) != HIDDEN for row in source.rows if row.split not in hidden):
        left |= hidden
    kept = tuple(row for row in source.rows if row.split not in left)
    if not kept:
        return source, []
    words = f"images without a {printable(target)}, left out"
    notes = [f"{split}: {len(splits[split]):,} {words}" for split in sorted(left)]
    return replace(source, rows=kept, unlabelled=source.unlabelled + len(source.rows) - len(kept)), notes


def remarks(values: Sequence[str], column: str, known: bool, named: bool) -> list[str]:
    """About the labels of all images.

    Args:
        values: `(N,)`, of the column.
        column: its name.
        known: whether a library has numbered them.
        named: whether somebody meant each as a name.
    """
    if known:
        return []
    counts = Counter(values)
    single = sorted(value for value, count in counts.items() if count == 1)
    found = remarks_on_spelling(values, column)
    if not named and len(counts) > MANY_NUMBERS and all(is_number(value) for value in counts):
        words = "all of them numbers; if it is a measurement, make a column of a few ranges"
        found.append(f"{len(counts):,} classes of {printable(column)}, {words}")
    if single:
        found.append(f"{len(single):,} of {len(counts):,} classes have a single image: {first_few(single, 5)}")
    return found


def remarks_on_spelling(values: Sequence[str], column: str) -> list[str]:
    """About values that are probably the same."""
    same = [" = ".join(map(repr, sorted(group))) for group in alike(sorted(set(values)))]
    if not same:
        return []
    return [f"values of {printable(column)} that differ in writing alone: {first_few(same, 5)}; make them one"]
