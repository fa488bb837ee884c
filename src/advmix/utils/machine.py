"""What the machine lends to this process: options of every command, which change no result and are saved with none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from advmix.utils.errors import UserError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
HELP = (
    "COMMAND --memory 2GB bounds what networks work in at once; --cache DIR or none, --cache-size 20GB: where decoded "
    "images are kept, and how many bytes of them."
)


@dataclass
class Machine:
    """What was said of it.

    Attributes:
        memory: bytes in which networks may work, beside weights, images and pool; None where nothing was said.
        cache: folder of decoded images, or `none`; None where nothing was said.
        cache_size: bytes of all of them, likewise.
    """

    memory: int | None = None
    cache: str | None = None
    cache_size: int | None = None


MACHINE = Machine()


def read_bytes(text: str, flag: str) -> int:
    """A number of bytes: `2GB`, `500 MB`, `1.5GB`.

    Raises:
        UserError: not one, or less than a megabyte.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([A-Z]*)", text.strip().upper())
    if found is None or found[2] not in UNITS or not 10**6 <= float(found[1]) * UNITS[found[2]] < 2**62:
        raise UserError(f"--{flag} {text}: must be a number of bytes from 1MB, such as 2GB or 500MB")
    return int(float(found[1]) * UNITS[found[2]])


def take_machine(words: list[str]) -> list[str]:
    """Set `MACHINE` by a command line; returns the rest of it.

    Raises:
        UserError: a value that is none.
    """
    rest, MACHINE.cache = take_option(words, "cache")
    rest, size = take_option(rest, "cache-size")
    rest, memory = take_option(rest, "memory")
    MACHINE.cache_size = None if size is None else read_bytes(size, "cache-size")
    MACHINE.memory = None if memory is None else read_bytes(memory, "memory")
    return rest


def take_option(words: list[str], flag: str) -> tuple[list[str], str | None]:
    """A command line without `--flag VALUE` or `--flag=VALUE`, and the value.

    Raises:
        UserError: no value follows.
    """
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith(f"--{flag}=") else [word])]
    if f"--{flag}" not in parts:
        return words, None
    place = parts.index(f"--{flag}")
    if place + 1 == len(parts):
        raise UserError(f"--{flag}: no value follows")
    return parts[:place] + parts[place + 2 :], parts[place + 1]
