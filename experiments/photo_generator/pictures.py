"""The photographs that `photo` learns from: which they are, whence they come, and how they lie in memory."""

from __future__ import annotations

import csv
import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from advmix.utils.config import Settings
from advmix.utils.errors import UserError
from advmix.utils.files import hexdigest, make_folder
from advmix.utils.progress import console

LIST = Path(__file__).with_name("pictures.csv")
LONGEST = 1600
"""Pixels of a picture's longer side in memory; larger ones are shrunk to it."""
SMALLEST = 32
"""Pixels of the shorter side of a picture's last, smallest level."""


@dataclass(frozen=True)
class Picture:
    """A line of `pictures.csv`.

    Args:
        file: its name in the folder of photographs.
        path: its place in the unpacked package.
        package: of Debian, or of the Python Package Index.
        version: of the package.
        author: of the photograph.
        licence: of the photograph, as SPDX calls it, or `public domain`.
        sha256: of the file.
        source: file and line of the package that say so; `copyright` is Debian's.
    """

    file: str
    path: str
    package: str
    version: str
    author: str
    licence: str
    sha256: str
    source: str


def listed_pictures(path: Path = LIST) -> list[Picture]:
    """All photographs, in the list's order."""
    with path.open(newline="") as file:
        return [Picture(**row) for row in csv.DictReader(file)]


@dataclass(frozen=True)
class PicturesConfig(Settings):
    """Copy the photographs that `photo` learns from out of the packages that they come with, and check them.

    Args:
        unpacked: folder with a folder for each package, by its name: what `dpkg-deb -x PACKAGE.deb UNPACKED/PACKAGE`
            and `unzip PACKAGE.whl -d UNPACKED/PACKAGE` make.
        out: folder for the photographs.
    """

    unpacked: Path = Path("runs/unpacked")
    out: Path = Path("runs/pictures")


def run_pictures(config: PicturesConfig) -> None:
    """Copy all that are listed.

    Raises:
        UserError: a photograph is missing or another one.
    """
    listed = listed_pictures()
    gather_pictures(config.unpacked, config.out, listed)
    console.print(f"  {len(listed)} photographs in {config.out}")


def gather_pictures(unpacked: Path, folder: Path, pictures: Sequence[Picture]) -> None:
    """The same with a list of your own."""
    make_folder(folder, parents=True)
    for picture in pictures:
        source = unpacked / picture.package / picture.path
        _check(source, picture)
        shutil.copyfile(source, folder / picture.file)


def _check(path: Path, picture: Picture) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; unpack {picture.package} {picture.version} into the folder above")
    if hashlib.sha256(path.read_bytes()).hexdigest() != picture.sha256:
        raise UserError(f"{path}: not the photograph of {picture.package} {picture.version}; take it from there")


@dataclass(frozen=True, eq=False)
class Pyramids:
    """Photographs in memory, each in several sizes: every level has half the side of the one before it.

    Args:
        levels: for each photograph its levels, `(3, H, W)` uint8, the largest first.
    """

    levels: tuple[tuple[Tensor, ...], ...]

    @classmethod
    def read(cls, folder: Path, pictures: Sequence[Picture]) -> Pyramids:
        """The photographs of a list, from the folder that `gather_pictures` made.

        Raises:
            UserError: a photograph is missing or another one.
        """
        for picture in pictures:
            _check(folder / picture.file, picture)
        return cls.of([Image.open(folder / picture.file).convert("RGB") for picture in pictures])

    @classmethod
    def of(cls, pictures: Sequence[Image.Image]) -> Pyramids:
        """Of RGB pictures."""
        return cls(tuple(tuple(_levels(picture)) for picture in pictures))

    def __len__(self) -> int:
        return len(self.levels)

    @cached_property
    def weights(self) -> Tensor:
        """How often each is drawn, `(N,)`: as the side of a square with as many pixels."""
        return torch.tensor([math.sqrt(levels[0][0].numel()) for levels in self.levels])

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any pixel."""
        return hexdigest(*(part for levels in self.levels for part in (str(tuple(levels[0].shape)), levels[0])))


def _levels(picture: Image.Image) -> Iterator[Tensor]:
    side = max(picture.size)
    if side > LONGEST:
        picture = picture.resize([round(one * LONGEST / side) for one in picture.size], Image.Resampling.LANCZOS)
    while True:
        yield torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        if min(picture.size) < 2 * SMALLEST:
            return
        picture = picture.reduce(2)
