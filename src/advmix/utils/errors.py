"""The one error that is the user's to mend: the command line prints it as one line and exits with code 2."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

ALONE = "another process of this run ended; what was done is kept: go on with --resume"
"""Said by the processes that are left."""


class UserError(Exception):
    """Bad input. The message names the file or value and the remedy; anything else that is raised is a bug of ours."""


class ThresholdError(Exception):
    """A finished run whose figures are below what the user asked for: the command line prints a line for each and exits
    with code 1.

    Attributes:
        lines: which figures, each as one line.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@contextmanager
def naming(flag: str, instead_of: str = "--out") -> Iterator[None]:
    """Name the option that the user typed, where a study hands its value to something with an option of its own."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(instead_of, flag)) from error


def printable(text: str) -> str:
    """Somebody's text as one line that cannot steer a terminal: letters that are not to be printed become `�`."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def blame(error: BaseException) -> str:
    """An error of somebody's code in one line: kind, message, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)} ({last.filename}, line {last.lineno})"


def one_line(error: BaseException) -> str:
    """Kind and message of an error, the first line of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''}"
