"""A data set before any image is decoded: its rows, their classes, which are for training, and how to open them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property

import torch
from PIL import Image

from advmix.data.photos.decode import Decoded, PhotoOptions
from advmix.utils.errors import UserError, printable
from advmix.utils.torch_tools import generator


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
        stamp: from names to a text that changes with any of their files; None where these are not known.
        decoded: from names to their images, where they are decoded already.
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
    stamp: Callable[[Sequence[str]], str | None] = lambda names: None
    decoded: Callable[[Sequence[str]], Decoded | None] = lambda names: None

    @cached_property
    def labels(self) -> list[str]:
        """The columns that rows have; those of one split are alike."""
        first = {row.split: row for row in reversed(self.rows)}
        return list(dict.fromkeys(column for row in reversed(first.values()) for column in row.values))

    def lacks(self, row: Row, column: str) -> bool:
        """Whether a row has no value of a column, or a word for none that nobody meant as a name."""
        value = row.values.get(column, "")
        return not value or (column not in self.named and is_missing(value))


SPLITS = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "eval", "evaluation"),
    "test": ("test", "testing", "holdout", "heldout"),
}

BESIDE = ("data", "set", "sub", "split", "part", "seg", "images?", "imgs?", "pictures", "photos", r"\d")

"""What may stand before or after the name of a split: `test_set`, `images-train`, `val2017`. No part begins another, so
that a long word takes no long time.
"""

SPLIT_NUMBERS = {"0": "train", "1": "val", "2": "test"}

MISSING = ("", "nan", "n/a", "na", "#n/a", "#na", "<na>", "null", "nil", "none", "nat", "?", "-", "--", ".")

"""What programs and people write where there is no value."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

SYSTEM = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN", "System Volume Information")

"""What operating systems and disk stations leave beside images."""

LABEL_COLUMNS = ("class", "cls", "label", "labels", "target", "y")

"""Columns that hold the label where none is named; their name says nothing of what the label is."""

YES_NO = (("0", "1"), ("-1", "1"), ("false", "true"), ("no", "yes"))


def class_names(values: Iterable[str], column: str, known: Sequence[str] = ()) -> dict[str, str]:
    """From each value of a column to its name, in the order of the classes.

    What a library knows of the column comes in the library's order, whether it occurs or not. Else numbers are in their
    own order, everything else in the alphabet's, capitals and small letters alike: the order depends neither on the
    files' order nor on how many there are.
    A column of yes and no (0 and 1, -1 and 1, false and true) gives the names `not Smiling` and `Smiling`, unless
    the column is one of `LABEL_COLUMNS`.

    >>> class_names(["1", "-1", "1"], "Smiling")
    {'-1': 'not Smiling', '1': 'Smiling'}
    >>> class_names(["10", "9"], "label")
    {'9': '9', '10': '10'}
    """
    ordered = list(known) or _sorted(set(values))
    plain = [value.lower().removesuffix(".0") for value in ordered]
    for no, yes in YES_NO:
        if column.lower() not in LABEL_COLUMNS and len(set(plain)) == len(plain) and set(plain) <= {no, yes}:
            return {
                value: column if word == yes else f"not {column}" for value, word in zip(ordered, plain, strict=True)
            }
    return {value: value for value in ordered}


def _sorted(values: set[str]) -> list[str]:
    if all(is_number(value) for value in values):
        return sorted(values, key=lambda value: (float(value), value))
    return sorted(values, key=lambda value: (value.casefold(), value))


def is_number(text: str) -> bool:
    """Whether a word is a finite decimal number, as tables have them."""
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def is_missing(value: str) -> bool:
    """Whether it is one of the words for no value."""
    return value.strip().lower() in MISSING


def split_word(text: str) -> str | None:
    """`train`, `val` or `test` where a folder or split is called so in any of the usual ways, else None.

    >>> split_word("Test_Set"), split_word("train2017"), split_word("trainer")
    ('test', 'train', None)
    """
    plain = re.sub(r"[-_. ]", "", text.lower())
    beside = "|".join(BESIDE)
    for split, words in SPLITS.items():
        if re.fullmatch(f"(?:{beside})*(?:{'|'.join(words)})(?:{beside})*", plain):
            return split
    return None


def split_named(word: str, where: str) -> str:
    """`train`, `val` or `test`, as a column `split` says it.

    Raises:
        UserError: none of them, naming the row.
    """
    split = SPLIT_NUMBERS.get(word) or split_word(word)
    if split is None:
        raise UserError(f"{where}: split {printable(word)!r} is unknown; use train, val or test (or 0, 1 or 2)")
    return split


