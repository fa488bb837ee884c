"""torchvision's and Hugging Face's data sets."""

from __future__ import annotations

import gc
import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import load_photos, load_pictures
from advmix.data.photos.rows import Source, make_table
from advmix.utils.errors import UserError
from pictures import digit, digit_label, encoded, write
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
    with pytest.raises(UserError, match=r"pip install 'advmix\[hf\]'"):
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
    by_label = load_photos(f"hf:{tmp_path / 'flat'}", replace(WHOLE, site="label"))
    assert [by_label.sites[site] for site in by_label.train.sites] == [
        by_label.classes[label] for label in by_label.train.images.labels
    ]
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


def saved(place: Path, features: dict[str, Any], **splits: dict[str, list[Any]]) -> Path:
    """What `save_to_disk` writes: one split where one is called `alone`."""
    import datasets

    parts = {
        name: datasets.Dataset.from_dict(columns, features=datasets.Features({key: features[key] for key in columns}))
        for name, columns in splits.items()
    }
    (parts["alone"] if "alone" in parts else datasets.DatasetDict(parts)).save_to_disk(str(place))
    return place


def parquet(path: Path, labels: Any, images: list[Any] | None = None) -> Path:
    """Images as structs of bytes and path beside labels; returns the folder."""
    import pyarrow
    from pyarrow import parquet as files

    stored = [{"bytes": encoded(digit(i)), "path": None} for i in range(len(labels))] if images is None else images
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(pyarrow.table({"image": stored, "label": labels}), path)
    return path.parent


@pytest.mark.parametrize(
    ("kind", "values", "classes"),
    [
        *((kind, [0, 1, 1], ("0", "1")) for kind in ("uint8", "uint16", "uint32", "int64", "float32", "float64")),
        ("bool_", [True, False, True], ("False", "True")),
        ("large_string", ["b", "a", "b"], ("a", "b")),
    ],
)
def test_hugging_face_labels_of_every_kind(
    tmp_path: Path, kind: str, values: list[Any], classes: tuple[str, ...]
) -> None:
    import pyarrow

    parquet(tmp_path / "train.parquet", pyarrow.array(values, getattr(pyarrow, kind)()))
    photos = load_photos(f"hf:{tmp_path}", WHOLE)
    assert photos.classes == classes
    assert [photos.classes[label] for label in photos.train.images.labels] == [str(value) for value in values]


def test_a_folder_of_parquet_is_read_by_split(tmp_path: Path) -> None:
    import pyarrow

    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", pyarrow.array([0, 1]))
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", pyarrow.array([1]))
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", pyarrow.array([-1, -1]))
    photos = load_photos(f"hf:{tmp_path}", WHOLE)
    assert {name: len(part) for name, part in photos.splits.items()} == {"train": 3}
    assert (photos.classes, photos.unlabelled) == (("0", "1"), 2)
    assert "test: 2 images without a label, left out" in photos.notes
    assert load_pictures(f"hf:{tmp_path}", WHOLE)[1] == ("test/0", "test/1")
    with pytest.raises(UserError, match=r"read data of Hugging Face as hf:"):
        load_photos(str(tmp_path), WHOLE)
    single = parquet(tmp_path / "single" / "part.parquet", pyarrow.array(["a", "b"]), [encoded(digit(0))] * 2)
    assert load_photos(f"hf:{single}", WHOLE).train.names == ("all/0", "all/1")


def test_hugging_face_test_labels_of_minus_one(tmp_path: Path) -> None:
    import datasets

    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["none", "some"])}
    two = [digit(0), digit(1)]
    place = saved(
        tmp_path / "data",
        features,
        train={"image": two, "label": [0, 1]},
        test={"image": two, "label": [-1, -1]},
        eval={"image": two, "label": [1, 0]},
        extra={"image": two, "label": [1, 0]},
    )
    photos = load_photos(f"hf:{place}", WHOLE)
    assert (list(photos.splits), photos.classes) == (["train", "val"], ("none", "some"))
    assert photos.notes == ("splits left out: extra", "test: 2 images without a label, left out")
    assert "train/1): no value of label; fill it in" in refused_by_hugging_face(
        saved(tmp_path / "train", features, train={"image": two, "label": [0, -1]})
    )


