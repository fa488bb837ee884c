"""Grey digits: scikit-learn's, which need no download, and the data sets in MNIST's format."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.data.images import to_bytes
from advmix.utils.config import expanded
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator

DIGITS_TEST = 500
CLASS_NAMES = {
    "fashion-mnist": ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


def class_names(source: str) -> tuple[str, ...]:
    """Ten names, in label order."""
    return CLASS_NAMES.get(source, tuple("0123456789"))


def load_gray(
    source: str, data_dir: Path, part: Literal["train", "test"], download: bool = True
) -> tuple[Tensor, Tensor]:
    """Grey images `(N, 1, H, W)` uint8 and labels `(N,)`: 16x16 for `digits`, 32x32 for the others.

    Raises:
        UserError: files missing (and no network to fetch them), or truncated.
    """
    if source == "digits":
        return _scikit_digits(part)
    return _idx_digits(source, expanded(data_dir, "data-dir"), part, download)


def _scikit_digits(part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(raw.images / 16).float()[:, None]
    labels = torch.from_numpy(raw.target.astype(np.int64))
    order = torch.randperm(len(labels), generator=generator(0, "digits", "split"))
    chosen = order[:DIGITS_TEST] if part == "test" else order[DIGITS_TEST:]
    larger = F.interpolate(images[chosen], scale_factor=2, mode="bilinear", align_corners=False)
    return to_bytes(larger), labels[chosen]


def _idx_digits(source: str, data_dir: Path, part: Literal["train", "test"], download: bool) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST, "kmnist": datasets.KMNIST}[source]
    raw = data_dir / kind.__name__ / "raw"
    names = [Path(name).stem for name, _ in kind.resources]
    missing = [name for name in names if not (raw / name).is_file()]
    if missing and not download:
        raise UserError(
            f"{raw.absolute()}: missing {', '.join(missing)}, which were there when this was made; put them back"
        )
    if missing:
        _download(kind, source, data_dir, f"{raw}: missing {', '.join(missing)}")
    for name in names:
        _check_size(raw / name)
    data = kind(str(data_dir), train=part == "train", download=False)
    if data.targets.max() >= len(class_names(source)):
        raise UserError(
            f"{raw}: a label is {int(data.targets.max())}, but {source} has ten classes; fetch the files again"
        )
    if len(data.data) != len(data.targets):
        raise UserError(f"{raw}: {len(data.data)} {part} images but {len(data.targets)} labels; fetch the files again")
    images = F.pad(data.data[:, None], (2, 2, 2, 2))
    return images, data.targets


def _download(kind: type, source: str, data_dir: Path, missing: str) -> None:
    """Let torchvision fetch the files, or say in one line what is missing and where it may be put."""
    raw = data_dir / kind.__name__ / "raw"
    absent = [folder for folder in (raw, *raw.parents) if not folder.exists()]
    try:
        kind(str(data_dir), download=True)
    except (OSError, RuntimeError) as error:
        for folder in absent:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{missing}; downloading failed ({reason}). Put {source}'s four idx files there, or name the folder that "
            f"contains {kind.__name__}/raw with --data-dir"
        ) from error


def _check_size(path: Path) -> None:
    """An idx file's header says how long it must be: two zero bytes, type, dimensions, then a 4-byte size for each."""
    with path.open("rb") as file:
        header = file.read(4)
        dimensions = header[3] if len(header) == 4 and header[:3] == b"\x00\x00\x08" else 0
        raw = file.read(4 * dimensions)
    if not 1 <= dimensions <= 3 or len(raw) != 4 * dimensions:
        raise UserError(f"{path}: not an idx file of bytes, or truncated; fetch it again")
    wanted = 4 + 4 * dimensions + prod(np.frombuffer(raw, dtype=">u4").tolist())
    if path.stat().st_size != wanted:
        raise UserError(f"{path}: truncated, {path.stat().st_size} bytes of {wanted}; fetch it again")
