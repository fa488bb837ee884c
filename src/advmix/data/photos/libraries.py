"""Data sets of torchvision."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from textwrap import shorten
from typing import Any

import numpy as np
from PIL import Image

from advmix.data.photos.containers import MAX_BYTES, Folder, size_of, stamp_of
from advmix.data.photos.decode import open_bytes
from advmix.data.photos.rows import Row, Source, counted, first_few, in_short, split_word
from advmix.utils.config import expanded
from advmix.utils.errors import UserError, printable
from advmix.utils.files import parse_json

TORCHVISION: Mapping[str, Mapping[str | None, Mapping[str, Any]]] = {
    **{
        name: {"train": {"train": True}, "test": {"train": False}}
        for name in ("MNIST", "FashionMNIST", "KMNIST", "USPS", "CIFAR10", "CIFAR100")
    },
    **{
        name: {"train": {"split": "train"}, "test": {"split": "test"}} for name in ("SVHN", "STL10", "Food101", "GTSRB")
    },
    **{name: {split: {"split": split} for split in ("train", "val", "test")} for name in ("Flowers102", "DTD")},
    "CelebA": {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
    "Imagenette": {"train": {"split": "train"}, "val": {"split": "val"}},
    "EuroSAT": {None: {}},
}

"""The arguments that make each split."""

NAMED = frozenset(("class",))


def open_torchvision(name: str, data_dir: Path, download: bool) -> Source:
    """A data set of `torchvision.datasets`; its column is `class`, of CelebA the attributes and `identity`.

    Raises:
        UserError: not one of `TORCHVISION`, or its files are missing.
    """
    from torchvision import datasets

    if name not in TORCHVISION:
        raise UserError(f"torchvision:{name}: unknown; choose from {' '.join(TORCHVISION)}")
    kind, parts = getattr(datasets, name), {}
    try:
        for split, arguments in TORCHVISION[name].items():
            parts[split] = kind(str(data_dir), download=download, **arguments)
    except Exception as error:  # its readers raise whatever they like for damaged files
        raise UserError(
            f"torchvision:{name}: cannot be read from {data_dir} ({printable(in_short(error))}); fetch it with "
            "--download, or name the folder it is in with --data-dir"
        ) from error
    rows = [row for split, data in parts.items() for row in _torchvision_rows(data, split)]
    images = {f"{split or 'all'}/{index}": (data, index) for split, data in parts.items() for index in range(len(data))}

    def opened(key: str) -> Image.Image:
        data, index = images[key]
        image: Image.Image = data[index][0]
        return image

    classes = _torchvision_classes(next(iter(parts.values())))
    known = {"class": classes} if classes else {}
    return Source(
        f"torchvision:{name}", tuple(rows), opened, known, named=NAMED, stamp=lambda _: _torchvision_stamp(name, parts)
    )


def _torchvision_stamp(name: str, parts: Mapping[str | None, Any]) -> str | None:
    """Changes with the images of any split: with their bytes where torchvision holds them in memory, else with their
    files; None where it is not plain which these are.
    """
    stamps = list[str | None]()
    for data in parts.values():
        held, files = getattr(data, "data", None), _torchvision_files(data)
        if held is not None:
            numbers = np.ascontiguousarray(held)
            stamps.append(f"{numbers.dtype}{numbers.shape}{hashlib.sha256(numbers.data).hexdigest()}")
        else:
            stamps.append(stamp_of(files) if files else None)
    return None if None in stamps else repr((name, *stamps))


def _torchvision_files(data: Any) -> list[Path]:
    """The file of every image, where torchvision opens one for each; it has no one name for them."""
    if hasattr(data, "filename"):
        return [Path(data.root, data.base_folder, "img_align_celeba", name) for name in data.filename]
    kept = next((getattr(data, key) for key in ("samples", "_samples", "_image_files") if hasattr(data, key)), ())
    return [Path(found[0] if isinstance(found, tuple) else found) for found in kept]


def _torchvision_rows(data: Any, split: str | None) -> Iterator[Row]:
    for index, values in enumerate(_torchvision_values(data)):
        name = f"{split or 'all'}/{index}"
        yield Row(name, values, split, name)


def _torchvision_values(data: Any) -> Iterator[Mapping[str, str]]:
    if hasattr(data, "attr_names"):
        names = [name for name in data.attr_names if name]
        for attributes, identity in zip(data.attr.tolist(), data.identity.flatten().tolist(), strict=True):
            yield {
                **{name: str(value) for name, value in zip(names, attributes, strict=True)},
                "identity": str(identity),
            }
        return
    classes = _torchvision_classes(data)
    for label in _torchvision_labels(data):
        yield {"class": classes[label] if classes else str(label)}


def _torchvision_classes(data: Any) -> tuple[str, ...]:
    """Names in the order of the labels, of several for one class (Imagenette) the first; none where there are only
    numbers.
    """
    names = getattr(data, "classes", None) or ()
    return tuple(name[0] if isinstance(name, tuple) else str(name) for name in names)


def _torchvision_labels(data: Any) -> list[int]:
    """Without opening an image where the data set keeps its labels apart; torchvision has no one name for them."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(data, name):
            return [int(label) for label in getattr(data, name)]
    return [int(data[index][1]) for index in range(len(data))]


