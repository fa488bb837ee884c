"""Which outputs of a network are which class, as `--classes` says: `0-39=young *=old`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from advmix.errors import UserError

REST = "*"
SHOWN = 20


def groups_of(
    entries: Sequence[str], outputs: int, names: Sequence[str] = (), independent: bool = False
) -> dict[str, list[int]]:
    """The outputs of each class, in the order of the entries.

    Args:
        entries: `OUTPUT,OUTPUT=CLASS`; an output is a name, a number, a range `0-39`, or `*` for all that no other
            entry names. A class may have several entries.
        outputs: how many there are, K.
        names: of the outputs; empty where unknown.
        independent: whether each says yes or no on its own; then `*` stands for no to all that are named, and is empty.

    Returns:
        Numbers of outputs by class; those that no entry names are left out.

    Raises:
        UserError: an output that is not there, or in two classes; or fewer than two classes.
    """
    found: dict[str, list[int]] = {}
    rest = ""
    for entry in entries:
        left, _, name = entry.partition("=")
        if not left or not name:
            raise UserError(f"--classes {entry}: write OUTPUT,OUTPUT=CLASS")
        found.setdefault(name, [])
        if left == REST:
            rest = name
        else:
            found[name] += _outputs(left, entry, outputs, names)
    taken = [number for numbers in found.values() for number in numbers]
    twice = sorted({number for number in taken if taken.count(number) > 1})
    if twice:
        raise UserError(f"--classes {' '.join(entries)}: output {twice[0]} is named twice")
    if rest and not independent:
        found[rest] += [number for number in range(outputs) if number not in taken]
    if len(found) < 2:
        raise UserError(f"--classes {' '.join(entries)}: a single class; name two or more")
    return found


def _outputs(left: str, entry: str, outputs: int, names: Sequence[str]) -> list[int]:
    """The numbers that stand left of an equals sign; a name may have commas of its own."""
    whole = _output(left, names)
    if whole is not None:
        return [whole]
    numbers: list[int] = []
    for part in left.split(","):
        named, span = _output(part.strip(), names), re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if named is not None:
            numbers.append(named)
        elif span and int(span[1]) <= int(span[2] or span[1]) < outputs:
            numbers += range(int(span[1]), int(span[2] or span[1]) + 1)
        else:
            raise UserError(f"--classes {entry}: no output {part.strip()}; {_there(part.strip(), outputs, names)}")
    return numbers


def _output(name: str, names: Sequence[str]) -> int | None:
    """The number of the output that is called so, in capitals or not."""
    for known, wanted in ((list(names), name), ([one.casefold() for one in names], name.casefold())):
        if known.count(wanted) == 1:
            return known.index(wanted)
    return None


def _there(name: str, outputs: int, names: Sequence[str]) -> str:
    numbered = f"they are numbered 0 to {outputs - 1}"
    if not names:
        return numbered
    close = difflib.get_close_matches(name, names, SHOWN) if len(names) > SHOWN else list(names)
    listed = ", ".join(close or list(names)[:SHOWN])
    return f"{numbered}, and called {listed}{' and so on' if len(names) > SHOWN else ''}"
