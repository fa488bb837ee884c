"""Data sets of torchvision and of Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from advmix.data.photos.decode import open_bytes
from advmix.data.photos.rows import Row, Source
from advmix.data.photos.words import SPLITS, first_few
from advmix.errors import UserError

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
    except (RuntimeError, OSError, ImportError) as error:
        raise UserError(
            f"torchvision:{name}: cannot be read from {data_dir} ({_in_short(error)}); fetch it with "
            "--download, or name the folder it is in with --data-dir"
        ) from error
    rows = [row for split, data in parts.items() for row in _torchvision_rows(data, split)]
    images = {f"{split or 'all'}/{index}": (data, index) for split, data in parts.items() for index in range(len(data))}

    def opened(key: str) -> Image.Image:
        data, index = images[key]
        image: Image.Image = data[index][0]
        return image

    return Source(f"torchvision:{name}", tuple(rows), opened)


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
    classes = getattr(data, "classes", None)
    for label in _torchvision_labels(data):
        yield {"class": str(label) if classes is None else str(classes[label])}


def _torchvision_labels(data: Any) -> list[int]:
    """Without opening an image where the data set keeps its labels apart; torchvision has no one name for them."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(data, name):
            return [int(label) for label in getattr(data, name)]
    return [int(data[index][1]) for index in range(len(data))]


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
    for split, data in parts.items():
        column = next((key for key, kind in data.features.items() if isinstance(kind, datasets.Image)), None)
        if column is None:
            raise UserError(f"hf:{name}: no column of images; there are {first_few(data.features)}")
        files = data.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        for index, values in enumerate(_hugging_face_values(data)):
            key = f"{split or 'all'}/{index}"
            rows.append(Row(key, values, split, key))
            images[key] = (files, index, column)

    def opened(key: str) -> Image.Image:
        files, index, column = images[key]
        stored = files[index][column]
        return open_bytes(stored["bytes"] or Path(stored["path"]).read_bytes())

    return Source(f"hf:{name}", tuple(rows), opened)


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
        return datasets.load_dataset(name, download_config=datasets.DownloadConfig(local_files_only=not download))
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"hf:{name}: cannot be read ({_in_short(error)}); fetch it with --download, or name a folder that "
            "save_to_disk wrote"
        ) from error


def _hugging_face_values(data: Any) -> Sequence[Mapping[str, str]]:
    """Each row's words and numbers as text; a class label by its name, a missing one empty."""
    columns = {}
    for key, feature in data.features.items():
        if hasattr(feature, "int2str"):
            names = feature.names
            columns[key] = ["" if label is None or label < 0 else names[label] for label in data[key]]
        elif getattr(feature, "dtype", None) in ("string", "bool", "int8", "int16", "int32", "int64", "uint8"):
            columns[key] = ["" if value is None else str(value) for value in data[key]]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _in_short(error: Exception) -> str:
    """The first sentence; what follows is often advice about Python code."""
    return str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
