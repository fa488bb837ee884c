"""A folder of pictures to try advmix on: handwritten digits, each class in a colour of its own, in the test as well.

    python examples/colored_folder.py photos

Writes `photos/train/CLASS/NUMBER.png` (1,297 images) and `photos/test/CLASS/NUMBER.png` (500), 16x16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

COLORS = [(230, 60, 60), (60, 200, 60), (80, 110, 250), (230, 220, 60), (220, 70, 220)]
COLORS += [(60, 220, 220), (240, 150, 50), (150, 90, 240), (150, 150, 150), (245, 245, 245)]
TRAIN = 1297


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, help="only so many")
    arguments = parser.parse_args()
    rng, digits = np.random.default_rng(0), load_digits()
    for number in rng.permutation(len(digits.target))[: arguments.images].tolist():
        split, label = ("train" if number < TRAIN else "test"), int(digits.target[number])
        color = np.array(COLORS[label]) + rng.normal(0, 10, 3)
        pixels = (digits.images[number] / 16)[..., None] * color.clip(0, 255)
        path = arguments.folder / split / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).resize((16, 16), Image.Resampling.BILINEAR).save(path)


if __name__ == "__main__":
    main()
