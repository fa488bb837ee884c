"""What a person sees of a long job: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True, emoji=False)
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
