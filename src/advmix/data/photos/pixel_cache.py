"""Decoded images on disk: each is decoded once, and read by every command and process after that.

An entry is two files: `KEY.pixels`, the bytes, and `KEY.json`, what is known of them, written last. The key is a digest
of the files' paths, sizes and times, and of the settings that matter. Bytes of another digest than the one that was
written down are never believed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from advmix.data.images import slices
from advmix.data.photos.decode import Broken, Decoded, decode_all
from advmix.utils.errors import UserError
from advmix.utils.files import TEMPORARY, read_json, sha256, write_json
from advmix.utils.machine import MACHINE
from advmix.utils.progress import Advance, track

VARIABLE = "ADVMIX_CACHE"
"""Environment variable: the cache's folder, or `none`."""
CACHE_BYTES, FREE_SHARE = 20 * 10**9, 0.5
"""Of all entries where nothing is said; and the share of a disk's free bytes that an entry may take."""
PIXELS, FACTS = ".pixels", ".json"
PART_IMAGES = 4096
"""Images that are decoded between two writes."""
ABANDONED_SECONDS = 24 * 3600.0
"""Age from which a file that was not finished is somebody's who has died."""
VERSION = "1"
"""To be raised where the same files are decoded to other bytes than before."""

Opener = Callable[[str], Image.Image]


