"""Seconds: of a run's phases, over all the sessions that it took, and of what a folder holds. They stand in files of
their own, so that the same run writes the same bytes, and a damaged one blocks nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from advmix.errors import UserError
from advmix.files import read_json, write_json

FILE, KEPT = "phases.json", "seconds.json"


def write_seconds(folder: Path, **seconds: float) -> None:
    """Keep how long what lies in a folder took to make, by name."""
    write_json(folder / KEPT, {name: round(value, 2) for name, value in seconds.items()})


def read_seconds(folder: Path) -> dict[str, float]:
    """What `write_seconds` wrote; nothing where that is not there or damaged."""
    return _read(folder / KEPT)


def _read(path: Path) -> dict[str, float]:
    try:
        found = read_json(path)
    except UserError:
        return {}
    known = found.items() if isinstance(found, dict) else ()
    return {name: float(value) for name, value in known if isinstance(value, int | float)}


class Clock:
    """Seconds of each phase, kept in a file of the run's folder so that a session that goes on adds to them.

    >>> clock = Clock(out)
    >>> with clock("search"):
    ...     search()
    >>> clock.seconds, clock.stop()

    What is lost is the time of a session that was killed outright, as opposed to interrupted.

    Args:
        folder: of the run; None keeps nothing, for processes beside the first.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        self.seconds = {} if self._path is None else _read(self._path)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.monotonic() - begun, 2)
            if self._path is not None:
                self._keep(self._path)

    def _keep(self, path: Path) -> None:
        """Without these seconds a run goes on all the same: whatever is wrong with the folder, the run itself says."""
        with suppress(UserError):
            write_json(path, self.seconds)

    def stop(self) -> None:
        """Everything is done: the file goes."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
