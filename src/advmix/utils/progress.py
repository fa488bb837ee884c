"""What a person sees of a long job: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from advmix.utils.errors import UserError
from advmix.utils.files import read_json, write_json

WIDEST = 10_000

"""Characters of a table that nothing narrows."""


class _Console(Console):
    def print(self, *objects: Any, **how: Any) -> None:
        """As its own, but no number or word of a table is cut: on a narrow terminal its lines run on."""
        for table in objects:
            if isinstance(table, Table):
                self._keep_words(table)
        super().print(*objects, **({"crop": False} | how))

    def _keep_words(self, table: Table) -> None:
        options = self.options.update(width=WIDEST)
        for column in table.columns:
            cells = [Measurement.get(self, options, cell) for cell in (column.header, *column.cells)]
            column.min_width = max(cell.maximum if column.no_wrap else cell.minimum for cell in cells)
        least = Measurement.get(self, options, table).minimum
        table.width = least if least > self.width else table.width


console = _Console(highlight=False, soft_wrap=True, emoji=False)

LINE_SECONDS = 10.0

Advance = Callable[[int, str], None]


@contextmanager
def track(title: str, total: int | None, start: int = 0) -> Iterator[Advance]:
    """Yield `advance(steps, note)`; a total of None is not known.

    >>> with track("fit", 600) as advance:
    ...     advance(1, "loss 0.02")
    """
    if console.is_terminal:
        with _bar() as bar:
            task = bar.add_task(title, total=total, completed=start, note="")
            yield lambda steps, note: bar.update(task, advance=steps, note=note)
        return
    done, last, begun = start, time.monotonic(), time.monotonic()

    def advance(steps: int, note: str) -> None:
        nonlocal done, last
        done += steps
        if time.monotonic() - last > LINE_SECONDS or done == total:
            last = time.monotonic()
            shown = done if total is None else f"{done}/{total}"
            console.print(f"  {title}: {shown} {note} ({last - begun:.0f} s)")

    yield advance


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Print nothing meanwhile."""
    before, console.quiet = console.quiet, quiet or console.quiet
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def on_stderr(wanted: bool = True) -> Iterator[None]:
    """Print on the standard error meanwhile, so that the standard output holds the result alone."""
    before, console.stderr = console.stderr, wanted or console.stderr
    try:
        yield
    finally:
        console.stderr = before


def _bar() -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
    )


PHASES_FILE, SECONDS_FILE = "phases.json", "seconds.json"


def write_seconds(folder: Path, **seconds: float) -> None:
    """Keep how long what lies in a folder took to make, by name."""
    write_json(folder / SECONDS_FILE, {name: round(value, 2) for name, value in seconds.items()})


def read_seconds(folder: Path) -> dict[str, float]:
    """What `write_seconds` wrote; nothing where that is not there or damaged."""
    return _read(folder / SECONDS_FILE)


def _read(path: Path) -> dict[str, float]:
    try:
        found = read_json(path)
    except UserError:
        return {}
    known = found.items() if isinstance(found, dict) else ()
    return {name: float(value) for name, value in known if isinstance(value, int | float)}


class PhaseTimer:
    """Seconds of each phase, kept in a file of the run's folder so that a session that goes on adds to them.

    >>> clock = Clock(out)
    >>> with clock("search"):
    ...     search()
    >>> clock.seconds

    What is lost is the time of a session that was killed outright, as opposed to interrupted.

    The file goes when the run ends (`runs.open_run`).

    Args:
        folder: of the run; None keeps nothing, for processes beside the first.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / PHASES_FILE
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
