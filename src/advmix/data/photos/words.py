"""The words of data sets: what splits are called, how values become class names, how names and errors are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLIT_NUMBERS = {"0": "train", "1": "val", "2": "test"}
LABEL_COLUMNS = ("class", "label", "labels", "target", "y")
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
    try:
        return sorted(values, key=lambda value: (float(value), value))
    except ValueError:
        return sorted(values, key=lambda value: (value.casefold(), value))


def printable(text: str) -> str:
    """A name as one line that cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def first_few(texts: Iterable[str], count: int = 10) -> str:
    """`"a, b, c"`, after `count` of them `"... and 5 more"`."""
    listed = [printable(text) for text in texts]
    more = f" and {len(listed) - count:,} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more


def in_short(error: Exception) -> str:
    """The first sentence; what follows is often advice about Python code."""
    return str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
