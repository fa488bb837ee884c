"""Folders of classes, with or without folders of splits around them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from advmix.data.photos.files import Files
from advmix.data.photos.rows import Row
from advmix.data.photos.words import first_few, is_missing, split_word
from advmix.errors import UserError

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".pnm", ".ppm", ".pgm", ".pbm"),
)
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


def is_picture(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.lower().endswith(ENDINGS)
