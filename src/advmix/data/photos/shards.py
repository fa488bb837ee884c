"""Shards of WebDataset: tar files in which `KEY.jpg` lies beside its labels, `KEY.cls` or `KEY.json`.

Headers and labels are read when shards are opened, an image from its place when it is asked for. The package
`webdataset` is not used: it reads each shard from its beginning to its end, where splits, limits and other sizes ask
for single images; and it runs what a name says (`pipe:`) and unpickles members.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import FileIO
from itertools import groupby, product
from math import prod
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from advmix.data.photos.containers import IRREGULAR, TWICE, Files, Kind, inner_name, mode_of
from advmix.data.photos.decode import ENDINGS
from advmix.data.photos.rows import Row, first_few, is_text, split_named, split_word
from advmix.utils.errors import UserError, printable
from advmix.utils.files import parse_json

SHARD = ".tar"

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

PACKED: Kind = ("compressed shard", "compressed shards")

CLASS, TABLE = "cls", "json"
"""Endings of labels: a class, and an object whose values are columns."""

MAX_SHARDS = 100_000
"""That a pattern may name."""

MAX_HEADER = 2**20
"""The largest header that is read, in bytes: a long name or other facts of a member."""

BRACES = re.compile(r"\{([^{}]*)\}")

RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")


def is_pattern(path: Path) -> bool:
    """Whether it names several files, by `{000000..000009}`, `{a,b}`, `*`, `?` or `[`, and is no file itself."""
    return any(mark in str(path) for mark in "{*?[") and not mode_of(path)


def shard_paths(pattern: str) -> list[Path]:
    """The files that a pattern names, in its order.

    >>> shard_paths("shards/train-{000000..000009}.tar"), shard_paths("shards/{train,val}-*.tar")

    Raises:
        UserError: it names none, too many, or one that is not there.
    """
    paths: dict[str, None] = {}
    for name in _without_braces(pattern):
        found = sorted(glob.glob(name)) if glob.has_magic(name) else [name]  # noqa: PTH207 a path may be absolute
        if not found:
            raise UserError(f"{printable(name)}: no file is called so; name shards, such as 'DIR/*{SHARD}'")
        paths |= dict.fromkeys(found)
    if len({Path(path).is_absolute() for path in paths}) > 1:
        raise UserError(f"{printable(pattern)}: names shards from the root and from here; name all of them alike")
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        more = f", nor are {len(missing) - 1:,} more" if len(missing) > 1 else ""
        words = f"no such shard{more} of the {len(paths):,} that are named; mend the range, or fetch them"
        raise UserError(f"{printable(missing[0])}: {words}")
    return [Path(path) for path in paths]


def _without_braces(pattern: str) -> Iterator[str]:
    """Every text that the braces stand for, the last of them varying first."""
    parts = BRACES.split(pattern)
    if any(mark in text for text in parts for mark in "{}"):
        raise UserError(f"{printable(pattern)}: a brace alone, or within others; write {{000000..000009}}")
    choices = [_choices(text, pattern) if place % 2 else [text] for place, text in enumerate(parts)]
    if prod(map(len, choices)) > MAX_SHARDS:
        raise UserError(f"{printable(pattern)}: names more than {MAX_SHARDS:,} shards")
    return map("".join, product(*choices))


def _choices(text: str, pattern: str) -> list[str]:
    """What a pair of braces stands for: numbers from a first to a last, as wide as they are written, or words."""
    found = RANGE.fullmatch(text)
    if found is None and "," in text:
        return text.split(",")
    first, last = map(int, found.groups()) if found else (1, 0)
    if found is None or last < first:
        words = f"{{{text}}} is no range of shards; write the first and the last number, {{000000..000009}}"
        raise UserError(f"{printable(pattern)}: {printable(words)}")
    if last - first >= MAX_SHARDS:
        raise UserError(f"{printable(pattern)}: names more than {MAX_SHARDS:,} shards")
    width = max(map(len, found.groups())) if any(number[0] == "0" for number in found.groups()) else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


class Shards(Files):
    """The members of tar files, `SHARD/MEMBER`.

    Args:
        paths: of the shards, whose common folder is `place`.
        passed: what else was passed over.

    Attributes:
        shards: their names in it.

    Raises:
        UserError: one is not a tar file, is compressed, damaged or cut short, or a member's name leads out of it.
    """

    label_endings = (f".{CLASS}", f".{TABLE}")

    def __init__(self, paths: Sequence[Path], passed: Mapping[Kind, int] = MappingProxyType({})) -> None:
        place = Path(os.path.commonpath([path.parent for path in paths]))
        self.shards = tuple(path.relative_to(place).as_posix() for path in paths)
        self._members: dict[str, tuple[str, int, int]] = {}
        passed = Counter(passed)
        for path, shard in zip(paths, self.shards, strict=True):
            for info in _headers(path):
                name = f"{shard}/{_member_name(path, info)}"
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    passed[IRREGULAR] += 1
                elif name in self._members:
                    passed[TWICE] += 1
                else:
                    self._members[name] = (shard, info.offset_data, info.size)
        super().__init__(place, list(self._members), passed)

    def shard_of(self, name: str) -> str:
        """The shard that holds a member."""
        return self._members[name][0]

    def where(self, name: str) -> str:
        """How messages call a member."""
        return printable(str(self.place / name))

    def close(self) -> None:
        """Nothing is open."""

    def _paths(self, place: Path, names: Sequence[str]) -> Iterable[Path]:
        return [place / shard for shard in dict.fromkeys(map(self.shard_of, names))]

    def _bytes(self, name: str) -> int:
        return self._members[name][2]

    def _read(self, name: str, size: int) -> bytes:
        shard, start, _ = self._members[name]
        with (self.place / shard).open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(size)


def _member_name(path: Path, info: tarfile.TarInfo) -> str:
    if not is_text(info.name):
        raise UserError(f"{path}: the name {info.name.encode(errors='surrogateescape')!r} is not UTF-8; rename it")
    return inner_name(path, info.name)


class _Tar(FileIO):
    """A tar file; nothing larger than a header is read of it."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _headers(path: Path) -> Iterator[tarfile.TarInfo]:
    """Of every member, none of them kept.

    Raises:
        UserError: no tar file, or one that does not end as it should.
    """
    last = -1
    try:
        with _Tar(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]
                if info.offset <= last or info.size < 0:
                    raise tarfile.ReadError("a member before the one before it")
                last = info.offset
                yield info
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"damaged or cut short at byte {tar.offset:,}")
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        remedy = "unpack it with gunzip" if path.suffix == ".gz" else "fetch or make it again"
        words = f"cannot be read as a tar file that is not compressed ({printable(str(error))})"
        raise UserError(f"{printable(str(path))}: {words}; {remedy}") from error


