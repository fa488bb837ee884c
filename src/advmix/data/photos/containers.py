"""What lies in a folder: regular files alone, every real folder once."""

from __future__ import annotations

import hashlib
import os
import stat
import time
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from rich.filesize import decimal

from advmix.data.photos.rows import is_hidden, is_text, split_word
from advmix.utils.errors import UserError, printable

Kind = tuple[str, str]

"""What is passed over, one of it and several."""

AGAIN: Kind = ("link to a folder already read", "links to folders already read")

NOWHERE: Kind = ("link that leads nowhere", "links that lead nowhere")

IRREGULAR: Kind = ("that is no regular file", "that are no regular files")

CLOSED: Kind = ("folder that cannot be opened", "folders that cannot be opened")

Key = tuple[int, int]


def walk(place: Path) -> tuple[list[str], Counter[Kind]]:
    """Names of the files in a folder and its subfolders, `/` between their parts, and how many things were passed over,
    by kind. Hidden ones are neither.

    Links are followed to regular files and to folders. A folder is read once, by its own name if it has one here; what
    lies around it is not read through a link in it.
    """
    return _Walk(place).all()


class _Walk:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.names: list[str] = []
        self.passed: Counter[Kind] = Counter()
        self.read: set[Key] = set()
        self.links: deque[tuple[str, frozenset[Key]]] = deque([("", frozenset())])

    def all(self) -> tuple[list[str], Counter[Kind]]:
        """Links wait until everything that needs none is read."""
        while self.links:
            name, around = self.links.popleft()
            path = (self.place / name).resolve()
            key = _key(path.stat())
            if key in self.read or key in around:
                self.passed[AGAIN] += 1
            else:
                self._tree(name, around | {_key(folder.stat()) for folder in path.parents})
        return self.names, self.passed

    def _tree(self, name: str, around: frozenset[Key]) -> None:
        below = deque([name])
        while below:
            folder = below.popleft()
            for entry in self._entries(self.place / folder):
                self._entry(entry, f"{folder}/{entry.name}" if folder else entry.name, below, around)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """None of a folder that was read already, or cannot be."""
        try:
            key = _key(folder.stat())
            if key in self.read:
                self.passed[AGAIN] += 1
                return []
            self.read.add(key)
            with os.scandir(folder) as entries:
                return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
        except OSError:
            self.passed[CLOSED] += 1
            return []

    def _entry(self, entry: os.DirEntry[str], name: str, below: deque[str], around: frozenset[Key]) -> None:
        try:
            mode = entry.stat().st_mode
        except OSError:
            self.passed[NOWHERE] += 1
            return
        if stat.S_ISREG(mode):
            self.names.append(name)
        elif not stat.S_ISDIR(mode):
            self.passed[IRREGULAR] += 1
        elif entry.is_symlink():
            self.links.append((name, around))
        else:
            below.append(name)


def _key(found: os.stat_result) -> Key:
    return found.st_dev, found.st_ino


MAX_BYTES = 2**28

"""The largest file that is read, in bytes."""

MAX_TEXT = 2**26

"""The largest table, in bytes."""

MAX_RATIO = 200

"""How many times its packed size something in a zip archive may be, from `FREE` bytes on: images hardly shrink."""

FREE = 2**24

TWICE: Kind = ("member of a name that another has", "members of a name that another has")

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

"""The ways of packing that Python unpacks piece by piece, so that a member cannot become larger than it says."""


UNSETTLED_NANOSECONDS = 2 * 10**9
"""Age under which a file may change without another time: the coarsest clock of a file system ticks so often."""


def stamp_of(paths: Iterable[Path]) -> str | None:
    """A text that changes with any of these files: their paths, sizes and times. None where a file is missing, or so
    new that it may change again within the resolution of its time.
    """
    digest, now = hashlib.sha256(), time.time_ns()
    try:
        for path in paths:
            found = path.stat()
            if abs(now - found.st_mtime_ns) < UNSETTLED_NANOSECONDS:
                return None
            facts = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            digest.update(os.fsencode(path) + repr(facts).encode())
    except OSError:
        return None
    return digest.hexdigest()


