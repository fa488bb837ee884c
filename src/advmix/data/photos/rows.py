"""A data set before any image is decoded: its rows, and how to open what they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from PIL import Image


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
        close: to be called after the last `open`.
    """

    place: str
    rows: tuple[Row, ...]
    open: Callable[[str], Image.Image]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unlabelled: int = 0
    close: Callable[[], None] = lambda: None