def read_samples(files: Shards) -> tuple[list[Row], list[str]]:
    """A row for each image: the column `cls` is what its `.cls` says, the others are the words and numbers of its
    `.json`; and remarks. A column `split` counts as in a table, else the shard's name tells it, or its folder's.

    Raises:
        UserError: a sample without labels, with two images, or with labels that are none.
    """
    splits = {shard: _split_of(files.place, shard) for shard in files.shards}
    rows, bare, alone = list[Row](), list[str](), Counter[str]()
    for key, members in groupby(sorted(files.names, key=_key), _key):
        found = {name.removeprefix(f"{key}.").lower(): name for name in members}
        images = [name for ending, name in found.items() if f".{ending}" in ENDINGS]
        if len(images) > 1:
            raise UserError(f"{files.where(key)}: {len(images)} images, {first_few(images)}; a sample has one")
        if not images:
            alone.update(found.keys() & {CLASS, TABLE})
        elif found.keys() & {CLASS, TABLE}:
            rows.append(_row(files, images[0], found, splits[files.shard_of(images[0])]))
        else:
            bare.append(images[0])
    if rows and bare:
        more = f", nor have {len(bare) - 1:,} more" if len(bare) > 1 else ""
        raise UserError(f"{files.where(bare[0])}: has no label{more}; put a .{CLASS} or .{TABLE} of its name beside it")
    counts = first_few(f".{ending} {count:,}" for ending, count in sorted(alone.items()))
    return rows, [f"without an image of their name: {counts}"] if alone and rows else []


def _key(name: str) -> str:
    """Of a sample: all up to the first dot of the member's own name."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _row(files: Shards, image: str, found: Mapping[str, str], split: str | None) -> Row:
    values = _columns(files, found[TABLE]) if TABLE in found else {}
    if CLASS in found:
        values[CLASS] = _class(files, found[CLASS])
    word = values.pop("split", None)
    return Row(image, values, split if word is None else split_named(word, files.where(image)), str(files.place))


def _columns(files: Shards, name: str) -> dict[str, str]:
    """Words, numbers, yes and no of a JSON object as text, null as an empty one; lists and objects are no columns."""
    said = parse_json(files.read_text(name), files.where(name))
    if not isinstance(said, dict):
        raise UserError(f'{files.where(name)}: no JSON object; write {{"label": ...}}')
    plain = {key: value for key, value in said.items() if value is None or isinstance(value, str | int | float)}
    values = {sys.intern(key): "" if value is None else str(value).strip() for key, value in plain.items()}
    if not all(is_text(word) for pair in values.items() for word in pair):
        raise UserError(f"{files.where(name)}: holds what UTF-8 cannot; write its words anew")
    return values


def _class(files: Shards, name: str) -> str:
    text = files.read_text(name).strip()
    if len(text.splitlines()) > 1:
        raise UserError(f"{files.where(name)}: more than one line; write a number or a word")
    return sys.intern(text)


def _split_of(place: Path, shard: str) -> str | None:
    """`train` of `train-000000.tar`, `cc3m-train-0000.tar` and `train/0000.tar`."""
    path = PurePosixPath(shard)
    for words in ([path.stem], re.split(r"[-_. ]", path.stem), *([part] for part in reversed(path.parts[:-1]))):
        found = {split for word in words if (split := split_word(word))}
        if len(found) > 1:
            raise UserError(f"{place / path}: called like {' and '.join(sorted(found))}; rename it")
        if found:
            return found.pop()
    return None
