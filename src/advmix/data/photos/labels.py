"""Training and test images where the data have no split of their own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch

from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.rows import (
    LABEL_COLUMNS,
    Row,
    Source,
    class_names,
    first_few,
    remarks,
    remarks_on_spelling,
    without_unlabelled,
)
from advmix.utils.errors import UserError, printable
from advmix.utils.torch_tools import generator


def hold_out(labels: Sequence[int], units: Sequence[str], share: float, seed: int) -> set[int]:
    """Places of the images that are held out: `share` of every class, as nearly as whole units allow.

    Give all of them one label where the share need not hold for every class.

    A unit is what stays together: the images of one person, or a single image. It counts to the class that most of its
    images have. Every class keeps at least one unit for training. What is chosen follows from the seed and the units'
    names, not from their order.

    Args:
        labels: `(N,)` class indices.
        units: `(N,)` names.
        share: in [0, 1).
        seed: fixes the choice.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        members[unit].append(place)
    by_class: dict[int, list[str]] = defaultdict(list)
    for unit in sorted(members):
        by_class[_most_common(labels[place] for place in members[unit])].append(unit)
    held: set[int] = set()
    for index, of_class in by_class.items():
        wanted = share * sum(len(members[unit]) for unit in of_class)
        taken = 0
        for place in torch.randperm(len(of_class), generator=generator(seed, "photos", "holdout", index))[1:]:
            images = members[of_class[place]]
            if taken + len(images) / 2 <= wanted:
                held.update(images)
                taken += len(images)
    return held


def _most_common(labels: Iterable[int]) -> int:
    counts = Counter(labels)
    return max(sorted(counts), key=lambda label: counts[label])


@dataclass(frozen=True)
class Entry:
    """One image: its name in the source, class and group by index, and `train`, `val` or `test`."""

    name: str
    label: int
    group: int
    split: str


