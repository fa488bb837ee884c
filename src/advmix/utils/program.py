"""Ctrl-C, a polite kill and a closed terminal are one thing: the run ends in good order and can go on."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from advmix import __version__
from advmix.utils.errors import ALONE, ThresholdError, UserError, printable
from advmix.utils.machine import HELP, take_machine

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


NARROWEST = 60

"""Characters of a terminal for which help is set, at least."""

INTERRUPTED = (
    "advmix: interrupted; what was done is kept: the same command goes on (with --resume, where it has that option)"
)

MORE_MEMORY = (
    "Perhaps other programs use it too: start fewer processes, take a smaller --memory or --batch, or --device cpu. "
    "What was done is kept, as after an interruption"
)

WITHOUT_MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory"),
    *("storage size calculation overflowed", "could not create a primitive", "failed to map segment"),
)

"""What torch, its kernels and the loader of shared libraries say where memory does not suffice, in small letters."""

LOST = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe", "NCCL", "gloo")

OF_THE_MACHINE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE),
)

"""System errors that say something of the machine or of a path, and nothing of this program."""


class Command(NamedTuple):
    """Where a command lives, and what it is for."""

    module: str
    config: str
    run: str
    summary: str

    def load(self) -> tuple[type[Any], Callable[[Any], Any]]:
        """Its settings, and the function that runs them."""
        module = import_module(self.module)
        return getattr(module, self.config), getattr(module, self.run)


@dataclass(frozen=True)
class Program:
    """Commands under one name.

    Attributes:
        name: as it is typed.
        title: what it does, in a sentence.
        commands: by name.
        prefix: what stands before a command's name in the configs that it saves.
    """

    name: str
    title: str
    commands: Mapping[str, Command]
    prefix: str = ""

    def main(self, arguments: list[str] | None = None) -> int:
        """Run a command.

        Returns:
            The exit code: 1 with a line for each figure below a threshold of the user's, 2 with one line for bad input,
            a machine without memory or a full disk, 128 and the number of the signal for an interruption, 141 where
            nobody reads the output any more (`| head`). A bug shows its traceback.
        """
        words = sys.argv[1:] if arguments is None else arguments
        _fill_streams()
        _take_any_encoding()
        try:
            with handling():
                try:
                    self._run(words)
                finally:
                    if sys.stdout is not None:
                        sys.stdout.flush()
        except KeyboardInterrupt as stop:
            _say(INTERRUPTED)
            return 128 + (stop.number if isinstance(stop, Interrupted) else 2)
        except BrokenPipeError:
            _forget_output()
            return 141
        except ThresholdError as error:
            for line in error.lines:
                _say(f"advmix: {printable(line)}")
            return 1
        except Exception as error:
            trouble = _in_one_line(error)
            if trouble is None:
                raise
            if isinstance(error, OSError) and error.filename is None:
                _forget_output()
            _say(f"advmix: {trouble}")
            return 2
        return 0

    def _run(self, words: list[str]) -> None:
        if not words or words[0] in ("-h", "--help"):
            print(self.overview())
        elif words[0] == "--version":
            print(f"advmix {__version__}")
        else:
            self._named(words[0]).load()[1](self.parse(words))

    def overview(self) -> str:
        """What `--help` says."""
        width = max(map(len, self.commands)) + 2
        listed = [f"  {name:<{width}}{command.summary}" for name, command in self.commands.items()]
        lines = [
            f"usage: {self.name} COMMAND [--FLAG VALUE ...]     (COMMAND --help: its flags, units and defaults)",
            "",
            self.title,
            "",
            *listed,
            "",
            f"COMMAND --config FILE runs a saved config.json again; further flags override it. {self.name} --version",
            HELP,
        ]
        return "\n".join(lines)

    def _named(self, name: str) -> Command:
        if name in self.commands:
            return self.commands[name]
        near = get_close_matches(name, self.commands, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{name[:40]}: no such command; {meant}choose from {', '.join(self.commands)}")

    def parse(self, words: list[str]) -> Any:
        """A command line as the settings of its command; `--config FILE` gives the defaults.

        Raises:
            UserError: whatever is wrong with it, in one line.
        """
        import tyro

        command, called = self._named(words[0]), f"{self.name} {words[0]}"
        _check_words(words[1:])
        rest, path = _take_config(take_machine(words[1:]))
        kind, _ = command.load()
        saved = {"default": _saved(path, self.prefix + words[0], kind)} if path is not None else {}
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors), _readable_width():
                config = tyro.cli(
                    kind,
                    prog=called,
                    args=rest,
                    config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
                    **saved,
                )
        except SystemExit as stop:
            if stop.code in (0, None):
                print(HELP)
                raise
            raise UserError(f"{_inside_box(errors.getvalue())} (see {called} --help{_unquoted(rest)})") from None
        if saved:
            _check_code(config, rest)
        return config


def _check_code(config: Any, words: list[str]) -> None:
    """A function that a saved config names is called only where the command line names it too, or trusts the file."""
    from advmix.utils import config as configs
    from advmix.utils.trust import check_trusted, code_in, trusting

    plain, said = configs.to_dict(config), {part for word in words for part in (word, word.partition("=")[2])}
    for name in code_in(plain):
        check_trusted(name, "--config", name in said or trusting(plain))


@contextlib.contextmanager
def _readable_width() -> Iterator[None]:
    """Help has frames and columns, which need some room."""
    before, columns = os.environ.get("COLUMNS"), max(shutil.get_terminal_size().columns, NARROWEST)
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def _take_config(words: list[str]) -> tuple[list[str], str | None]:
    """Remove `--config FILE`; returns FILE."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if "--config" not in words:
        return words, None
    place = words.index("--config")
    if place + 1 == len(words):
        raise UserError("--config: write advmix COMMAND --config FILE")
    return words[:place] + words[place + 2 :], words[place + 1]


