"""Images with a shortcut that is known, as folders that the commands read, and the images that check it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as v2

import experiments.paintings  # noqa: F401  its looks of digits
from advmix.data.colored import ColoredDigits
from advmix.data.images import ImageSet, png, to_bytes, to_float
from advmix.data.settings import DataConfig
from advmix.named_changes import light_up
from advmix.utils.errors import UserError
from advmix.utils.files import atomic_write
from advmix.utils.torch_tools import generator

COLOR_STD, TEXTURE_STD = 0.1, 0.01
"""How much the looks of a class vary, as in the other experiments."""

PHOTOGRAPHS = {
    "stream": "life_by_Aitzol_Berasategi.jpg",
    "mountain": "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    "meadow": "seeding_by_Clements_Engelhardt.jpg",
}
"""A class each: tiles of a photograph of `experiments/photo_generator/pictures.csv`."""

LIGHT_STOPS = (-1.0, 0.0, 1.0)
"""Red against blue: the light of each photograph, bluer, as it is, warmer."""

SHIFT_PIXELS, MARGIN_PIXELS = 2, 4

TILE_PIXELS, COLUMNS, ROWS = 64, 6, 4
"""Of a tile; blocks into which a photograph is divided."""

TILES = {"train": 30, "test": 16}
"""Of each block."""

MIN_CONTRAST = 24 / 255
"""Standard deviation of grey levels: plain sky says nothing of its photograph, so that tiles with less are left out."""


@dataclass(frozen=True, eq=False)
class GalleryImages:
    """Training and test images that share a shortcut, and the same test images without it.

    Args:
        train: with the shortcut.
        test: new images, with the shortcut as well: a test that does not see it.
        check: the test images, in the same order, where the shortcut says something else.
        checked: what the latter are, in words.
    """

    train: ImageSet
    test: ImageSet
    check: ImageSet
    checked: str

    def write(self, folder: Path) -> None:
        """As `folder/train/CLASS/NUMBER.png` and `folder/test/CLASS/NUMBER.png`; what is there already stays."""
        for part, images in (("train", self.train), ("test", self.test)):
            for number, (pixels, label) in enumerate(zip(images.pixels, images.labels.tolist(), strict=True)):
                path = folder / part / images.classes[label] / f"{number:04}.png"
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    atomic_write(path, png(to_float(pixels[None])[0]))


def digits(look: str, std: float, checked: str) -> GalleryImages:
    """Scikit-learn's digits, painted: the look gives the class away, in the test as well."""
    painted = ColoredDigits(DataConfig(data="digits", look=look, color_std=std), seed=0)
    return GalleryImages(painted.train, painted.biased, painted.shuffled, checked)


def gray_digits() -> GalleryImages:
    """Scikit-learn's digits in grey, all in the middle of a black margin; checked by moving them."""
    painted = ColoredDigits(DataConfig(data="digits"), seed=0)
    train, test = (
        ImageSet(functional.pad(part.pixels, [MARGIN_PIXELS] * 4), part.labels, part.classes)
        for part in (painted.gray_train, painted.gray_test)
    )
    moved = ImageSet(moved_pixels(test.pixels, SHIFT_PIXELS), test.labels, test.classes)
    return GalleryImages(train, test, moved, f"moved by {SHIFT_PIXELS} pixels")


def moved_pixels(pixels: Tensor, by: int) -> Tensor:
    """Images `(N, 1, H, W)` with a margin, each moved left, right, up or down, drawn at random."""
    ways = torch.randint(4, (len(pixels),), generator=generator(0, "gallery", "ways")).tolist()
    steps = ((0, -by), (0, by), (-by, 0), (by, 0))
    return torch.stack([image.roll(steps[way], dims=(1, 2)) for image, way in zip(pixels, ways, strict=True)])


def lit_photographs(folder: Path) -> GalleryImages:
    """Tiles of three photographs, each in light of its own; checked in the light of the next one.

    Args:
        folder: of the photographs.

    Raises:
        UserError: one of them is missing.
    """
    parts = {part: [tiles(folder, name, part) for name in PHOTOGRAPHS] for part in TILES}
    classes = tuple(PHOTOGRAPHS)
    lights = (LIGHT_STOPS, LIGHT_STOPS, (*LIGHT_STOPS[1:], LIGHT_STOPS[0]))
    train, test, check = (
        lit(parts[part], stops, classes) for part, stops in zip(("train", "test", "test"), lights, strict=True)
    )
    return GalleryImages(train, test, check, "each photograph in the light of another one")


def lit(images: Sequence[Tensor], stops: Sequence[float], classes: tuple[str, ...]) -> ImageSet:
    """The images of each class, `(N, 3, H, W)` uint8, in light of its own."""
    pixels = [to_bytes(light_up(to_float(one), by, 0)) for one, by in zip(images, stops, strict=True)]
    labels = [torch.full((len(one),), place) for place, one in enumerate(images)]
    return ImageSet(torch.cat(pixels), torch.cat(labels), classes)


def tiles(folder: Path, name: str, part: str) -> Tensor:
    """Tiles of a photograph, `(N, 3, 64, 64)` uint8.

    It is divided into 6 x 4 blocks. Tiles of a third of the blocks are the test, those of the others the training: no
    pixel is in both. A tile is a random square of 70 to 100 % of a block's shorter side.
    """
    path = folder / PHOTOGRAPHS[name]
    if not path.is_file():
        raise UserError(f"{path}: no such photograph; python -m experiments photo-pictures --out {folder} makes it")
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    cut = []
    for block, box in enumerate(blocks(*photograph.size)):
        if (block % 3 == block // COLUMNS % 3) == (part == "test"):
            for square in squares(box, TILES[part], random.Random(f"{name} {block}")):
                size = (TILE_PIXELS, TILE_PIXELS)
                tile = photograph.resize(size, Image.Resampling.LANCZOS, square, reducing_gap=3)
                cut.append(v2.pil_to_tensor(tile))
    found = torch.stack(cut)
    contrast = v2.rgb_to_grayscale(found).float().std(dim=(1, 2, 3)) / 255
    return found[contrast >= MIN_CONTRAST]


def blocks(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right and bottom of every block, row by row."""
    columns = [width * column // COLUMNS for column in range(COLUMNS + 1)]
    rows = [height * row // ROWS for row in range(ROWS + 1)]
    for row in range(ROWS):
        for column in range(COLUMNS):
            yield columns[column], rows[row], columns[column + 1], rows[row + 1]


def squares(box: tuple[int, int, int, int], count: int, rng: random.Random) -> Iterator[tuple[int, int, int, int]]:
    """Random squares inside a block."""
    left, top, right, bottom = box
    shorter = min(right - left, bottom - top)
    for _ in range(count):
        side = round(shorter * rng.uniform(0.7, 1))
        x, y = rng.randint(left, right - side), rng.randint(top, bottom - side)
        yield x, y, x + side, y + side