def usual_folder() -> Path:
    """Where programs of this user keep what can be made again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or "~/.cache").expanduser() / "advmix"


@dataclass(frozen=True)
class PixelCache:
    """A folder of decoded images.

    >>> cache = PixelCache.named()
    >>> cache.bytes, cache.clear()

    Args:
        folder: where they are.
        limit: bytes of all entries; the one that was used longest ago goes first.
    """

    folder: Path
    limit: int = CACHE_BYTES

    @staticmethod
    def named() -> PixelCache | None:
        """The cache of this process: of `--cache`, else of `$ADVMIX_CACHE`, else the user's; None for none.

        Raises:
            UserError: the folder is something else.
        """
        said = MACHINE.cache or os.environ.get(VARIABLE)
        if said == "none":
            return None
        try:
            folder = Path(said).expanduser() if said else usual_folder()
            is_something_else = folder.exists() and not folder.is_dir()
        except (RuntimeError, OSError) as error:
            if not said:  # no home, or a closed one
                return None
            reason = getattr(error, "strerror", None) or "no such home"
            raise UserError(
                f"--cache {said[:100]}: cannot be a folder ({reason}); name another one, or none"
            ) from error
        if is_something_else:
            raise UserError(f"--cache {folder}: not a folder; name one, or none")
        return PixelCache(folder, MACHINE.cache_size or CACHE_BYTES)

    @property
    def entries(self) -> list[Path]:
        """Facts of the finished entries, the one that was used longest ago first."""
        found = [(_seconds(path), path) for path in self.folder.glob(f"*{FACTS}") if _is_ours(path)]
        return [path for _, path in sorted(found)]

    @property
    def bytes(self) -> int:
        """Of all files of the cache."""
        return sum(_size(path) for path in self._files())

    def _files(self) -> list[Path]:
        return [path for path in self.folder.glob("*") if _is_ours(path)]

    def _is_finished(self, path: Path) -> bool:
        return path.suffix in (PIXELS, FACTS) and (self.folder / f"{path.stem}{FACTS}").is_file()

    def clear(self) -> int:
        """Remove all entries, also those that are being written; returns the bytes that they took. Nothing else in the
        folder is touched.
        """
        before = self.bytes
        for path in self._files():
            _remove(path)
        return before - self.bytes

    def read(self, key: str) -> Decoded | None:
        """An entry, its pixels mapped into memory; None where there is none, or a damaged one, which is removed."""
        facts, pixels = self.folder / f"{key}{FACTS}", self.folder / f"{key}{PIXELS}"
        if not facts.is_file():
            return None
        try:
            decoded = _opened(read_json(facts), pixels)
        except (OSError, UserError, ValueError, KeyError, TypeError, AttributeError):
            self.remove(key)
            return None
        with suppress(OSError):  # a cache that may only be read
            os.utime(facts)
        return decoded

    def remove(self, key: str) -> None:
        """Remove an entry; who has mapped it keeps it."""
        _remove(self.folder / f"{key}{FACTS}")
        _remove(self.folder / f"{key}{PIXELS}")

    def has_room(self, count: int) -> bool:
        """Whether so many bytes may be written."""
        if count > self.limit:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        return count <= FREE_SHARE * shutil.disk_usage(self.folder).free

    def facts(self, key: str) -> dict[str, Any]:
        """What is known of an entry.

        Raises:
            UserError: it is gone or damaged.
        """
        facts: dict[str, Any] = read_json(self.folder / f"{key}{FACTS}")
        return facts

    def write(
        self, key: str, parts: Callable[[Callable[[Decoded], None]], object], more: Mapping[str, Any] | None = None
    ) -> Decoded | None:
        """Write an entry, and read it again.

        Args:
            key: of it.
            parts: gives each part of the images to the function that it is called with.
            more: facts to be kept beside the others, once all parts are there.
        """
        mark = f"{key}.{os.getpid()}-{time.time_ns()}.part"
        written, digest, known = self.folder / mark, hashlib.sha256(), list[Decoded]()
        try:
            with written.open("wb") as file:

                def put(part: Decoded) -> None:
                    data = np.ascontiguousarray(part.pixels.numpy()).data
                    digest.update(data)
                    file.write(data)
                    known.append(replace(part, pixels=part.pixels.new_empty(0, *part.pixels.shape[1:])))

                parts(put)
            self._finish(key, written, {**_facts(known), **(more or {}), "bytes_sha256": digest.hexdigest()})
        finally:
            _remove(written)
        self._make_room(key)
        return self.read(key)

    def _finish(self, key: str, written: Path, facts: dict[str, Any]) -> None:
        """Make an entry of a file of pixels; where its facts cannot be written, nothing is left of it."""
        try:
            written.replace(self.folder / f"{key}{PIXELS}")
            write_json(self.folder / f"{key}{FACTS}", facts)
        except BaseException:
            self.remove(key)
            raise

    def _make_room(self, kept: str) -> None:
        """Remove what was used longest ago, but not the entry `kept`, and what was never finished."""
        for path in self._files():
            if not self._is_finished(path) and time.time() - _seconds(path) > ABANDONED_SECONDS:
                _remove(path)
        for facts in self.entries:
            if self.bytes <= self.limit:
                break
            if facts.stem != kept:
                self.remove(facts.stem)


def decode_once(
    opener: Opener, names: Sequence[str], stamp: str | None, size: int, channels: int, crop: str
) -> Decoded:
    """`decode_all`, from the cache where that knows these files as they are now.

    Args:
        opener: from name to image.
        names: of the images.
        stamp: changes with any of the files; None where nothing is known of them, and nothing is kept.
        size: width and height of the result, in pixels.
        channels: 1 or 3.
        crop: one of `CROPS`.

    Raises:
        UserError: more memory than there is.
    """
    settings, cache = (size, channels, crop), None if stamp is None else PixelCache.named()
    shape = (len(names), channels, size, size)
    if cache is None or not names:
        return _decoded(opener, names, settings)
    key = sha256(VERSION, repr(settings), str(stamp), *(f"{name}\0" for name in names))[:32]
    found = cache.read(key)
    if found is not None and _are_broken(opener, found.broken, settings):
        return found
    try:
        if not cache.has_room(prod(shape)):
            return _decoded(opener, names, settings)
        kept = cache.write(key, lambda put: _decode_parts(opener, names, settings, put))
    except (OSError, UserError):  # a full disk, a folder that is closed: the images are there all the same
        kept = None
    return _decoded(opener, names, settings) if kept is None else kept


def _decoded(opener: Opener, names: Sequence[str], settings: tuple[int, int, str]) -> Decoded:
    with track("read images", len(names)) as advance:
        return decode_all(opener, names, *settings, advance)


def _decode_parts(
    opener: Opener, names: Sequence[str], settings: tuple[int, int, str], put: Callable[[Decoded], None]
) -> None:
    with track("read images", len(names)) as advance:
        for rows in slices(len(names), PART_IMAGES):
            put(_part(opener, names, rows, settings, advance))


def _part(
    opener: Opener, names: Sequence[str], rows: slice, settings: tuple[int, int, str], advance: Advance
) -> Decoded:
    found = decode_all(opener, names[rows], *settings, advance)
    return Decoded(found.pixels, found.kept + rows.start, found.broken, found.sizes, found.modes)


def _are_broken(opener: Opener, broken: Sequence[Broken], settings: tuple[int, int, str]) -> bool:
    """Whether images that could not be read still cannot be: a disk may have been away."""
    return not len(decode_all(opener, [image.name for image in broken], *settings).kept)


def _facts(parts: Sequence[Decoded]) -> dict[str, Any]:
    """What is known of an entry, as JSON values."""
    kept = torch.cat([part.kept for part in parts])
    broken = [image for part in parts for image in part.broken]
    sizes: Counter[tuple[int, int]] = sum((part.sizes for part in parts), Counter())
    modes: Counter[str] = sum((part.modes for part in parts), Counter())
    return {
        "shape": [len(kept), *parts[0].pixels.shape[1:]],
        "kept": kept.tolist() if broken else None,
        "broken": [[image.name, image.reason] for image in broken],
        "sizes": [[*size, count] for size, count in sizes.items()],
        "modes": dict(modes),
    }


def _opened(facts: dict[str, Any], path: Path) -> Decoded:
    """What `write` wrote.

    Raises:
        ValueError: other bytes than were written, and likewise other errors.
    """
    shape = tuple(int(side) for side in facts["shape"])
    if len(shape) != 4 or min(shape) < 1 or path.stat().st_size != prod(shape):
        raise ValueError("of another size")
    pixels = torch.from_numpy(np.memmap(path, np.uint8, "c", shape=shape))
    if sha256(pixels) != facts["bytes_sha256"]:
        raise ValueError("other bytes")
    kept = torch.arange(shape[0]) if facts["kept"] is None else torch.tensor(facts["kept"], dtype=torch.int64)
    if kept.shape != shape[:1]:
        raise ValueError("other rows")
    return Decoded(
        pixels,
        kept,
        tuple(Broken(str(name), str(reason)) for name, reason in facts["broken"]),
        Counter({(int(width), int(height)): int(count) for width, height, count in facts["sizes"]}),
        Counter({str(mode): int(count) for mode, count in facts["modes"].items()}),
    )


def _is_ours(path: Path) -> bool:
    """Whether a file is called as those of the cache are, 32 hex digits and an ending, or is one half-written."""
    key, _, ending = path.name.partition(".")
    if path.name.endswith(TEMPORARY):
        return True
    return len(key) == 32 and set(key) <= set("0123456789abcdef") and f".{ending}".endswith((PIXELS, FACTS, ".part"))


def _seconds(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _remove(path: Path) -> None:
    with suppress(OSError):  # another process has removed it, or, on Windows, still reads it
        path.unlink()
