"""torchvision's and Hugging Face's data sets."""

from __future__ import annotations

import gc
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advmix.data.photos import PhotoOptions, load_photos
from advmix.data.photos.rows import Source
from advmix.data.photos.table import make_table
from advmix.errors import UserError
from pictures import digit, digit_label, write
from test_digits import write_idx
from test_photos import COUNT, WHOLE, tree


def test_torchvision(tmp_path: Path) -> None:
    write_idx(tmp_path, "mnist")
    photos = load_photos("torchvision:MNIST", PhotoOptions(size=28, channels=1, data_dir=tmp_path))
    from torchvision.datasets import MNIST

    for found, train in ((photos.train, True), (photos.test, False)):
        expected = MNIST(str(tmp_path), train=train)
        assert torch.equal(found.images.pixels[:, 0], expected.data)
        assert torch.equal(found.images.labels, expected.targets)
    assert photos.classes[3] == "3 - three"


def test_torchvision_fetches_nothing_unasked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"torchvision:CIFAR10.*--download"):
        load_photos("torchvision:CIFAR10", PhotoOptions(data_dir=tmp_path))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"CIFAR11: unknown; .*CIFAR10"):
        load_photos("torchvision:CIFAR11", WHOLE)


def test_hugging_face_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        load_photos("hf:mnist", WHOLE)


def test_hugging_face_local_copies(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcdefghij"))})
    columns = {"image": [digit(i) for i in range(COUNT)], "label": [digit_label(i) for i in range(COUNT)]}
    data = datasets.Dataset.from_dict(columns, features=features)
    data.save_to_disk(str(tmp_path / "flat"))
    datasets.DatasetDict({"train": data, "validation": data}).save_to_disk(str(tmp_path / "split"))
    write(tmp_path / "tree", {f"train/{name}": content for name, content in tree().items()})
    for name in ("flat", "split", "tree"):
        photos = load_photos(f"hf:{tmp_path / name}", WHOLE)
        assert photos.classes == tuple("0123456789" if name == "tree" else "abcdefghij")
        pixels = {image.numpy().tobytes() for image in photos.train.images.pixels}
        assert pixels == {np.asarray(digit(i)).tobytes() for i in range(COUNT)}
    assert list(load_photos(f"hf:{tmp_path / 'split'}", WHOLE).splits) == ["train", "val"]
    with pytest.raises(UserError, match=r"hf:.*none: cannot be read"):
        load_photos(f"hf:{tmp_path / 'none'}", WHOLE)


def test_hugging_face_fetches_nothing_unasked(monkeypatch: pytest.MonkeyPatch) -> None:

    def refuse(*address: object) -> None:
        raise AssertionError(f"asked for {address}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(UserError, match=r"hf:nobody/nothing: cannot be read .*--download"):
        load_photos("hf:nobody/nothing", WHOLE)


def refused_by_hugging_face(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_photos(f"hf:{place}", WHOLE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_hugging_face_data_without_labels_are_refused(tmp_path: Path) -> None:
    import datasets

    kinds = {"image": datasets.Image(), "score": datasets.Value("float32")}
    few: dict[str, list[object]] = {"image": [digit(0), digit(1)], "score": [0.5, 1.0]}
    datasets.Dataset.from_dict(few, features=datasets.Features(kinds)).save_to_disk(str(tmp_path / "scores"))
    assert "no column of words or whole numbers that could be labels; there are image, score" in (
        refused_by_hugging_face(tmp_path / "scores")
    )


def test_a_library_without_rows_is_refused() -> None:
    with pytest.raises(UserError, match="hf:none: no labelled images"):
        make_table(Source("hf:none", (), Image.open), WHOLE, seed=0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves a file open
def test_files_of_which_hugging_face_makes_nothing_are_refused(tmp_path: Path) -> None:
    """It notices within one batch of rows, or between two, and raises another error."""
    for name, rows in (("few", 1), ("many", 2000)):
        unlike = write(tmp_path / name, {"a.csv": "x,why\n" + "1,2\n" * rows, "b.csv": "x,zed\n" + "1,2\n" * rows})
        line = refused_by_hugging_face(unlike)
        assert "its files cannot be made into a data set (" in line
        assert "why" in line
        assert "zed" in line
    gc.collect()