@dataclass(frozen=True)
class Table:
    """Every image of a data set, and what the classes and groups are called.

    Args:
        entries: in the source's order.
        classes: names.
        groups: names of the combinations of group values, `"not Male, Young"`; empty without group columns.
        notes: remarks about what may be wrong with them, a line each.
        unlabelled: how many images there are without a label.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unlabelled: int = 0


def make_table(source: Source, options: PhotoOptions, seed: int) -> Table:
    """Labels and groups from the columns that are asked for, splits of the data's own or held out; `limit` by the seed.

    Raises:
        UserError: no rows, a column is not there, a value is missing, there is one class only, or a person is in two
            splits.
    """
    if not source.rows:
        raise UserError(f"{source.place}: no labelled images")
    target = _target(source, options.target)
    source, notes = without_unlabelled(source, target)
    values = _column(source, target, "target")
    names = class_names(values, target, source.classes.get(target, ()))
    if len(set(values)) < 2:
        raise UserError(f"{source.place}: every image has the same {printable(target)}, {printable(names[values[0]])}")
    labels = _indices(values, names)
    groups, group_names = _groups(source, options.group)
    splits = _splits(source, options, labels)
    rows = zip(source.rows, labels, groups, splits, strict=True)
    entries = [Entry(row.name, label, group, split) for row, label, group, split in rows]
    notes += remarks(values, target, known=target in source.classes, named=target in source.named)
    for column in options.group:
        notes += remarks_on_spelling(_column(source, column, "group"), column)
    entries = _limited(entries, options.limit, seed)
    return Table(tuple(entries), tuple(names.values()), group_names, tuple(notes), source.unlabelled)


def _target(source: Source, asked: str | None) -> str:
    """The label column: the one that is asked for, the only one, or the one that is called so."""
    columns = source.labels
    if not columns:
        words = "no column of words or whole numbers that could be labels; there are"
        raise UserError(f"{source.place}: {words} {first_few(source.columns) or 'none'}")
    usual = columns if len(columns) == 1 else [column for column in columns if column.lower() in LABEL_COLUMNS]
    if asked is None and len(usual) != 1:
        there = first_few(usual or columns)
        raise UserError(f"{source.place}: name the column of labels with --target; there are {there}")
    return asked or usual[0]


def _column(source: Source, column: str, flag: str) -> list[str]:
    """Every row's value.

    Raises:
        UserError: naming the column or the row.
    """
    known = source.labels
    if column not in known:
        near = get_close_matches(column, known, n=1)
        remedy = f"did you mean {printable(near[0])}?" if near else f"there are {first_few(known)}"
        raise UserError(f"--{flag} {column}: {source.place} has no such column; {remedy}")
    without = [row for row in source.rows if source.lacks(row, column)]
    if without:
        raise UserError(_lacking(without, column))
    return [row.values[column] for row in source.rows]


def _lacking(rows: Sequence[Row], column: str) -> str:
    """The first of the rows without a value, and how many there are of each word for none."""
    words = Counter(row.values.get(column, "") for row in rows)
    listed = first_few(f"{word or 'empty'} {count:,}" for word, count in words.most_common())
    more = f", nor in {len(rows) - 1:,} more rows ({listed})" if len(rows) > 1 else f" ({listed})" if any(words) else ""
    named = [word for word in words if word]
    remedy = f"fill it in, or, if {printable(named[0])} is a class, call it otherwise" if named else "fill it in"
    return f"{rows[0].where} ({printable(rows[0].name)}): no value of {printable(column)}{more}; {remedy}"


def _indices(values: Sequence[str], names: Iterable[str]) -> list[int]:
    places = {value: place for place, value in enumerate(names)}
    return [places[value] for value in values]


def _groups(source: Source, columns: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Each row's combination of group values, among those that occur."""
    if not columns:
        return [0] * len(source.rows), ()
    values = [_column(source, column, "group") for column in columns]
    names = [class_names(found, column) for found, column in zip(values, columns, strict=True)]
    rows = list(zip(*(_indices(found, known) for found, known in zip(values, names, strict=True)), strict=True))
    present = sorted(set(rows))
    words = [", ".join(list(known.values())[i] for i, known in zip(row, names, strict=True)) for row in present]
    places = {row: place for place, row in enumerate(present)}
    return [places[row] for row in rows], tuple(words)


def _splits(source: Source, options: PhotoOptions, labels: Sequence[int]) -> list[str]:
    """The data's own splits; where all is for training, a test is held out. It may not depend on what is recognised:
    with another column as the target a generator would be asked about what it was fitted on. So every class gives its
    share only where there is no other column.
    """
    persons = None if options.split_by is None else _column(source, options.split_by, "split-by")
    own = [row.split or "train" for row in source.rows]
    if set(own) == {"train"}:
        units = persons or [row.name for row in source.rows]
        choices = set(source.labels) - {options.split_by}
        strata = labels if len(choices) == 1 else [0] * len(labels)
        held = hold_out(strata, units, options.holdout, options.split_seed)
        return ["test" if place in held else "train" for place in range(len(own))]
    if persons is not None:
        _check_apart(source.rows, own, persons, str(options.split_by))
    return own


def _check_apart(rows: Sequence[Row], splits: Sequence[str], persons: Sequence[str], column: str) -> None:
    seen: dict[str, str] = {}
    for row, split, person in zip(rows, splits, persons, strict=True):
        if seen.setdefault(person, split) != split:
            raise UserError(f"{row.where}: {column} {printable(person)} is in {seen[person]} and in {split}")


def _limited(entries: Sequence[Entry], limit: int | None, seed: int) -> list[Entry]:
    """At most `limit` entries of every split, drawn at random, in their old order."""
    if limit is None:
        return list(entries)
    by_split: dict[str, list[int]] = defaultdict(list)
    for place, entry in enumerate(entries):
        by_split[entry.split].append(place)
    kept: list[int] = []
    for split, places in by_split.items():
        order = torch.randperm(len(places), generator=generator(seed, "photos", "limit", split))
        kept += [places[i] for i in order[:limit]]
    return [entries[place] for place in sorted(kept)]
