"""Seconds of a run's phases, over all the sessions that it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advmix.files import read_json, write_json

FILE = "phases.json"


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
        known = self._path is not None and self._path.is_file()
        self.seconds: dict[str, float] = read_json(self._path) if self._path and known else {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.monotonic() - begun, 2)
            if self._path is not None and self._path.parent.is_dir():
                write_json(self._path, self.seconds)

    def stop(self) -> None:
        """Everything is done: the file goes."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