def test_hugging_face_images_that_are_none_are_broken(tmp_path: Path) -> None:
    import datasets

    features = {"image": datasets.Image(), "label": datasets.Value("string")}
    place = saved(tmp_path, features, alone={"image": [digit(0), None, digit(1)], "label": ["a", "a", "b"]})
    assert "1 of 3 images cannot be read: all/1 (no image in it)" in refused_by_hugging_face(place)
    photos = load_photos(f"hf:{place}", replace(WHOLE, skip_broken=True))
    assert photos.train.names == ("all/0", "all/2")


def test_two_columns_of_images_are_refused(tmp_path: Path) -> None:
    import datasets

    features = {"image": datasets.Image(), "mask": datasets.Image(), "label": datasets.Value("int8")}
    two = [digit(0), digit(1)]
    line = refused_by_hugging_face(saved(tmp_path, features, alone={"image": two, "mask": two, "label": [0, 1]}))
    assert "2 columns of images, image, mask; leave one with remove_columns" in line


def test_images_outside_of_a_data_set_are_not_read(tmp_path: Path) -> None:
    import pyarrow

    secret = write(tmp_path, {"secret.png": encoded(digit(0))}) / "secret.png"
    inside = write(tmp_path / "data", {"own.png": encoded(digit(1))}) / "own.png"
    paths = [str(inside), str(secret), str(tmp_path / "data" / ".." / "secret.png"), "/dev/zero"]
    parquet(tmp_path / "data" / "a.parquet", pyarrow.array([0, 1, 1, 1]), [{"bytes": None, "path": p} for p in paths])
    line = refused_by_hugging_face(tmp_path / "data")
    assert "3 of 4 images cannot be read: all/1 (outside of the data set)" in line


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        (
            "train/state.json",
            "_data_files",
            [{"filename": "../../other.arrow"}],
            "names ../../other.arrow, which is not",
        ),
        ("train/state.json", "_format_type", "os.system", "cannot be read"),
        ("train/dataset_info.json", "features", {"image": {"_type": "Popen"}}, "cannot be read"),
        ("dataset_dict.json", "splits", ["../train"], "names ../train, which is not there"),
        ("dataset_dict.json", "splits", json.loads("[" * 90 + "]" * 90), "which is not there"),
    ],
)
def test_saved_data_name_nothing_outside_and_run_nothing(
    tmp_path: Path, name: str, key: str, value: Any, words: str
) -> None:
    import datasets

    features = {"image": datasets.Image(), "label": datasets.Value("int8")}
    place = saved(tmp_path / "data", features, train={"image": [digit(0), digit(1)], "label": [0, 1]})
    said = json.loads((place / name).read_text())
    (place / name).write_text(json.dumps({**said, key: value}))
    assert words in refused_by_hugging_face(place)


def test_nothing_in_a_folder_is_run_or_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*address: object) -> None:
        raise AssertionError(f"asked for {address}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    place = write(tmp_path / "data", {f"train/{name}": content for name, content in tree().items()})
    for address in ("https://example.invalid/x.parquet", "../x.parquet", "/etc/passwd"):
        write(place, {"README.md": f"---\nconfigs:\n- config_name: a\n  data_files: {address}\n---\n"})
        assert f"README.md: names {address} outside of its folder" in refused_by_hugging_face(place)
    write(place, {"README.md": "---\na: !!python/object/apply:os.system [exit]\n---\n"})
    assert "README.md: cannot be read as YAML" in refused_by_hugging_face(place)
    write(place, {"README.md": "", "data.py": "raise AssertionError"})
    assert "scripts are no longer supported" in refused_by_hugging_face(place)
    (place / "data.py").unlink()
    (place / "up").symlink_to(tmp_path)
    assert "holds 1 link to a folder already read; take them away" in refused_by_hugging_face(place)


def test_an_old_library_that_runs_scripts_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "__version__", "2.14.0")
    assert "pip install -U datasets" in refused_by_hugging_face(tmp_path)


def test_damaged_files_of_torchvision_are_one_line(tmp_path: Path) -> None:
    """Two thousand million images, by the header of the file."""
    write_idx(tmp_path, "mnist")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    data = path.read_bytes()
    path.write_bytes(data[:4] + (2**31).to_bytes(4, "big") + data[8:])
    with pytest.raises(UserError, match=r"torchvision:MNIST: cannot be read from") as caught:
        load_photos("torchvision:MNIST", replace(WHOLE, data_dir=tmp_path))
    assert "\n" not in str(caught.value)


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
