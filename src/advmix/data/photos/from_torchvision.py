"""Data sets of torchvision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from advmix.data.photos.rows import Row, Source
from advmix.data.photos.words import in_short
from advmix.errors import UserError, printable

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
    return Source(f"torchvision:{name}", tuple(rows), opened, {"class": classes} if classes else {}, named=NAMED)


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