class Files(ABC):
    """Files by name, `/` between its parts, relative to the place they lie in; hidden ones are left out.

    >>> files = open_files(Path("photos.zip"))
    >>> files.names, files.read("cat/1.jpg")

    Args:
        place: how messages call the folder or archive.
        names: sorted.
        passed: how many things that are there are not among them, by kind.

    Attributes:
        label_endings: of files that hold labels, in small letters, where files beside images do.
    """

    label_endings: tuple[str, ...] = ()

    def __init__(self, place: Path, names: list[str], passed: Counter[Kind]) -> None:
        self.place = place
        self.names = tuple(sorted(name for name in names if not _hidden(name)))
        self.passed = passed
        self._known = frozenset(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The whole file.

        Raises:
            OSError: not one of `names`, unreadable, or larger than `limit` (`MAX_BYTES`) bytes.
        """
        if name not in self:
            raise OSError("no such file")
        size, most = self._bytes(name), MAX_BYTES if limit is None else limit
        if size > most:
            raise OSError(f"{size:,} bytes, more than {most:,}")
        return self._read(name, size)

    def read_text(self, name: str) -> str:
        """UTF-8 text, with or without a byte order mark, of at most `MAX_TEXT` bytes.

        Raises:
            UserError: it cannot be read.
        """
        place = printable(str(self.place / name))
        try:
            return self.read(name, MAX_TEXT).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{place}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from error
        except (OSError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{place}: cannot be read as UTF-8 text ({error})") from error

    def stamp(self, names: Sequence[str]) -> str | None:
        """A text that changes with any of these files, or None, as `stamp_of`."""
        return stamp_of(self._paths(self.place.resolve(), names))

    def _paths(self, place: Path, names: Sequence[str]) -> Iterable[Path]:
        """The files that hold what is called so."""
        return (place / name for name in names)

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    @abstractmethod
    def _bytes(self, name: str) -> int: ...

    @abstractmethod
    def _read(self, name: str, size: int) -> bytes: ...


class Folder(Files):
    """A folder with all its subfolders, as `walk` finds them.

    Raises:
        UserError: a name that is no text.
    """

    def __init__(self, place: Path) -> None:
        names, passed = walk(place)
        for name in names:
            if not is_text(name):
                raise UserError(f"{place}: the name {name.encode(errors='surrogateescape')!r} is not UTF-8; rename it")
        super().__init__(place, names, passed)

    def close(self) -> None:
        """Nothing is open."""

    def _bytes(self, name: str) -> int:
        return size_of(self.place / name)

    def _read(self, name: str, size: int) -> bytes:
        with (self.place / name).open("rb") as file:
            return file.read(size)


def size_of(path: Path) -> int:
    """Of a regular file, in bytes.

    Raises:
        OSError: it is something else, or not there.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("no regular file")
    return found.st_size


class Archive(Files):
    """A zip archive. One folder around everything, as many packers add, is not part of the names.

    Raises:
        UserError: not a zip archive, one that unpacks to far too much, or a member's name leads out of it.
    """

    def __init__(self, place: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(place)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UserError(f"{place}: cannot be read as a zip archive ({error})") from error
        try:
            members, passed = _members(place, self._zip.infolist())
        except UserError:
            self._zip.close()
            raise
        around = _folder_around(list(members))
        self._infos = {name.removeprefix(around): info for name, info in members.items()}
        super().__init__(place, list(self._infos), passed)

    def close(self) -> None:
        self._zip.close()

    def _paths(self, place: Path, names: Sequence[str]) -> Iterable[Path]:
        return (place,)

    def _bytes(self, name: str) -> int:
        return self._infos[name].file_size

    def _read(self, name: str, size: int) -> bytes:
        info = self._infos[name]
        if info.compress_type not in METHODS:
            raise OSError("packed by another method than deflate; pack it again")
        if _is_bomb(size, info.compress_size):
            raise OSError(f"unpacks to {decimal(size)} from {decimal(info.compress_size)}")
        with self._zip.open(info) as file:
            return file.read(size)


def _is_bomb(size: int, packed: int) -> bool:
    return size > max(FREE, MAX_RATIO * packed)


def _members(place: Path, infos: Sequence[zipfile.ZipInfo]) -> tuple[dict[str, zipfile.ZipInfo], Counter[Kind]]:
    """The files of an archive by name, the hidden ones left out, and what was passed over."""
    members: dict[str, zipfile.ZipInfo] = {}
    passed: Counter[Kind] = Counter()
    for info in infos:
        name = inner_name(place, info.filename)
        if info.is_dir() or _hidden(name):
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            passed[IRREGULAR] += 1
        elif name in members:
            passed[TWICE] += 1
        else:
            members[name] = info
    total, packed = sum(info.file_size for info in members.values()), place.stat().st_size
    if total > MAX_BYTES and _is_bomb(total, packed):
        words = f"would unpack to {decimal(total)} from {decimal(packed)}, as no images do"
        raise UserError(f"{place}: {words}; pack the images again")
    return members, passed


def mode_of(path: Path) -> int:
    """Of the file that a path leads to, as `stat` has it; 0 where there is none, or can be none of that name."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def inner_name(place: Path, name: str) -> str:
    """Of a member of an archive, `/` between its parts.

    Raises:
        UserError: it leads out of the archive.
    """
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts:
        raise UserError(f"{place}: its member {printable(name)} leads out of the archive; pack it again")
    return inner.as_posix()


def _hidden(name: str) -> bool:
    return any(is_hidden(part) for part in name.split("/"))


def _folder_around(names: list[str]) -> str:
    """`"photos/"` where every name begins so, unless that is the name of a split."""
    tops = {name.partition("/")[0] for name in names if "/" in name}
    if len(tops) != 1 or not all("/" in name for name in names):
        return ""
    top = tops.pop()
    return "" if split_word(top) else f"{top}/"