def alike(values: Iterable[str]) -> list[list[str]]:
    """Values that are probably one: equal numbers written in two ways, words that differ in capitals, spaces or how
    their letters are encoded.

    >>> alike(["1", "1.0", "cat", "Cat", "dog"])
    [['1', '1.0'], ['cat', 'Cat']]
    """
    found: dict[object, list[str]] = defaultdict(list)
    for value in values:
        word = re.sub(r"[\s_]", "", unicodedata.normalize("NFKC", value).casefold())
        found[float(value) if is_number(value) else word].append(value)
    return [same for same in found.values() if len(same) > 1]


def is_text(name: str) -> bool:
    """Whether it can be written as UTF-8. Python keeps other bytes of a file's name as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_hidden(part: str) -> bool:
    """Whether a file or folder is there for the system's own use, not the user's."""
    return part.startswith(".") or part in SYSTEM


def first_few(texts: Iterable[str], count: int = 10) -> str:
    """`"a, b, c"`, after `count` of them `"... and 5 more"`."""
    listed = [printable(text) for text in texts]
    more = f" and {len(listed) - count:,} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more


def counted(kinds: Mapping[tuple[str, str], int]) -> str:
    """`"3 links that lead nowhere, 1 folder that cannot be opened"`; each kind in singular and plural."""
    return ", ".join(f"{count:,} {words[count > 1]}" for words, count in sorted(kinds.items()))


def in_short(error: Exception) -> str:
    """The first sentence; what follows is often advice about Python code."""
    return str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__


LEAVABLE_SPLITS = ("val", "test")

"""Those that may come without labels."""

HIDDEN = "-1"

MANY_NUMBERS = 20

"""More classes than these that are all numbers are probably measurements."""


def without_unlabelled(source: Source, target: str) -> tuple[Source, list[str]]:
    """Without the validation or test images of a split where none has a label, as publishers leave them out to judge
    by, with a remark for each such split. -1 is no label where a whole split has it and nothing else does.
    """
    splits = {split: [row for row in source.rows if row.split == split] for split in LEAVABLE_SPLITS}
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
    """One image: its name in the source, class, group and site by index, what `split_by` keeps together (a number for
    each person), and `train`, `val` or `test`.
    """

    name: str
    label: int
    group: int
    site: int
    unit: int
    split: str


@dataclass(frozen=True)
class Table:
    """Every image of a data set, and what the classes, groups and sites are called.

    Args:
        entries: in the source's order.
        classes: names.
        groups: names of the combinations of group values, `"not Male, Young"`; empty without group columns.
        sites: names; empty without a site column.
        notes: remarks about what may be wrong with them, a line each.
        unlabelled: how many images there are without a label.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    sites: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unlabelled: int = 0


def make_table(source: Source, options: PhotoOptions, seed: int) -> Table:
    """Labels, groups and sites from the columns that are asked for, splits of the data's own or held out; `limit` by
    the seed.

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
    groups, group_names = _groups(source, options.group, "group")
    sites, site_names = _groups(source, () if options.site is None else (options.site,), "site")
    units, splits = _units(source, options.split_by), _splits(source, options, labels)
    rows = zip(source.rows, labels, groups, sites, units, splits, strict=True)
    entries = [Entry(row.name, *known) for row, *known in rows]
    notes += remarks(values, target, known=target in source.classes, named=target in source.named)
    for column in dict.fromkeys((*options.group, *filter(None, (options.site,)))):
        notes += remarks_on_spelling(_column(source, column, "group"), column)
    entries = _limited(entries, options.limit, seed)
    return Table(tuple(entries), tuple(names.values()), group_names, site_names, tuple(notes), source.unlabelled)


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


def _groups(source: Source, columns: Sequence[str], flag: str) -> tuple[list[int], tuple[str, ...]]:
    """Each row's combination of values of some columns, among those that occur, and what these are called."""
    if not columns:
        return [0] * len(source.rows), ()
    values = [_column(source, column, flag) for column in columns]
    names = [class_names(found, column) for found, column in zip(values, columns, strict=True)]
    rows = list(zip(*(_indices(found, known) for found, known in zip(values, names, strict=True)), strict=True))
    present = sorted(set(rows))
    words = [", ".join(list(known.values())[i] for i, known in zip(row, names, strict=True)) for row in present]
    places = {row: place for place, row in enumerate(present)}
    return [places[row] for row in rows], tuple(words)


def _units(source: Source, column: str | None) -> list[int]:
    """A number for each row: the same for rows that must stay together."""
    if column is None:
        return list(range(len(source.rows)))
    persons = _column(source, column, "split-by")
    return _indices(persons, dict.fromkeys(persons))


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