def _saved(path: str, called: str, kind: type[Any]) -> Any:
    from advmix.utils import config as configs

    return configs.load(Path(path), called, kind, edited=True)


def _check_words(words: list[str]) -> None:
    """What the parser would take without a word: a flag twice, an empty value, a NUL."""
    flags = [re.sub("^--no-", "--", word.partition("=")[0].replace("_", "-")) for word in words if word[:2] == "--"]
    twice = [flag for flag, count in Counter(flags).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: given twice; leave one out")
    for flag, value in pairwise(words):
        if value == "":
            raise UserError(f"{flag}: an empty value; leave the flag out, or give it one")
    for word in words:
        if word[:2] == "--" and word.endswith("="):
            raise UserError(f"{word[:-1]}: an empty value; leave the flag out, or give it one")
        if "\0" in word:
            raise UserError(f"{word!r}: has a NUL character in it")


def _unquoted(words: list[str]) -> str:
    """A hint where the shell has filled in a pattern of shards."""
    several = sum(word.endswith(".tar") for word in words) > 1
    return "; put a pattern of shards in quotes" if several else ""


def _inside_box(text: str) -> str:
    """The message of tyro as one line: what stands above its first rule, without the frame; where the terminal has no
    letters for a frame, a heading and a rule come first.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    rows = [line.strip("│ ") for line in plain.splitlines() if line.strip("│ ") and line[:1] not in "╭╰"]
    rules = [place for place, row in enumerate(rows) if set(row) <= {"─", "-"}]
    parts = [rows[start:stop] for start, stop in pairwise([0, *rules, len(rows)])]
    message = parts[0] if "╭" in plain else (parts[1][1:] if len(parts) > 1 else parts[0])
    return re.sub(r"\s+", " ", " ".join(message)).strip()


def _in_one_line(error: Exception) -> str | None:
    """What a user must know of an error that is not ours to mend; None for a bug."""
    text = str(error)
    if isinstance(error, UserError):
        return printable(text)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in WITHOUT_MEMORY):
        return f"{_lacking(text)}. {MORE_MEMORY}"
    if isinstance(error, OSError):
        return _of_the_machine(error)
    if isinstance(error, RuntimeError) and any(words in text for words in LOST) and _is_one_of_several():
        return ALONE
    return None


def _lacking(text: str) -> str:
    """Who wanted how much memory, as far as the error says it."""
    first = (text.splitlines() or [""])[0].partition(" GPU ")[0].rpartition("DefaultCPUAllocator: ")[2].rstrip(".")
    said = printable(first)[:200]
    return said if "memory" in said else f"out of memory ({said})" if said else "out of memory"


def _of_the_machine(error: OSError) -> str | None:
    if error.errno not in OF_THE_MACHINE:
        return None
    place = str(error.filename)[:200] if error.filename is not None else "the output"
    return f"{printable(place)}: {error.strerror}"


def _is_one_of_several() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()


def _fill_streams() -> None:
    """Where the caller has closed a standard stream (`>&-`), no file that is opened later shall be taken for it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the smallest free number


def _take_any_encoding() -> None:
    """A letter that the terminal cannot show becomes a question mark, and never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def _forget_output() -> None:
    """What is left in the buffer goes nowhere, or Python would complain once more at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
