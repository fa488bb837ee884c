"""Folders of classes, with or without folders of splits around them."""

from __future__ import annotations

import csv
import io
import stat
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from advmix.data.photos.containers import Archive, Files, Folder, mode_of
from advmix.data.photos.decode import is_picture, open_bytes
from advmix.data.photos.rows import Row, Source, counted, first_few, is_missing, is_text, split_named, split_word
from advmix.data.photos.shards import COMPRESSED, PACKED, SHARD, Shards, is_pattern, read_samples, shard_paths
from advmix.utils.errors import UserError, printable
from advmix.utils.files import parse_json

Parts = tuple[str, ...]

Found = tuple[list[Row], list[str]]

"""Rows, and remarks about what was made of the folders."""


def read_tree(files: Files, root: str = "") -> Found:
    """`class/image`; `split/class/image` or `class/split/image` where folders are called like splits; the column is
    `class`.

    A folder called like a split is a class where it holds images itself and so do other folders beside it.

    Args:
        files: where the images lie.
        root: the folder around all of them, with its `/`, or nothing.

    Raises:
        UserError: folders are called like splits, and it is not plain which are classes.
    """
    names = [name for name in files.names if name.startswith(root) and is_picture(name)]
    tops: dict[str, list[Parts]] = defaultdict(list)
    for name in names:
        top, *rest = name.removeprefix(root).split("/")
        if rest:
            tops[top].append(tuple(rest))
    found, notes = _placed(str(files.place), tops)
    rows = [_row(root, *row) for row in found]
    return rows, notes + _odd_names({row.values["class"] for row in rows})


Placed = tuple[str | None, str, Parts]

"""Split, class, and the parts of the name below `root`."""


def _placed(place: str, tops: Mapping[str, list[Parts]]) -> tuple[list[Placed], list[str]]:
    named = [top for top in tops if split_word(top)]
    nested = [top for top in named if any(len(rest) > 1 for rest in tops[top])]
    others = [top for top in tops if top not in named]
    if not named:
        return _classes(tops), []
    if not nested:
        return _classes(tops), [_beside(place, named, others, tops)]
    if others and len({split_word(top) for top in named}) == 1:
        raise UserError(
            f"{place}: {first_few(nested)} is called like a split and holds folders, beside {first_few(others)}; "
            "put all classes into it, or rename it if it is a class"
        )
    return _splits({top: tops[top] for top in nested}, [top for top in tops if top not in nested])


def _beside(place: str, named: Sequence[str], others: Sequence[str], tops: Mapping[str, list[Parts]]) -> str:
    """What is said of classes that are called like splits."""
    called = f"{first_few(named)} {'is' if len(named) == 1 else 'are'} called like {_a(named)}"
    if not others:
        raise UserError(f"{place}: {called}, without folders of classes; put images into train/CLASS/, or rename it")
    if not any(len(rest) == 1 for top in others for rest in tops[top]):
        raise UserError(f"{place}: {called}, beside {first_few(others)}; rename it if it is a class, else move it away")
    return f"{called}, but taken for {'a class' if len(named) == 1 else 'classes'} like {first_few(others, 3)}"


def _a(named: Sequence[str]) -> str:
    return "a split" if len(named) == 1 else "splits"


def _classes(tops: Mapping[str, list[Parts]]) -> list[Placed]:
    """Every top folder is a class; where all in it lie in folders called like splits, these are."""
    within = all(len(rest) > 1 and split_word(rest[0]) for found in tops.values() for rest in found)
    return [
        (split_word(rest[0]) if within else None, top, (top, *rest)) for top, found in tops.items() for rest in found
    ]


def _splits(tops: Mapping[str, list[Parts]], others: Sequence[str]) -> tuple[list[Placed], list[str]]:
    """Every top folder is a split. Loose images in it have no class."""
    inner = {top: [rest for rest in found if len(rest) > 1] for top, found in tops.items()}
    depth = {top: _wrapped(top, inner) for top in inner}
    classes = {top: {rest[depth[top]] for rest in found} for top, found in inner.items()}
    bare = [top for top in classes if split_word(top) != "train" and _is_bare(classes, top)]
    placed = [
        (split_word(top), rest[depth[top]], (top, *rest))
        for top, found in inner.items()
        if top not in bare
        for rest in found
    ]
    outside = [*others, *bare]
    return placed, [f"no classes in {first_few(outside)}, left out"] if outside else []


