"""Ctrl-C, a polite kill and a closed terminal are one thing: the run ends in good order and can go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
Handler = Callable[[int, FrameType | None], object]


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def interrupt(number: int, frame: FrameType | None = None) -> NoReturn:
    """The handler that ends a run at once.

    Raises:
        Interrupted: always.
    """
    raise Interrupted(number)


@contextmanager
def handling(handler: Handler = interrupt) -> Iterator[None]:
    """Answer the signals of `ENDING` with `handler`, but for those that the caller has switched off (`nohup`); outside
    the main thread, where Python takes none, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], int]]:
    """Let the step in progress end before a signal takes effect; a second Ctrl-C takes effect at once.

    Yields:
        A function that returns the number of the signal that came, 0 where none did.
    """
    came = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = number
        signal.signal(signal.SIGINT, interrupt)

    with handling(note):
        yield lambda: came
