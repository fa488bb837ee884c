"""What was tried, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKING = (".lock", "*.advmix-tmp", "checkpoint.pt", "phases.json", "chunks", ".chunks", "shard-*", ".variations-*")
"""What no finished run leaves behind."""
Tree = Mapping[str, str]


@dataclass
class Tried:
    """Faults of one kind in one place.

    Attributes:
        kind: of the faults.
        place: the command or the file.
        count: how many there were.
        notes: what is counted besides, by name.
        failures: in words; none is what we want.
    """

    kind: str
    place: str
    count: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, name: str) -> None:
        """Count something."""
        self.notes[name] = self.notes.get(name, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def tree(folder: Path) -> Tree:
    """The SHA-256 of every file below a folder, by its path; folders are empty."""
    return {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*"))}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def left_over(folder: Path) -> list[str]:
    """What a run worked with and should have removed."""
    return [str(path.relative_to(folder)) for pattern in WORKING for path in folder.rglob(pattern)]


def difference(found: Tree, expected: Tree) -> str:
    """In words; empty where there is none."""
    return "; ".join(_differences(found, expected))


def _differences(found: Tree, expected: Tree) -> Iterator[str]:
    for words, names in (
        ("missing", expected.keys() - found.keys()),
        ("left over", found.keys() - expected.keys()),
        ("other bytes", {name for name in found.keys() & expected.keys() if found[name] != expected[name]}),
    ):
        if names:
            yield f"{words}: {' '.join(sorted(names)[:8])}"
