"""Data sets of Hugging Face's `datasets`, which is an extra dependency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import Any

from PIL import Image

from advmix.data.photos.decode import open_bytes
from advmix.data.photos.rows import Row, Source
from advmix.data.photos.words import SPLITS, first_few, in_short
from advmix.errors import UserError


def open_hugging_face(name: str, download: bool) -> Source:
    """A data set by its name there, a folder that `load_dataset` knows, or one that `save_to_disk` wrote.

    Its first image column is read; every column of words and whole numbers can be a label. Splits that are not called
    train, val(idation) or test are left out.

    Raises:
        UserError: `datasets` is not installed, the data are not there, or hold no images.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"hf:{name}: needs another package; pip install datasets") from error
    parts = _hugging_face_splits(datasets, name, download)
    rows: list[Row] = []
    images = {}
    classes: dict[str, tuple[str, ...]] = {}
    for split, data in parts.items():
        column = next((key for key, kind in data.features.items() if isinstance(kind, datasets.Image)), None)
        if column is None:
            raise UserError(f"hf:{name}: no column of images; there are {first_few(data.features)}")
        classes |= {key: tuple(kind.names) for key, kind in data.features.items() if _is_label(kind)}
        files = data.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        found = _hugging_face_values(data)
        if len(found) < len(data):
            raise UserError(
                f"hf:{name}: no column of words or whole numbers that could be labels; there are "
                f"{first_few(data.features)}"
            )
        for index, values in enumerate(found):
            key = f"{split or 'all'}/{index}"
            rows.append(Row(key, values, split, key))
            images[key] = (files, index, column)

    def opened(key: str) -> Image.Image:
        files, index, column = images[key]
        stored = files[index][column]
        return open_bytes(stored["bytes"] or Path(stored["path"]).read_bytes())

    return Source(f"hf:{name}", tuple(rows), opened, classes)


def _hugging_face_splits(datasets: Any, name: str, download: bool) -> dict[str | None, Any]:
    """The splits whose names we know; under None a data set without any."""
    loaded = _load_hugging_face(datasets, name, download)
    if not isinstance(loaded, dict):
        return {None: loaded}
    known: dict[str | None, Any] = {
        SPLITS[split.lower()]: data for split, data in loaded.items() if split.lower() in SPLITS
    }
    if not known:
        raise UserError(f"hf:{name}: no split is called train, val or test; there are {first_few(loaded)}")
    return known


def _load_hugging_face(datasets: Any, name: str, download: bool) -> Any:
    place = Path(name)
    try:
        if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
            return datasets.load_from_disk(name)
        with nullcontext() if download else _offline(datasets):
            return datasets.load_dataset(name)
    except datasets.exceptions.DatasetGenerationError as error:
        raise UserError(
            f"hf:{name}: its files cannot be made into a data set ({_why(error)}); mend them, or name a folder that "
            "save_to_disk wrote"
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"hf:{name}: cannot be read ({in_short(error)}); fetch it with --download, or name a folder that "
            "save_to_disk wrote"
        ) from error


def _why(error: Exception) -> str:
    """Its own first line says nothing but that something went wrong: what follows it or the cause says what."""
    _, _, more = str(error).partition("\n")
    return shorten(more or str(error.__cause__ or error), 200, placeholder=" ...")


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


def _hugging_face_values(data: Any) -> Sequence[Mapping[str, str]]:
    """Each row's words and numbers as text; a class label by its name, a missing one empty."""
    columns = {}
    for key, feature in data.features.items():
        if _is_label(feature):
            names = feature.names
            columns[key] = ["" if label is None or label < 0 else names[label] for label in data[key]]
        elif getattr(feature, "dtype", None) in ("string", "bool", "int8", "int16", "int32", "int64", "uint8"):
            columns[key] = ["" if value is None else str(value) for value in data[key]]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _is_label(feature: Any) -> bool:
    """Whether a column is a `ClassLabel`, numbers with names."""
    return hasattr(feature, "int2str")
