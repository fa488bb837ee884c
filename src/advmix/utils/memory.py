"""How many rows a network is given at once: one limit in bytes, and what a row is measured to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

from advmix.utils.machine import MACHINE, read_bytes

T = TypeVar("T")

CPU_BYTES, GPU_SHARE = 2 * 10**9, 0.5
"""The limit where none is named: bytes on a CPU, and the share of what is free on a GPU."""
MOST_ROWS, FIRST_ROWS, TRIAL_ROWS = 250, 2, 8
"""More rows at once are no faster; so many are tried first, and so many where the first say that memory is short."""


@dataclass
class _Measuring:
    """Whether something is measured just now: what is called meanwhile is not measured too."""

    goes_on: bool = False


_MEASURING = _Measuring()


def set_memory(limit: str | int | None) -> None:
    """How much memory the networks of this process may work in, beside weights, images and pool.

    >>> set_memory("2GB")

    Args:
        limit: bytes, or as `--memory` takes it; None for 2 GB on a CPU, half of what is free on a GPU.

    Raises:
        UserError: not a number of bytes.
    """
    MACHINE.memory = read_bytes(limit, "memory") if isinstance(limit, str) else limit


def is_measuring() -> bool:
    """Whether a few rows are computed just now to learn what they take."""
    return _MEASURING.goes_on


def memory_limit(device: torch.device) -> int:
    """Bytes that networks on a device may work in."""
    if MACHINE.memory is not None:
        return MACHINE.memory
    if device.type == "cuda":
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return CPU_BYTES


class RowBudget:
    """How many rows some work takes at once: measured when it is done first, on a few, and kept.

    >>> budget = RowBudget()
    >>> torch.cat(budget.parts(lambda rows: model(images[rows]), len(images), images.device))

    Args:
        most: rows at once where memory is no matter.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self.most = most
        self.rows: int | None = None

    def parts(
        self,
        work: Callable[[slice], T],
        count: int,
        device: torch.device | str,
        advance: Callable[[int, str], object] | None = None,
        trial: Callable[[slice], object] | None = None,
    ) -> list[T]:
        """`work` of all of `count` rows, in order, as many at once as memory allows.

        Args:
            work: what is done with some rows. It says the same of a row whatever the others are, draws nothing, and may
                be called once more for the first ones.
            count: of all rows.
            device: where it is done.
            advance: is told how many are done.
            trial: what is measured in the place of long work, and takes as much memory.
        """
        if self.rows is None and not _MEASURING.goes_on and count > 1:
            self.rows = _rows_at_once(trial or work, count, self.most, torch.device(device))
        size = min(self.rows or self.most, self.most)
        found = []
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            found.append(work(part))
            if advance is not None:
                advance(part.stop - part.start, "")
        return found


def in_parts(work: Callable[[slice], T], count: int, device: torch.device | str, most: int = MOST_ROWS) -> list[T]:
    """`RowBudget.parts` of work that is done once."""
    return RowBudget(most).parts(work, count, device)


def _rows_at_once(work: Callable[[slice], object], count: int, most: int, device: torch.device) -> int:
    """How many rows fit: by two and, where these say that memory is short, by a few more; the first ones may cost more
    than the next, as where a network takes batches of a fixed size. Somebody's network may not take one alone.
    """
    limit, most = memory_limit(device), min(most, count)
    rows = limit * FIRST_ROWS // _peak_bytes(work, FIRST_ROWS, device)
    if FIRST_ROWS < rows < most:
        tried = min(rows, TRIAL_ROWS)
        rows = limit * tried // _peak_bytes(work, tried, device)
    return max(1, min(rows, most))


@dataclass
class _Peak:
    """Bytes that were in use at once, beyond those at the beginning."""

    bytes: int = 0


def _peak_bytes(work: Callable[[slice], object], rows: int, device: torch.device) -> int:
    """What `work` of the first rows takes at once, at least 1."""
    peak, _MEASURING.goes_on = _Peak(), True
    try:
        with (_of_cuda if device.type == "cuda" else _of_cpu)(peak, device):
            work(slice(0, rows))
    finally:
        _MEASURING.goes_on = False
    return max(1, peak.bytes)


@contextmanager
def _of_cuda(peak: _Peak, device: torch.device) -> Iterator[None]:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield
    peak.bytes = torch.cuda.max_memory_allocated(device) - before


@contextmanager
def _of_cpu(peak: _Peak, device: torch.device) -> Iterator[None]:
    """All that torch allocates is written down, what its kernels need besides too. Nothing is known where somebody else
    profiles this process already.
    """
    if torch._C._autograd._profiler_enabled():
        yield
        return
    torch._C._autograd._enable_profiler_legacy(
        ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig())
    )
    records: list[list[torch._C._autograd.ProfilerEvent]] = []
    try:
        yield
    finally:
        records = torch._C._autograd._disable_profiler_legacy()
    for thread in records:
        held = highest = 0
        for event in thread:
            if str(event.kind()) == "memory_alloc":
                held += event.cpu_memory_usage()
                highest = max(highest, held)
        peak.bytes += highest
