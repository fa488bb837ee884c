"""How labels lie beside images: folders of classes, a table, StyleGAN's `dataset.json`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

from advmix.data.photos.decode import open_bytes
from advmix.data.photos.files import Files, Folder, open_files
from advmix.data.photos.rows import Row, Source
from advmix.data.photos.words import SPLIT_NUMBERS, SPLITS, first_few, printable
from advmix.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
TABLES = ("labels.csv", "metadata.csv")
STYLEGAN = "dataset.json"
FILE_COLUMNS = ("filename", "file_name", "img_filename", "image_id", "image", "path", "file")


def open_path(path: Path) -> Source:
    """A folder, a zip archive or a table, told apart by what is in it.

    Raises:
        UserError: nothing that we know.
    """
    if path.suffix.lower() == ".csv" and path.is_file():
        return _source(Folder(path.parent), path.name)
    return _source(open_files(path))


def _source(files: Files, table: str | None = None) -> Source:
    try:
        rows = _rows(files, table)
    except UserError:
        files.close()
        raise
    listed = {row.name for row in rows}
    unlabelled = sum(is_picture(name) and name not in listed for name in files.names)
    return Source(str(files.place), rows, lambda name: open_bytes(files.read(name)), {}, unlabelled, files.close)


def _rows(files: Files, table: str | None) -> tuple[Row, ...]:
    table = table or next((name for name in TABLES if name in files), None)
    if STYLEGAN in files and table is None:
        rows = read_stylegan(files)
    elif table is not None:
        rows = read_table(files, table)
    else:
        rows = read_tree(files)
    if not rows:
        forms = "a folder for each class, or labels.csv with a column filename"
        raise UserError(f"{files.place}: no labelled images; it needs {forms} (predict --unlabelled needs neither)")
    return tuple(rows)


def read_tree(files: Files) -> list[Row]:
    """`class/image`, or `train/class/image` where every top folder is named after a split; the column is `class`."""
    paths = [PurePosixPath(name).parts for name in files.names if is_picture(name)]
    deep = [parts for parts in paths if len(parts) > 1]
    split = all(parts[0].lower() in SPLITS and len(parts) > 2 for parts in deep)
    return [
        Row(
            name="/".join(parts),
            values={"class": parts[1 if split else 0]},
            split=SPLITS[parts[0].lower()] if split else None,
            where="/".join(parts),
        )
        for parts in deep
    ]


def read_table(files: Files, table: str) -> list[Row]:
    """A row of `table` for each image; images lie beside it or in `images/`. The delimiter is the one of `,;` and tab
    that the first line has most of. Columns without a name are left out.

    Raises:
        UserError: not a table, no column of file names, a row of another length, a file named twice, or an unknown
            split.
    """
    text = files.read_text(table)
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    columns = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    place = files.place / table
    column = next((name for name in FILE_COLUMNS if name in columns), None)
    if column is None:
        raise UserError(f"{place}: no column filename; there are {first_few(filter(None, columns))}")
    rows: dict[str, Row] = {}
    try:
        for values in reader:
            row = _table_row(files, values, column, f"{place}, line {reader.line_num}")
            if row.name in rows:
                raise UserError(f"{row.where}: {printable(row.name)} a second time; name each image once")
            rows[row.name] = row
    except csv.Error as error:
        raise UserError(f"{place}, line {reader.line_num}: {error}") from error
    return list(rows.values())


def _table_row(files: Files, values: dict[Any, Any], column: str, where: str) -> Row:
    """A column without a name is the numbering that pandas writes."""
    if None in values or None in values.values():
        raise UserError(f"{where}: more or fewer values than columns")
    known = {name: value.strip() for name, value in values.items() if name}
    name = known.pop(column)
    split = known.pop("split", None)
    if split is not None and split.lower() not in SPLITS | SPLIT_NUMBERS:
        raise UserError(f"{where}: split {printable(split)!r} is unknown; use train, val or test (or 0, 1 or 2)")
    path = PurePosixPath(name.replace("\\", "/")).as_posix()
    inside = f"images/{path}"
    return Row(
        name=inside if path not in files and inside in files else path,
        values=known,
        split=None if split is None else (SPLITS | SPLIT_NUMBERS)[split.lower()],
        where=where,
    )


def read_stylegan(files: Files) -> list[Row]:
    """StyleGAN's `{"labels": [[filename, label], ...]}`; the column is `class`.

    Raises:
        UserError: not that, or without labels.
    """
    place = files.place / STYLEGAN
    try:
        data = json.loads(files.read_text(STYLEGAN))
    except ValueError as error:
        raise UserError(f"{place}: cannot be read as JSON ({error})") from error
    pairs = data.get("labels") if isinstance(data, dict) else None
    if not isinstance(pairs, list) or not pairs:
        raise UserError(f"{place}: holds no labels; write [filename, label] for each image")
    return [_stylegan_row(pair, f"{place}, label {place_in}") for place_in, pair in enumerate(pairs, start=1)]


def _stylegan_row(pair: Any, where: str) -> Row:
    match pair:
        case [str(name), int() | str() as label]:
            return Row(PurePosixPath(name).as_posix(), {"class": str(label)}, None, where)
    raise UserError(f"{where}: not [filename, label], with a number or a word as label")


def is_picture(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.lower().endswith(ENDINGS)
