"""A command in a fork of this process, which has everything imported already: a fresh process in a hundredth second."""

from __future__ import annotations

import errno
import gc
import io
import os
import random
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from advmix.cli import COMMANDS, main

OUT, ERR, DONE = "stdout", "stderr", "operations"
USUAL: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""Where this process was started with nohup or in the background, its forks were not."""
FREEING = ("os.remove", "os.rmdir", "os.truncate")
CHANGING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
"""Audit events of Python that change a folder; opening to write is another, and `os.fsync` has none."""


def preload() -> None:
    """Import what commands import, so that no fork has to; computes nothing."""
    torch.set_num_threads(1)
    for command in COMMANDS.values():
        command.load()
    for name in (
        "lightning_fabric",
        "sklearn.datasets",
        "torchvision.transforms.v2",
        "matplotlib.backends.backend_agg",
    ):
        import_module(name)
    gc.collect()
    gc.freeze()  # or else every fork would look through half a gigabyte of modules, and copy it


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; of a signal that killed it, the negative number.
        out: what it printed.
        err: what it said to stderr.
        operations: what it changed on disk, one after the other.
    """

    code: int
    out: str
    err: str
    operations: tuple[str, ...]

    @property
    def is_refusal(self) -> bool:
        """Whether it is one line and exit code 2."""
        return self.code == 2 and self.err.startswith("advmix: ") and self.err.count("\n") == 1


@dataclass(frozen=True)
class Running:
    """A process that was started."""

    pid: int
    logs: Path

    def end(self, limit: float = 600) -> Ended:
        """Wait for its end.

        Raises:
            TimeoutError: it takes longer than so many seconds.
        """
        until = time.monotonic() + limit
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"{self.logs}: still running after {limit} s")
            time.sleep(0.002)
        out, err, done = ((self.logs / name).read_text(errors="replace") for name in (OUT, ERR, DONE))
        return Ended(os.waitstatus_to_exitcode(status), out, err, tuple(done.splitlines()))


def run(words: Sequence[object], folder: Path, logs: Path, **fault: Any) -> Ended:
    """`start`, and its end."""
    return start(words, folder, logs, **fault).end()


def start(
    words: Sequence[object],
    folder: Path,
    logs: Path,
    kill_at: int | None = None,
    full_at: int | None = None,
    before: Callable[[], object] | None = None,
    encoding: str = "utf-8",
) -> Running:
    """Start `advmix WORDS` in a folder.

    Args:
        words: the command line.
        folder: the working folder; changes below it are counted.
        logs: another folder, for what is printed.
        kill_at: SIGKILL comes before change number so many, from 0; where the change is the `fsync` of a file, half of
            what was written is lost too.
        full_at: the disk is full from change number so many on: files can be removed, and nothing else.
        before: called in the new process first.
        encoding: of what is printed.

    No time passes in it, so that the same run writes the same bytes.
    """
    logs.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Running(pid, logs)
    code = 1
    try:
        _redirect(logs, encoding)
        os.chdir(folder)
        for seed in (torch.seed, random.seed):  # nothing may depend on them
            seed()
        time.monotonic = lambda: 0.0
        for number, handler in USUAL.items():
            signal.signal(number, handler)
        log = os.open(logs / DONE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        _watch(str(folder.resolve()), log, kill_at, full_at)
        if before is not None:
            before()
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # a bug of the command: what Python would print, too
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _redirect(logs: Path, encoding: str) -> None:
    for number, name in ((1, OUT), (2, ERR)):
        descriptor = os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding) for number in (1, 2))


def _watch(folder: str, log: int, kill_at: int | None, full_at: int | None) -> None:
    """Count every change below the folder, and die at one of them, or refuse all from one of them on."""
    count, inside, sync = 0, False, os.fsync

    def note(words: str, descriptor: int | None = None) -> None:
        nonlocal count, inside
        if count == kill_at:
            inside = True
            if descriptor is not None:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        if full_at is not None and count >= full_at and not words.startswith(FREEING):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.write(log, f"{words}\n".encode())
        count += 1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if inside:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in CHANGING:
            return
        path = arguments[0]
        if isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(folder):
            note(f"{event} {path if isinstance(path, int) else os.fsdecode(path)}")

    def fsync(descriptor: Any) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            note("fsync", descriptor)
        sync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
