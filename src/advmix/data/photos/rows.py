"""A data set before any image is decoded: its rows, and how to open what they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image

from advmix.data.photos.words import is_missing


@dataclass(frozen=True)
class Row:
    """One image.

    Args:
        name: of the image within its source.
        values: what is known of it, by column.
        split: `train`, `val`, `test` or None where the data have no split.
        where: how messages call the row, `"labels.csv, line 7"`.
    """

    name: str
    values: Mapping[str, str]
    split: str | None
    where: str


@dataclass(frozen=True, eq=False)
class Source:
    """The rows of a data set.

    Args:
        place: how messages call it.
        rows: one for each labelled image.
        open: from a row's name to its image, not decoded yet where that is possible; may raise anything. Called from
            several threads.
        classes: the values of a column in the order of its labels, where a library has numbered them: what is trained
            on these data elsewhere has its outputs in that order.
        unlabelled: how many images have no row.
        notes: remarks about what was found and not used, a line each.
        named: columns whose values somebody meant as names, so that `none` is one: folders, a library's labels.
        columns: all that there are, where not all can be labels.
        close: to be called after the last `open`.
    """

    place: str
    rows: tuple[Row, ...]
    open: Callable[[str], Image.Image]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unlabelled: int = 0
    notes: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()
    close: Callable[[], None] = lambda: None

    @cached_property
    def labels(self) -> list[str]:
        """The columns that rows have; those of one split are alike."""
        first = {row.split: row for row in reversed(self.rows)}
        return list(dict.fromkeys(column for row in reversed(first.values()) for column in row.values))

    def lacks(self, row: Row, column: str) -> bool:
        """Whether a row has no value of a column, or a word for none that nobody meant as a name."""
        value = row.values.get(column, "")
        return not value or (column not in self.named and is_missing(value))
