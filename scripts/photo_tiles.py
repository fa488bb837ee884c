"""Tiles of a few photographs, as a folder that the commands read: a tile's class is the photograph it was cut from.

    python scripts/photo_tiles.py OUT stream=life.jpg mountain=picosdeeuropa.jpg ...

Every photograph is divided into 6 x 4 blocks. Tiles of a third of the blocks are the test, those of the others the
training: no pixel is in both. A tile is a random square of 70 to 100 % of a block's shorter side, made 64 x 64 pixels.
Plain sky says nothing of its photograph, so that tiles with little contrast are left out.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageStat

COLUMNS, ROWS = 6, 4
TILE_PIXELS = 64
TILES_PER_BLOCK = {"train": 30, "test": 16}
MIN_CONTRAST = 24
"""Standard deviation of the grey levels, of 255."""


def main() -> None:
    """Read the arguments, and cut every photograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder that is made: OUT/train/CLASS and OUT/test/CLASS")
    parser.add_argument("photographs", nargs="+", metavar="CLASS=FILE", help="name of a class and its photograph")
    arguments = parser.parse_args()
    for photograph in arguments.photographs:
        name, _, path = photograph.partition("=")
        cut_photograph(Path(path), name, arguments.out)


def cut_photograph(path: Path, name: str, out: Path) -> None:
    """Write the tiles of one photograph below `out/train/name` and `out/test/name`."""
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    for block, box in enumerate(blocks(*photograph.size)):
        part = "test" if block % 3 == block // COLUMNS % 3 else "train"
        folder = out / part / name
        folder.mkdir(parents=True, exist_ok=True)
        for index, square in enumerate(squares(box, TILES_PER_BLOCK[part], random.Random(f"{name} {block}"))):
            tile = photograph.resize((TILE_PIXELS, TILE_PIXELS), Image.Resampling.LANCZOS, square, reducing_gap=3)
            if ImageStat.Stat(tile.convert("L")).stddev[0] >= MIN_CONTRAST:
                tile.save(folder / f"{block:02d}-{index:02d}.png")


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


if __name__ == "__main__":
    main()
