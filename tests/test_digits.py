from __future__ import annotations

import struct
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

from advmix.data.colored import ColoredDigits
from advmix.data.digits import class_names, load_gray
from advmix.data.settings import DataConfig
from advmix.utils.errors import UserError

FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
SOURCES = pytest.mark.parametrize("source", FOLDERS)
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
COUNTS = {"train": 12, "t10k": 7}


def idx(values: np.ndarray) -> bytes:
    """MNIST's format: two zero bytes, the type (8, bytes), the dimensions, their sizes, the numbers."""
    return (
        struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )


def pictures(part: str) -> np.ndarray:
    rng = np.random.default_rng(len(part))
    return rng.integers(0, 256, (COUNTS[part], 28, 28), dtype=np.uint8)


def write_idx(data_dir: Path, source: str) -> Path:
    raw = data_dir / FOLDERS[source] / "raw"
    raw.mkdir(parents=True)
    for part, count in COUNTS.items():
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(pictures(part)))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    return raw


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_training_and_test_digits_are_disjoint() -> None:
    train, test = (load_gray("digits", Path("unused"), part) for part in ("train", "test"))
    assert train[0].shape == (1297, 1, 16, 16)
    assert test[0].shape == (500, 1, 16, 16)
    seen = {row.numpy().tobytes() for row in train[0]}
    assert not any(row.numpy().tobytes() in seen for row in test[0])


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    labels = torch.cat(
        [load_gray("digits", Path("unused"), "train")[1], load_gray("digits", Path("unused"), "test")[1]]
    )
    assert labels.bincount().tolist() == np.bincount(load_digits().target).tolist()
    assert labels.dtype == torch.int64


@SOURCES
def test_idx_files_are_padded_to_32_pixels(tmp_path: Path, source: str) -> None:
    write_idx(tmp_path, source)
    for part, name in (("train", "train"), ("test", "t10k")):
        pixels, labels = load_gray(source, tmp_path, part)  # type: ignore[arg-type]
        assert pixels.shape == (COUNTS[name], 1, 32, 32)
        assert pixels.dtype == torch.uint8
        assert labels.tolist() == [number % 10 for number in range(COUNTS[name])]
        assert np.array_equal(pixels[:, 0, 2:30, 2:30].numpy(), pictures(name))
        assert int(pixels.sum()) == int(pictures(name).sum(dtype=np.int64))


@SOURCES
def test_idx_digits_are_coloured_like_the_others(tmp_path: Path, source: str) -> None:
    write_idx(tmp_path, source)
    data = ColoredDigits(DataConfig(data=source, data_dir=tmp_path, train_images=10))
    assert data.train.pixels.shape == (10, 3, 32, 32)
    assert data.shuffled.pixels.shape == (7, 3, 32, 32)
    assert data.train.classes == class_names(source)
    assert len(set(class_names(source))) == 10


def test_default_size_takes_what_a_small_file_holds_and_an_asked_one_does_not(tmp_path: Path) -> None:
    write_idx(tmp_path, "mnist")
    assert len(ColoredDigits(DataConfig(data="mnist", data_dir=tmp_path)).train) == COUNTS["train"]
    with pytest.raises(UserError, match="--train-images 13: mnist has only 12"):
        ColoredDigits(DataConfig(data="mnist", data_dir=tmp_path, train_images=13)).train  # noqa: B018


def test_a_label_that_is_no_class_is_refused(tmp_path: Path) -> None:
    raw = write_idx(tmp_path, "kmnist")
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.full(COUNTS["train"], 11, dtype=np.uint8)))
    with pytest.raises(UserError, match="a label is 11"):
        load_gray("kmnist", tmp_path, "train")


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UserError, match=r"--data-dir \$NOT_SET_ANYWHERE: the environment variable is not set"):
        load_gray("mnist", Path("$NOT_SET_ANYWHERE"), "train")


@pytest.mark.usefixtures("offline")
def test_a_failed_download_leaves_no_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains MNIST/raw"):
        load_gray("mnist", tmp_path / "a" / "b", "train")
    assert not list(tmp_path.iterdir())


@SOURCES
@pytest.mark.usefixtures("offline")
def test_missing_files_are_named_in_one_line(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError) as caught:
        load_gray(source, tmp_path, "train")
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / FOLDERS[source] / "raw") in message
    assert all(name in message for name in FILES)
    assert "--data-dir" in message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.usefixtures("offline")
def test_single_missing_file_is_the_only_one_named(tmp_path: Path, name: str) -> None:
    raw = write_idx(tmp_path, "mnist")
    (raw / name).unlink()
    with pytest.raises(UserError, match=f"missing {name};"):
        load_gray("mnist", tmp_path, "train")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 3, 4, 6, -1])
def test_truncated_file_is_named(tmp_path: Path, name: str, kept: int) -> None:
    path = write_idx(tmp_path, "mnist") / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"{name}: (truncated|not an idx file)"):
        load_gray("mnist", tmp_path, "train")


@pytest.mark.parametrize("count", [2**31, 2**32 - 1])
def test_more_images_than_a_file_can_hold_are_not_believed(tmp_path: Path, count: int) -> None:
    path = write_idx(tmp_path, "mnist") / FILES[0]
    data = path.read_bytes()
    path.write_bytes(data[:4] + count.to_bytes(4, "big") * 3 + data[16:])
    with pytest.raises(UserError, match=rf"{FILES[0]}: truncated, \d+ bytes of {16 + count**3};"):
        load_gray("mnist", tmp_path, "train")


def test_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = write_idx(tmp_path, "mnist") / FILES[0]
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=f"{FILES[0]}: not an idx file"):
        load_gray("mnist", tmp_path, "train")


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path, "mnist") / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(5, dtype=np.uint8)))
    with pytest.raises(UserError, match="train"):
        load_gray("mnist", tmp_path, "train")


def test_images_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", "mnist")
    write_idx(tmp_path / "b", "mnist")
    configs = [DataConfig(data="mnist", data_dir=tmp_path / name, train_images=8) for name in ("a", "b")]
    first, second = (ColoredDigits(config, seed=3).train for config in configs)
    assert first.fingerprint == second.fingerprint


def test_the_folder_may_name_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "here", "mnist")
    monkeypatch.setenv("ADVMIX_DATA", str(tmp_path))
    images, labels = load_gray("mnist", Path("$ADVMIX_DATA/here"), "train")
    assert len(images) == len(labels) > 0


def test_data_of_an_earlier_stage_are_never_fetched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which were there when this was made"):
        load_gray("mnist", tmp_path, "train", download=False)
    assert not list(tmp_path.iterdir())