SAVED = ("dataset_dict.json", "state.json", "dataset_info.json")

CARDS = ("README.md", ".huggingface.yaml")

LEAST_VERSION = 4

"""Of `datasets`; older ones run what they find in a folder."""

OTHER = "others"

SHARD = re.compile(r"-\d+-of-\d+.*$")


def load(datasets: Any, name: str, download: bool, stream: bool = False) -> Any:
    """A `Dataset`, or a dictionary of them by split, in `datasets`'s own form; what builds it, for a stream.

    Raises:
        UserError: it is not there, damaged, or leads out of its folder.
    """
    shown = printable(name)
    if not name:
        raise UserError("hf: name a data set there, or a folder, after the colon")
    if int(datasets.__version__.partition(".")[0]) < LEAST_VERSION:
        raise UserError(
            f"hf:{shown}: datasets {datasets.__version__} may run programs of others; pip install -U datasets"
        )
    place = expanded(name, "data")
    try:
        if place.is_dir():
            with _offline(datasets):
                return _from_folder(datasets, place, stream)
        with nullcontext() if download else _offline(datasets):
            return datasets.load_dataset_builder(name) if stream else _plain(datasets.load_dataset(name))
    except UserError as error:
        raise UserError(f"hf:{error}") from error
    except datasets.exceptions.DatasetGenerationError as error:
        raise UserError(
            f"hf:{shown}: its files cannot be made into a data set ({_why(error)}); mend them, or name a folder that "
            "save_to_disk wrote"
        ) from error
    except Exception as error:  # a dozen formats' readers raise whatever they like for damaged files
        why = printable(in_short(error))
        there = "check the name and the connection" if download else "fetch it with --download"
        remedy = "mend it" if place.is_dir() else there
        raise UserError(
            f"hf:{shown}: cannot be read ({why}); {remedy}, or name a folder that save_to_disk wrote"
        ) from error


def _plain(loaded: Any) -> Any:
    """Values as Python's own, whatever form the data were saved in."""
    return loaded.with_format(None)


def _from_folder(datasets: Any, place: Path, stream: bool) -> Any:
    files = Folder(place)
    if files.passed:
        raise UserError(f"{place}: holds {counted(files.passed)}; take them away")
    if SAVED[0] in files or SAVED[1] in files:
        if stream:
            raise UserError(f"{place}: what save_to_disk wrote is on the disk already; read it as hf:{place}")
        _check_saved(files)
        return _plain(datasets.load_from_disk(str(place)))
    parquet = [name for name in files.names if name.lower().endswith(".parquet")]
    arguments = {"path": "parquet", "data_files": _by_split(place, parquet)} if parquet else {"path": str(place)}
    if not parquet:
        _check_cards(place)
    if stream:
        return datasets.load_dataset_builder(**arguments)
    loaded = _plain(datasets.load_dataset(**arguments))
    return loaded[OTHER] if list(loaded) == [OTHER] else loaded


