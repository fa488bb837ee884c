"""A data set of Hugging Face as a stream: decoded once into the cache, like the same data on the disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from advmix.cli import main
from advmix.data.photos import decode, stream
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, load_photos, load_pictures, native_photos
from advmix.data.photos.pixel_cache import PixelCache
from advmix.utils.errors import UserError
from advmix.utils.machine import MACHINE
from pictures import digit, digit_label, encoded, write
from test_photos import tree

COUNT = 40
OPTIONS = PhotoOptions(size=8, channels=1, holdout=0.25)
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=list("abcdefghij")),
        "odd": datasets.Value("bool"),
        "share": datasets.Value("float64"),
    }
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PixelCache:
    monkeypatch.setattr(MACHINE, "cache", str(tmp_path / "cache"))
    monkeypatch.setattr(MACHINE, "cache_size", None)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(stream, "STREAM_IMAGES", 7)
    return PixelCache(tmp_path / "cache")


def parquet(place: Path, **splits: range) -> Path:
    place.mkdir(exist_ok=True)
    for split, rows in splits.items():
        columns: dict[str, list[Any]] = {
            "image": [{"bytes": encoded(digit(i)), "path": None} for i in rows],
            "label": [digit_label(i) for i in rows],
            "odd": [digit_label(i) % 2 == 1 for i in rows],
            "share": [0.5 if i == 20 else float(i) for i in rows],
        }
        datasets.Dataset.from_dict(columns, features=FEATURES).to_parquet(str(place / f"{split}.parquet"))
        os.utime(place / f"{split}.parquet", (1e9, 1e9))
    return place


def same(one: Photos, other: Photos) -> bool:
    assert (one.classes, one.groups, list(one.splits)) == (other.classes, other.groups, list(other.splits))
    for split, part in one.splits.items():
        found = other.splits[split]
        assert part.names == found.names
        assert torch.equal(part.groups, found.groups)
        assert part.images.fingerprint == found.images.fingerprint
    return (one.sizes, one.modes, one.broken, one.notes) == (other.sizes, other.modes, other.broken, other.notes)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen, real = list[str](), decode.read

    def read(opener: Any, name: str, size: int) -> Any:
        seen.append(name)
        return real(opener, name, size)

    monkeypatch.setattr(decode, "read", read)
    return seen


@pytest.mark.parametrize("splits", [{"train": range(30), "test": range(30, COUNT)}, {"part": range(COUNT)}])
def test_a_stream_is_like_the_data_on_the_disk(
    cache: PixelCache, tmp_path: Path, decoded: list[str], splits: dict[str, range]
) -> None:
    place = parquet(tmp_path / "data", **splits)
    options = replace(OPTIONS, target="label", group=("odd",), holdout=0.25)
    first = load_photos(f"hf-stream:{place}", options)
    assert len(decoded) == COUNT
    again = load_photos(f"hf-stream:{place}", options)
    assert len(decoded) == COUNT, "the second time nothing is decoded"
    assert not list((tmp_path / "hf").rglob("*.arrow")), "nothing else is kept"
    assert len(cache.entries) == (1 if "test" in splits else 2), "a test that is held out has an entry of its own"
    on_disk = load_photos(f"hf:{place}", options)
    assert same(first, on_disk)
    assert same(again, on_disk)


def test_splits_of_a_stream_are_mapped(cache: PixelCache, tmp_path: Path) -> None:
    place = parquet(tmp_path / "data", train=range(30), test=range(30, COUNT))
    photos = load_photos(f"hf-stream:{place}", replace(OPTIONS, target="label"))
    train, test = photos.train.images.pixels, photos.test.images.pixels
    assert train.untyped_storage().data_ptr() == test.untyped_storage().data_ptr()
    assert train.untyped_storage().nbytes() == COUNT * 64


def test_columns_are_the_same_in_all_batches(cache: PixelCache, tmp_path: Path) -> None:
    """A column of numbers that are not all whole is none, wherever the first of these is."""
    place = parquet(tmp_path / "data", part=range(COUNT))
    for kind in ("hf-stream", "hf"):
        with pytest.raises(UserError, match=r"--target share: .* has no such column"):
            load_photos(f"{kind}:{place}", replace(OPTIONS, target="share"))


def test_a_folder_of_images_and_unlabelled_ones(cache: PixelCache, tmp_path: Path) -> None:
    place = write(tmp_path / "tree", {f"train/{name}": content for name, content in tree().items()})
    for path in place.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    options = replace(OPTIONS, limit=9)
    assert same(load_photos(f"hf-stream:{place}", OPTIONS), load_photos(f"hf:{place}", OPTIONS))
    found, names, _ = load_pictures(f"hf-stream:{place}", options, "train")
    expected, known, _ = load_pictures(f"hf:{place}", options, "train")
    assert names == known
    assert torch.equal(found, expected)


def test_a_stream_of_other_files_or_settings_is_another(cache: PixelCache, tmp_path: Path, decoded: list[str]) -> None:
    place, options = parquet(tmp_path / "data", train=range(30), test=range(30, COUNT)), replace(OPTIONS, target="odd")
    load_photos(f"hf-stream:{place}", options)
    load_photos(f"hf-stream:{place}", replace(options, target="label", split_seed=4))
    assert len(decoded) == COUNT
    load_photos(f"hf-stream:{place}", replace(options, crop="pad"))
    assert len(decoded) == 2 * COUNT
    os.utime(place / "test.parquet", (1e9, 1e9 + 5))
    load_photos(f"hf-stream:{place}", options)
    assert len(decoded) == 3 * COUNT
    os.utime(place / "test.parquet")
    with pytest.raises(UserError, match="or were written just now; try again"):
        load_photos(f"hf-stream:{place}", options)


def test_images_that_cannot_be_read_are_named(cache: PixelCache, tmp_path: Path) -> None:
    secret = write(tmp_path, {"secret.png": encoded(digit(0))}) / "secret.png"
    stored: list[dict[str, Any]] = [{"bytes": encoded(digit(i)), "path": None} for i in range(12)]
    stored[3], stored[9] = {"bytes": b"none", "path": None}, {"bytes": None, "path": str(secret)}
    columns = {"image": stored, "label": [i % 2 for i in range(12)]}
    place = tmp_path / "data"
    place.mkdir()
    features = datasets.Features(
        {
            "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.Value("int8"),
        }
    )
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(place / "train.parquet"))
    os.utime(place / "train.parquet", (1e9, 1e9))
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"2 of 12 images .*: train/3 \(not an .*, train/9 \(outside of the data set\)"
        ):
            load_photos(f"hf-stream:{place}", replace(OPTIONS, holdout=0))
    skipping = replace(OPTIONS, holdout=0, skip_broken=True)
    assert same(load_photos(f"hf-stream:{place}", skipping), load_photos(f"hf:{place}", skipping))


def refused(place: str, options: PhotoOptions = OPTIONS) -> str:
    with pytest.raises(UserError) as caught:
        load_photos(place, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_stream_needs_is_one_line(cache: PixelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = parquet(tmp_path / "data", train=range(COUNT))
    (tmp_path / "saved").mkdir()
    datasets.Dataset.from_dict({"label": [0]}).save_to_disk(str(tmp_path / "saved"))
    assert "on the disk already; read it as hf:" in refused(f"hf-stream:{tmp_path / 'saved'}")
    monkeypatch.setattr(MACHINE, "cache_size", 1000)
    assert "images of it take" in refused(f"hf-stream:{place}")
    assert "the cache has no room for them; name a larger --cache-size" in refused(f"hf-stream:{place}")
    assert not list(cache.folder.iterdir()), "nothing of it is kept"
    monkeypatch.setattr(MACHINE, "cache", str(write(tmp_path / "closed", {"a": ""}) / "a" / "b"))
    assert "Not a directory; name another folder with --cache" in refused(f"hf-stream:{place}")
    monkeypatch.setattr(MACHINE, "cache", "none")
    assert "keeps its images in the cache, and there is none; name one" in refused(f"hf-stream:{place}")


def test_a_stream_that_breaks_off_is_not_kept(
    cache: PixelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = parquet(tmp_path / "data", train=range(COUNT)), datasets.IterableDataset.iter

    def broken(self: Any, batch_size: int) -> Any:
        for number, batch in enumerate(real(self, batch_size)):
            if number == 2:
                raise ConnectionError("reset by peer")
            yield batch

    monkeypatch.setattr(datasets.IterableDataset, "iter", broken)
    assert "the stream broke off after 14 images (reset by peer); run it again" in refused(f"hf-stream:{place}")
    assert not list(cache.folder.iterdir())


def test_other_sizes_than_the_kept_one_are_refused(cache: PixelCache, tmp_path: Path) -> None:
    place = parquet(tmp_path / "data", train=range(COUNT))
    with (
        native_photos(f"hf-stream:{place}", OPTIONS) as native,
        pytest.raises(UserError, match=r"only its 8 pixels were kept of the stream; name the --size"),
    ):
        native.pixels(("train/0",), 224)


def test_the_command_reads_a_stream(cache: PixelCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = parquet(tmp_path / "data", train=range(30), test=range(30, COUNT))
    flags = ["--target", "label", "--size", "8", "--cache", str(cache.folder), "--out", str(tmp_path / "out")]
    assert main(["data", f"hf-stream:{place}", *flags]) == 0
    assert "40 images in 10 classes" in capsys.readouterr().out
