"""`predictions.csv`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from torch import Tensor

from advmix.answers import answers
from advmix.files import atomic_write
from advmix.stages.pictures import Pictures

PREDICTIONS = "predictions.csv"


def write_predictions(path: Path, probabilities: Tensor, pictures: Pictures, classes: tuple[str, ...] | None) -> None:
    """A row for each image: `image`, `label` where known, `prediction`, and the probability of each class; empty cells
    where the answer is not a number.

    Args:
        path: of the file.
        probabilities: `(N, K)`.
        pictures: N images.
        classes: K names; numbers where None.
    """
    names = classes or tuple(str(index) for index in range(probabilities.shape[1]))
    file = io.StringIO(newline="")
    split = "\r" in "".join([*pictures.names, *names])
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if split else csv.QUOTE_MINIMAL)
    known = [] if pictures.labels is None else ["label"]
    writer.writerow(["image", *known, "prediction", *(f"p {name}" for name in names)])
    labels = [[]] * len(pictures.names) if pictures.labels is None else [[names[i]] for i in pictures.labels.tolist()]
    seen = ["" if answer < 0 else names[answer] for answer in answers(probabilities).tolist()]
    for name, label, answer, row in zip(pictures.names, labels, seen, probabilities.tolist(), strict=True):
        writer.writerow([name, *label, answer, *(f"{value:.6f}" if answer else "" for value in row)])
    atomic_write(path, file.getvalue().encode())