def _by_split(place: Path, names: list[str]) -> dict[str, list[str]]:
    """The paths of every split, by the files' names or their folders'; those of none are one of their own, `OTHER`."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[_split_of(name) or OTHER].append(str(place / name))
    return dict(found)


def _split_of(name: str) -> str | None:
    """`train` of `data/train-00000-of-00002.parquet` and of `train/0.parquet`."""
    path = PurePosixPath(name)
    words = (SHARD.sub("", path.stem), path.stem, *reversed(path.parts[:-1]))
    return next((split for word in words if (split := split_word(word)) is not None), None)


def _check_saved(files: Folder) -> None:
    """What the small files beside the data say must be there, inside the folder."""
    for name in files.names:
        path = PurePosixPath(name)
        if path.name not in SAVED:
            continue
        said = parse_json(files.read_text(name), str(files.place / name))
        if not isinstance(said, dict):
            raise UserError(f"{files.place / name}: not what save_to_disk writes; save the data again")
        for other in _named_in(path.name, said):
            if not any(known.startswith(f"{path.parent / other}") for known in files.names):
                raise UserError(
                    f"{files.place / name}: names {printable(other)}, which is not there; save the data again"
                )


def _named_in(kind: str, said: Mapping[str, Any]) -> Iterator[str]:
    """The files, or folders of splits, that `dataset_dict.json` and `state.json` name."""
    listed = said.get("splits" if kind == SAVED[0] else "_data_files") if kind != SAVED[2] else ()
    for one in listed if isinstance(listed, list) else ():
        yield str(one.get("filename") if isinstance(one, dict) else one)


def _check_cards(place: Path) -> None:
    """A card may say where the data lie; elsewhere they are not looked for."""
    yaml = import_module("yaml")

    for name in CARDS:
        path = place / name
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        head = text.split("---")[1] if name == CARDS[0] and text.startswith("---") else ""
        try:
            said = yaml.safe_load(head if name == CARDS[0] else text)
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read as YAML ({in_short(error)})") from error
        outside = [word for word in _words(said.get("configs") if isinstance(said, dict) else None) if _leads_out(word)]
        if outside:
            raise UserError(f"{path}: names {first_few(outside)} outside of its folder; take that out")


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _words(part)


def _leads_out(word: str) -> bool:
    return "://" in word or "::" in word or word.startswith(("/", "~")) or ".." in PurePosixPath(word).parts


def readable(path: Path, home: Path) -> Path:
    """The path of a file that belongs to a data set: in its folder, or in what was fetched.

    Raises:
        OSError: it lies elsewhere.
    """
    constants = import_module("huggingface_hub.constants")
    found = Path(os.path.abspath(path))  # noqa: PTH100 a link in the folder may lead elsewhere, its name may not
    places = [home, Path(constants.HF_HOME), Path(import_module("datasets").config.HF_DATASETS_CACHE)]
    if not any(found.is_relative_to(place.absolute()) for place in places):
        raise OSError("outside of the data set")
    return found


def _why(error: Exception) -> str:
    """Its own first line says nothing but that something went wrong: what follows it or the cause says what."""
    _, _, more = str(error).partition("\n")
    return printable(shorten(more or str(error.__cause__ or error), 200, placeholder=" ..."))


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """As with `HF_HUB_OFFLINE` in the environment, which the two libraries read only when they are imported."""
    readers: tuple[Any, ...] = (datasets.config, import_module("huggingface_hub.constants"))
    before = [reader.HF_HUB_OFFLINE for reader in readers]
    for reader in readers:
        reader.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for reader, value in zip(readers, before, strict=True):
            reader.HF_HUB_OFFLINE = value


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
    place, datasets = f"hf:{printable(name)}", import_datasets(name)
    parts, notes = parts_of(place, load(datasets, name, download))
    rows: list[Row] = []
    images: dict[str, tuple[_Images, int]] = {}
    columns: dict[str, _Images] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for part in parts:
        found = _Images(part.data, image_column(place, part.data, datasets), expanded(name, "data"))
        columns[part.name] = found
        add_label_names(classes, part.data)
        for index, values in enumerate(row_values(place, part.data)):
            key = f"{part.name}/{index}"
            rows.append(Row(key, values, part.split, place))
            images[key] = (found, index)
    others = tuple(dict.fromkeys(key for part in parts for key in part.data.features))

    def opened(key: str) -> Image.Image:
        found, index = images[key]
        return open_bytes(found.read(index))

    def stamp(_: Sequence[str]) -> str | None:
        stamps = [(name, found.stamp()) for name, found in columns.items()]
        return None if any(text is None for _, text in stamps) else repr(stamps)

    named = frozenset(classes)
    return Source(place, tuple(rows), opened, classes, notes=notes, named=named, columns=others, stamp=stamp)


def import_datasets(name: str) -> Any:
    """The library, for the data set of a name.

    Raises:
        UserError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"hf:{name}: needs datasets; pip install 'advmix[hf]'") from error
    return datasets


