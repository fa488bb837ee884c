"""What lies in a folder: regular files alone, every real folder once."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from pathlib import Path

from advmix.data.photos.words import is_hidden

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
