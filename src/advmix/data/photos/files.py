"""Where a user's files lie: a folder or a zip archive, read alike. Nothing is ever unpacked."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

from advmix.data.photos.words import SPLITS, printable
from advmix.errors import UserError

MAX_BYTES = 2**28
"""The largest file that is read, in bytes."""


class Files(ABC):
    """Files by name, `/` between its parts, relative to the place they lie in; hidden ones are left out.

    >>> files = open_files(Path("photos.zip"))
    >>> files.names, files.read("cat/1.jpg")

    Args:
        place: how messages call the folder or archive.
        names: sorted.
    """

    def __init__(self, place: Path, names: list[str]) -> None:
        self.place = place
        self.names = tuple(sorted(name for name in names if not _hidden(name)))
        self._known = frozenset(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def read(self, name: str) -> bytes:
        """The whole file.

        Raises:
            OSError: not one of `names`, unreadable, or larger than `MAX_BYTES`.
        """
        if name not in self:
            raise OSError("no such file")
        if self._bytes(name) > MAX_BYTES:
            raise OSError(f"{self._bytes(name):,} bytes, more than {MAX_BYTES:,}")
        return self._read(name)

    def read_text(self, name: str) -> str:
        """UTF-8 text, with or without a byte order mark.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.place / name}: cannot be read as UTF-8 text ({error})") from error

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    @abstractmethod
    def _bytes(self, name: str) -> int: ...

    @abstractmethod
    def _read(self, name: str) -> bytes: ...


class Folder(Files):
    """A folder with all its subfolders; links are followed.

    Raises:
        UserError: a name that is no text.
    """

    def __init__(self, place: Path) -> None:
        found = [Path(folder, name) for folder, _, names in os.walk(place, followlinks=True) for name in names]
        names = [path.relative_to(place).as_posix() for path in found]
        for name in names:
            if not _is_text(name):
                raise UserError(f"{place}: the name {name.encode(errors='surrogateescape')!r} is not UTF-8; rename it")
        super().__init__(place, names)

    def close(self) -> None:
        """Nothing is open."""

    def _bytes(self, name: str) -> int:
        return (self.place / name).stat().st_size

    def _read(self, name: str) -> bytes:
        return (self.place / name).read_bytes()


class Archive(Files):
    """A zip archive. One folder around everything, as many packers add, is not part of the names.

    Raises:
        UserError: not a zip archive, or a member's name leads out of it.
    """

    def __init__(self, place: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(place)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{place}: cannot be read as a zip archive ({error})") from error
        members = {_posix(info.filename): info for info in self._zip.infolist() if not info.is_dir()}
        for name in members:
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                self._zip.close()
                raise UserError(f"{place}: its member {printable(name)} leads out of the archive; pack it again")
        around = _folder_around([name for name in members if not _hidden(name)])
        self._members = {name.removeprefix(around): info for name, info in members.items()}
        super().__init__(place, list(self._members))

    def close(self) -> None:
        self._zip.close()

    def _bytes(self, name: str) -> int:
        return self._members[name].file_size

    def _read(self, name: str) -> bytes:
        return self._zip.read(self._members[name])


def _is_text(name: str) -> bool:
    """Whether the bytes of a name are UTF-8. Python keeps others as lone surrogates, which cannot be written."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def open_files(path: Path) -> Files:
    """A folder or a zip archive.

    Raises:
        UserError: neither.
    """
    if path.is_dir():
        return Folder(path)
    if path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
        return Archive(path)
    reason = "neither a folder nor a .zip or .csv file" if path.exists() else "no such file or folder"
    raise UserError(f"{path}: {reason}")


def _posix(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _folder_around(names: list[str]) -> str:
    """`"photos/"` where every name begins so, unless that is the name of a split."""
    tops = {name.partition("/")[0] for name in names if "/" in name}
    if len(tops) != 1 or tops <= SPLITS.keys() or not all("/" in name for name in names):
        return ""
    return f"{tops.pop()}/"
