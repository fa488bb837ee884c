"""Data sets of Hugging Face's `datasets`, which is an extra dependency."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from advmix.data.photos.decode import open_bytes
from advmix.data.photos.files import MAX_BYTES, size_of
from advmix.data.photos.hugging_face_files import load, readable
from advmix.data.photos.rows import Row, Source
from advmix.data.photos.words import first_few, split_word
from advmix.errors import UserError, printable
from advmix.options import expanded

WORDS = (
    "string",
    "large_string",
    "bool",
    "null",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
FLOATS = ("float16", "float32", "float64")
BYTES = ("binary", "large_binary")


def open_hugging_face(name: str, download: bool) -> Source:
    """A data set by its name there, a folder that `load_dataset` knows, or one that `save_to_disk` wrote.

    Its image column is read; every column of words and whole numbers can be a label. Splits that are not called train,
    val(idation) or test are left out.

    Raises:
        UserError: `datasets` is not installed, the data are not there, or hold no images, or two columns of them.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"hf:{name}: needs another package; pip install datasets") from error
    place = f"hf:{printable(name)}"
    parts, notes = _parts(place, load(datasets, name, download))
    rows: list[Row] = []
    images: dict[str, tuple[_Images, int]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for part in parts:
        found = _Images(part.data, _image_column(place, part.data, datasets), expanded(name, "data"))
        for key, kind in part.data.features.items():
            if _is_label(kind):
                classes[key] = tuple(dict.fromkeys([*classes.get(key, ()), *kind.names]))
        for index, values in enumerate(_values(place, part.data)):
            key = f"{part.name}/{index}"
            rows.append(Row(key, values, part.split, place))
            images[key] = (found, index)
    others = tuple(dict.fromkeys(key for part in parts for key in part.data.features))

    def opened(key: str) -> Image.Image:
        found, index = images[key]
        return open_bytes(found.read(index))

    return Source(place, tuple(rows), opened, classes, notes=notes, named=frozenset(classes), columns=others)


@dataclass(frozen=True)
class _Part:
    name: str
    split: str | None
    data: Any


def _parts(place: str, loaded: Any) -> tuple[list[_Part], tuple[str, ...]]:
    """The splits whose names we know, and a remark about the others."""
    if not isinstance(loaded, dict):
        return [_Part("all", None, loaded)], ()
    known = {name: split for name in loaded if (split := split_word(name)) is not None}
    if not known:
        raise UserError(f"{place}: no split is called train, val or test; there are {first_few(loaded)}")
    counts = Counter(known.values())
    parts = [_Part(split if counts[split] == 1 else name, split, loaded[name]) for name, split in known.items()]
    others = [name for name in loaded if name not in known]
    return parts, (f"splits left out: {first_few(others)}",) if others else ()


def _image_column(place: str, data: Any, datasets: Any) -> str:
    """The one of images; else of files as bytes."""
    images = [key for key, kind in data.features.items() if isinstance(kind, datasets.Image)]
    images = images or [key for key, kind in data.features.items() if _holds_files(kind)]
    if not images:
        raise UserError(f"{place}: no column of images; there are {first_few(data.features)}")
    if len(images) > 1:
        raise UserError(
            f"{place}: {len(images)} columns of images, {first_few(images)}; leave one with remove_columns, and name a "
            "folder that save_to_disk wrote"
        )
    return str(images[0])


def _holds_files(kind: Any) -> bool:
    if isinstance(kind, Mapping):
        return "bytes" in kind and set(kind) <= {"bytes", "path"}
    return getattr(kind, "dtype", None) in BYTES


class _Images:
    """A column of images, none of them decoded.

    Args:
        data: the split.
        column: its name.
        home: the data set's folder, if it is one.
    """

    def __init__(self, data: Any, column: str, home: Path) -> None:
        import datasets

        files = data.select_columns([column])
        decoded = isinstance(data.features[column], datasets.Image)
        self.files = files.cast_column(column, datasets.Image(decode=False)) if decoded else files
        self.column, self.home = column, home

    def read(self, index: int) -> bytes:
        """A file, as its bytes or by its path.

        Raises:
            OSError: there is none, it lies outside of the data set, or is too large.
        """
        stored = self.files[index][self.column]
        if isinstance(stored, Mapping):
            stored = stored["bytes"] or stored.get("path")
        if not stored:
            raise OSError("no image in it")
        if isinstance(stored, bytes):
            return stored
        path = readable(Path(stored), self.home)
        size = size_of(path)
        if size > MAX_BYTES:
            raise OSError(f"{size:,} bytes, more than {MAX_BYTES:,}")
        with path.open("rb") as file:
            return file.read(size)


def _values(place: str, data: Any) -> Iterable[Mapping[str, str]]:
    """Each row's words and whole numbers as text; a class label by its name, a missing one empty."""
    columns = {}
    for key, feature in data.features.items():
        kind = getattr(feature, "dtype", None)
        if _is_label(feature):
            columns[key] = [_name(place, key, feature.names, label) for label in data[key]]
        elif kind in WORDS:
            columns[key] = ["" if value is None else str(value) for value in data[key]]
        elif kind in FLOATS:
            columns |= _whole(key, data[key])
    rows = zip_longest(*columns.values()) if columns else ((),) * len(data)
    return [dict(zip(columns, values, strict=True)) for values in rows]


def _whole(key: str, values: Sequence[float | None]) -> dict[str, list[str]]:
    """A column of floating-point numbers, if all of them are whole; a missing one may be None or no number."""
    known = [None if value is None or math.isnan(value) else value for value in values]
    if not all(value is None or value.is_integer() for value in known):
        return {}
    return {key: ["" if value is None else str(int(value)) for value in known]}


def _name(place: str, column: str, names: Sequence[str], label: int | None) -> str:
    if label is None or label < 0:
        return ""
    if label >= len(names):
        raise UserError(f"{place}: {column} {label}, but it has {len(names)} names; mend the labels")
    return names[label]


def _is_label(feature: Any) -> bool:
    """Whether a column is a `ClassLabel`, numbers with names."""
    return hasattr(feature, "int2str")