def _wrapped(top: str, inner: Mapping[str, list[Parts]]) -> int:
    """How many folders stand around the classes of a split, such as `images/`."""
    depth, found = 0, inner[top]
    elsewhere = [{rest[0] for rest in rows} for other, rows in inner.items() if other != top]
    while all(len(rest) > depth + 2 for rest in found) and len({rest[depth] for rest in found}) == 1:
        if any(found[0][depth] in names and len(names) > 1 for names in elsewhere):
            break
        depth += 1
    return depth


def _is_bare(classes: Mapping[str, set[str]], top: str) -> bool:
    """Whether all images of a split lie in one folder that is no class of any other: `test/unknown/`."""
    elsewhere = {name for other, names in classes.items() if other != top for name in names}
    return bool(elsewhere) and len(classes[top]) == 1 and not classes[top] & elsewhere


def _row(root: str, split: str | None, label: str, parts: Parts) -> Row:
    name = f"{root}{'/'.join(parts)}"
    return Row(name, {"class": label}, split, name)


def _odd_names(classes: Iterable[str]) -> list[str]:
    odd = sorted(name for name in classes if is_missing(name))
    return [f"a folder is called {first_few(odd)} and taken for a class"] if odd else []


def root_of(files: Files, tables: Sequence[str]) -> str:
    """The folders around everything, `"data/photos/"`, that say nothing of it: neither a split nor the only class.

    Args:
        files: where images and labels lie.
        tables: what files of labels are called; nothing above one of these is left out.
    """
    root, names = "", [name for name in files.names if is_picture(name) or name.rpartition("/")[2] in tables]
    while not any(name in tables for name in names):
        tops = {name.partition("/")[0] for name in names if "/" in name}
        below = [name.partition("/")[2] for name in names if "/" in name]
        if len(tops) != 1 or not any("/" in name or name in tables for name in below) or split_word(*tops):
            break
        root, names = f"{root}{tops.pop()}/", below
    return root


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

SAMPLES = "KEY.cls or KEY.json beside each KEY.jpg"


def open_files(path: Path) -> Files:
    """A folder, a zip archive, a shard, or all shards of a pattern or a folder that holds no images beside them.

    Raises:
        UserError: none of them.
    """
    mode, ending = mode_of(path), path.suffix.lower()
    if is_pattern(path):
        return Shards(shard_paths(str(path)))
    if stat.S_ISDIR(mode):
        return _in_folder(Folder(path))
    if stat.S_ISREG(mode) and ending == SHARD:
        return Shards([path])
    if stat.S_ISREG(mode) and (ending == ".zip" or zipfile.is_zipfile(path)):
        return Archive(path)
    if stat.S_ISREG(mode) and ending == ".csv":
        raise UserError(
            f"{printable(str(path))}: a table, where no labels are looked for; name the folder of its images"
        )
    reason = "neither a folder nor a .zip, .csv or .tar file" if mode else "no such file or folder"
    raise UserError(f"{printable(str(path))}: {reason}")


def _in_folder(folder: Folder) -> Files:
    shards = [name for name in folder.names if name.lower().endswith(SHARD)]
    if not shards or any(map(is_picture, folder.names)):
        return folder
    compressed = sum(name.lower().endswith(COMPRESSED) for name in folder.names)
    return Shards([folder.place / name for name in shards], folder.passed + Counter({PACKED: compressed}))


def open_path(path: Path) -> Source:
    """A folder, a zip archive, shards or a table, told apart by what is in it.

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
    plain = isinstance(files, Shards) or table
    root = "" if plain else root_of(files, (*TABLES, STYLEGAN))
    used = table if plain else next((root + name for name in (*TABLES, STYLEGAN) if root + name in files), None)
    rows, notes = _rows(files, root, used)
    left = left_out(files, used)
    if not rows:
        forms = SAMPLES if isinstance(files, Shards) else FORMS
        words = "; ".join([f"no labelled images; it needs {forms} (predict --unlabelled needs neither)", *left])
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
        frozenset() if used or isinstance(files, Shards) else frozenset(("class",)),
        close=files.close,
        stamp=files.stamp,
    )


def _rows(files: Files, root: str, used: str | None) -> Found:
    if isinstance(files, Shards):
        return read_samples(files)
    if used is None:
        return read_tree(files, root)
    return (read_stylegan if used == root + STYLEGAN else read_table)(files, used), []


def left_out(files: Files, used: str | None = None) -> list[str]:
    """Remarks, at most two: what was passed over, by kind, and what is called unlike an image, by ending."""
    names = [name for name in files.names if not is_picture(name) and name != used]
    names = [name for name in names if not name.lower().endswith(files.label_endings)]
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
    split = None if word is None else split_named(word, where)
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