def add_label_names(classes: dict[str, tuple[str, ...]], data: Any) -> None:
    """Add the names of a split's numbered labels to those that are known by column."""
    for key, kind in data.features.items():
        if _is_label(kind):
            classes[key] = tuple(dict.fromkeys([*classes.get(key, ()), *kind.names]))


@dataclass(frozen=True)
class LibrarySplit:
    """A split: what images are called by, which of ours it is, and its rows."""

    name: str
    split: str | None
    data: Any


def parts_of(place: str, loaded: Any) -> tuple[list[LibrarySplit], tuple[str, ...]]:
    """The splits whose names we know, and a remark about the others."""
    if not isinstance(loaded, dict):
        return [LibrarySplit("all", None, loaded)], ()
    known = {name: split for name in loaded if (split := split_word(name)) is not None}
    if not known:
        raise UserError(f"{place}: no split is called train, val or test; there are {first_few(loaded)}")
    counts = Counter(known.values())
    parts = [LibrarySplit(split if counts[split] == 1 else name, split, loaded[name]) for name, split in known.items()]
    others = [name for name in loaded if name not in known]
    return parts, (f"splits left out: {first_few(others)}",) if others else ()


def image_column(place: str, data: Any, datasets: Any) -> str:
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


def undecoded(data: Any, column: str, datasets: Any) -> Any:
    """The same rows, their images as files."""
    decoded = isinstance(data.features[column], datasets.Image)
    return data.cast_column(column, datasets.Image(decode=False)) if decoded else data


def read_stored(stored: Any, home: Path) -> bytes:
    """The file of an image, as it stands in a column: bytes, or a path.

    Raises:
        OSError: there is none, it lies outside of the data set, or is too large.
    """
    if isinstance(stored, Mapping):
        stored = stored.get("path") if stored["bytes"] is None else stored["bytes"]
    if not stored:
        raise OSError("no image in it")
    if isinstance(stored, bytes):
        return stored
    path = readable(Path(stored), home)
    size = size_of(path)
    if size > MAX_BYTES:
        raise OSError(f"{size:,} bytes, more than {MAX_BYTES:,}")
    with path.open("rb") as file:
        return file.read(size)


class _Images:
    """A column of images, none of them decoded.

    Args:
        data: the split.
        column: its name.
        home: the data set's folder, if it is one.
    """

    def __init__(self, data: Any, column: str, home: Path) -> None:
        import datasets

        self.files = undecoded(data.select_columns([column]), column, datasets)
        self.column, self.home = column, home

    def read(self, index: int) -> bytes:
        """A file, as its bytes or by its path.

        Raises:
            OSError: there is none, it lies outside of the data set, or is too large.
        """
        return read_stored(self.files[index][self.column], self.home)

    def stamp(self) -> str | None:
        """Changes with the files that hold the images, or hold the table that names them; None as of `stamp_of`, or
        where the table is in memory.
        """
        tables = [Path(file["filename"]) for file in self.files.cache_files]
        return stamp_of([*tables, *self._paths()]) if tables else None

    def _paths(self) -> Iterator[Path]:
        """The files of images that are not in the table."""
        import pyarrow

        for chunk in self.files.data.column(self.column).chunks:
            if pyarrow.types.is_struct(chunk.type) and chunk.type.get_field_index("path") >= 0:
                apart = chunk.field("path").filter(chunk.field("bytes").is_null())
                yield from (Path(path) for path in apart.to_pylist() if isinstance(path, str))


def row_values(place: str, data: Any) -> Iterable[Mapping[str, str]]:
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
