"""How labels lie beside images: folders of classes, a table, StyleGAN's `dataset.json`."""

from __future__ import annotations

import csv
import io
import stat
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from advmix.data.photos.decode import open_bytes
from advmix.data.photos.files import Files, Folder, mode_of, open_files
from advmix.data.photos.rows import Row, Source
from advmix.data.photos.tree import Found, is_picture, read_tree, root_of
from advmix.data.photos.words import SPLIT_NUMBERS, counted, first_few, is_text, split_word
from advmix.errors import UserError, printable
from advmix.files import parse_json

TABLES = ("labels.csv", "metadata.csv")
STYLEGAN = "dataset.json"
FILE_COLUMNS = ("filename", "file_name", "img_filename", "image_id", "image", "path", "file")


FOREIGN = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga", ".psd", ".svg", ".eps", ".pdf", ".exr", ".hdr", ".dcm"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".raw"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"),
)
"""Endings of pictures and films that are not read."""
FORMS = "a folder for each class, or labels.csv with a column filename"


def open_path(path: Path) -> Source:
    """A folder, a zip archive or a table, told apart by what is in it.

    Raises:
        UserError: nothing that we know.
    """
    if path.suffix.lower() == ".csv" and stat.S_ISREG(mode_of(path)):
        return _source(Folder(path.parent), path.name)
    return _source(open_files(path))


def _source(files: Files, table: str | None = None) -> Source:
    try:
        return _found(files, table)
    except UserError:
        files.close()
        raise


def _found(files: Files, table: str | None) -> Source:
    root = "" if table else root_of(files, (*TABLES, STYLEGAN))
    used = table or next((root + name for name in (*TABLES, STYLEGAN) if root + name in files), None)
    rows, notes = _rows(files, root, used)
    left = left_out(files, used)
    if not rows:
        words = "; ".join([f"no labelled images; it needs {FORMS} (predict --unlabelled needs neither)", *left])
        raise UserError(f"{files.place}: {words}{_elsewhere(files)}")
    listed = {row.name for row in rows}
    unlabelled = sum(is_picture(name) and name not in listed for name in files.names)
    return Source(
        str(files.place),
        tuple(rows),
        lambda name: open_bytes(files.read(name)),
        {},
        unlabelled,
        (*notes, *left),
        frozenset() if used else frozenset(("class",)),
        close=files.close,
    )


def _rows(files: Files, root: str, used: str | None) -> Found:
    if used is None:
        return read_tree(files, root)
    return (read_stylegan if used == root + STYLEGAN else read_table)(files, used), []


def left_out(files: Files, used: str | None = None) -> list[str]:
    """Remarks, at most two: what was passed over, by kind, and what is called unlike an image, by ending."""
    names = [name for name in files.names if not is_picture(name) and name != used]
    endings = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in names)
    listed = first_few(
        f"{kind} {count:,}" for kind, count in sorted(endings.items(), key=lambda kind: (-kind[1], kind))
    )
    foreign = [ending for ending in FOREIGN if ending in endings]
    remedy = f"; convert {first_few(foreign)} to .jpg or .png" if foreign else ""
    return [
        *([f"passed over: {counted(files.passed)}"] if files.passed else []),
        *([f"left out: {listed}{remedy}"] if names else []),
    ]


def _elsewhere(files: Files) -> str:
    """A word about data sets of Hugging Face, which a folder may hold."""
    theirs = any(name.endswith((".parquet", ".arrow")) for name in files.names)
    return f"; read data of Hugging Face as hf:{files.place}" if theirs else ""


def read_table(files: Files, table: str) -> list[Row]:
    """A row of `table` for each image; images lie beside it or in `images/`. The delimiter is the one of `,;` and tab
    that the first line has most of. Columns without a name are left out.

    Raises:
        UserError: not a table, no column of file names, a column or a file named twice, a row of another length, or an
            unknown split.
    """
    place = printable(str(files.place / table))
    text = io.StringIO(files.read_text(table), newline="")
    header = text.readline()
    text.seek(0)
    reader = csv.DictReader(text, delimiter=max(",;\t", key=header.count))
    rows: dict[str, Row] = {}
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        column = _file_column(reader.fieldnames, place)
        for values in reader:
            row = _table_row(files, table, values, column, f"{place}, line {reader.line_num}")
            if row.name in rows:
                raise UserError(f"{row.where}: {printable(row.name)} a second time; name each image once")
            rows[row.name] = row
    except csv.Error as error:
        raise UserError(f"{place}, line {reader.line_num + 1}: {error}; no row of a table is like that") from error
    return list(rows.values())


def _file_column(columns: list[str], place: str) -> str:
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise UserError(f"{place}: column {printable(twice[0])} a second time; name each column once")
    column = next((name for name in FILE_COLUMNS if name in columns), None)
    if column is None:
        raise UserError(f"{place}: no column filename; there are {first_few(filter(None, columns))}")
    return column


def _table_row(files: Files, table: str, values: dict[Any, Any], column: str, where: str) -> Row:
    """A column without a name is the numbering that pandas writes."""
    if None in values or None in values.values():
        raise UserError(f"{where}: more or fewer values than columns")
    known = {name: value.strip() for name, value in values.items() if name}
    name = known.pop(column)
    word = known.pop("split", None)
    split = None if word is None else SPLIT_NUMBERS.get(word) or split_word(word)
    if word is not None and split is None:
        raise UserError(f"{where}: split {printable(word)!r} is unknown; use train, val or test (or 0, 1 or 2)")
    beside = PurePosixPath(table).parent
    path = PurePosixPath(name.replace("\\", "/"))
    plain, inside = str(beside / path), str(beside / "images" / path)
    return Row(inside if plain not in files and inside in files else plain, known, split, where)


def read_stylegan(files: Files, table: str = STYLEGAN) -> list[Row]:
    """StyleGAN's `{"labels": [[filename, label], ...]}`; the column is `class`.

    Raises:
        UserError: not that, or without labels.
    """
    place = files.place / table
    data = parse_json(files.read_text(table), str(place))
    pairs = data.get("labels") if isinstance(data, dict) else None
    if not isinstance(pairs, list) or not pairs:
        raise UserError(f"{place}: holds no labels; write [filename, label] for each image")
    beside = PurePosixPath(table).parent
    return [_stylegan_row(pair, beside, f"{place}, label {place_in}") for place_in, pair in enumerate(pairs, start=1)]


def _stylegan_row(pair: Any, beside: PurePosixPath, where: str) -> Row:
    match pair:
        case [str(name), int() | str() as label] if is_text(name) and is_text(str(label)):
            return Row(str(beside / name), {"class": str(label)}, None, where)
    raise UserError(f"{where}: not [filename, label], with a number or a word as label")
