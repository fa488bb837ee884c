"""What a person sees of a long job: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

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
def track(title: str, total: int, start: int = 0) -> Iterator[Advance]:
    """Yield `advance(steps, note)`.

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
            console.print(f"  {title}: {done}/{total} {note} ({last - begun:.0f} s)")

    yield advance


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Print nothing meanwhile."""
    before, console.quiet = console.quiet, quiet or console.quiet
    try:
        yield
    finally:
        console.quiet = before


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
