"""Images are decoded once; a cache that is damaged, old or too large is noticed."""

from __future__ import annotations

import os
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from torch import Tensor

from advmix.cli import main
from advmix.data.photos import decode
from advmix.data.photos import pixel_cache as caches
from advmix.data.photos.decode import Decoded, PhotoOptions
from advmix.data.photos.load import Photos, load_photos, load_pictures
from advmix.data.photos.pixel_cache import PixelCache
from advmix.utils.errors import UserError
from advmix.utils.files import TEMPORARY
from advmix.utils.machine import MACHINE
from pictures import digit, encoded, write
from test_digits import write_idx

COUNT = 24
OPTIONS = PhotoOptions(size=8, holdout=0.25)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PixelCache:
    monkeypatch.setattr(MACHINE, "cache", str(tmp_path / "cache"))
    monkeypatch.setattr(MACHINE, "cache_size", None)
    found = PixelCache.named()
    assert found is not None
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    files: dict[str, bytes | str] = {f"{'ab'[i % 2]}/{i:02}.png": encoded(digit(i)) for i in range(COUNT)}
    return aged(write(tmp_path / "data", files))


def aged(place: Path, seconds: float = 100) -> Path:
    """As if the files were not of just now."""
    for path in [place, *place.rglob("*")]:
        found = path.stat().st_mtime
        os.utime(path, (found - seconds, found - seconds))
    return place


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded."""
    seen: list[str] = []
    real = decode.read

    def read(opener: object, name: str, size: int) -> object:
        seen.append(name)
        return real(opener, name, size)  # type: ignore[arg-type]

    monkeypatch.setattr(decode, "read", read)
    return seen


def pixels(photos: Photos) -> Tensor:
    return torch.cat([photos.train.images.pixels, photos.test.images.pixels])


def test_images_are_decoded_once(cache: PixelCache, data: Path, decoded: list[str]) -> None:
    first = load_photos(str(data), OPTIONS)
    assert len(decoded) == COUNT
    again = load_photos(str(data), OPTIONS)
    assert len(decoded) == COUNT
    assert len(cache.entries) == 1
    MACHINE.cache = "none"
    plain = load_photos(str(data), OPTIONS)
    assert len(decoded) == 2 * COUNT
    for found in (first, again):
        for name, known in plain.splits.items():
            assert torch.equal(found.splits[name].images.pixels, known.images.pixels)
            assert found.splits[name].images.fingerprint == known.images.fingerprint
            assert found.splits[name].names == known.names
        assert (found.sizes, found.modes) == (plain.sizes, plain.modes)


def test_splits_share_the_memory_of_the_file(cache: PixelCache, data: Path) -> None:
    load_photos(str(data), OPTIONS)
    photos = load_photos(str(data), OPTIONS)
    train, test = photos.train.images.pixels, photos.test.images.pixels
    assert train.untyped_storage().data_ptr() == test.untyped_storage().data_ptr()
    train[0] = 7  # what is written into it stays with this process
    assert not torch.equal(load_photos(str(data), OPTIONS).train.images.pixels[0], train[0])


@pytest.mark.parametrize("change", [{"size": 9}, {"channels": 1}, {"crop": "pad"}, {"split_seed": 5}])
def test_other_settings_are_other_entries(cache: PixelCache, data: Path, change: dict[str, object]) -> None:
    load_photos(str(data), OPTIONS)
    other = PhotoOptions(**{"size": 8, "holdout": 0.25, **change})  # type: ignore[arg-type]
    cached = pixels(load_photos(str(data), other))
    assert len(cache.entries) == 2
    MACHINE.cache = "none"
    assert torch.equal(cached, pixels(load_photos(str(data), other)))


def test_a_changed_file_is_read_again(cache: PixelCache, data: Path) -> None:
    before = pixels(load_photos(str(data), OPTIONS))
    path = data / "a" / "00.png"
    old = path.stat()
    path.write_bytes(encoded(digit(5)))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 10**9))
    after = pixels(load_photos(str(data), OPTIONS))
    assert not torch.equal(before, after)


def test_files_of_just_now_are_not_kept(cache: PixelCache, data: Path) -> None:
    (data / "a" / "00.png").write_bytes(encoded(digit(5)))
    load_photos(str(data), OPTIONS)
    assert not cache.entries


DAMAGE = {
    "a byte": lambda pixels, facts: pixels.write_bytes(b"\1" + pixels.read_bytes()[1:]),
    "cut": lambda pixels, facts: pixels.write_bytes(pixels.read_bytes()[:-5]),
    "longer": lambda pixels, facts: pixels.write_bytes(pixels.read_bytes() + b"\0"),
    "no pixels": lambda pixels, facts: pixels.unlink(),
    "no json": lambda pixels, facts: facts.write_text("{"),
    "empty": lambda pixels, facts: facts.write_text(""),
    "list": lambda pixels, facts: facts.write_text("[]"),
    "shape": lambda pixels, facts: facts.write_text(facts.read_text().replace("24", "12")),
    "huge": lambda pixels, facts: facts.write_text(facts.read_text().replace("24", str(10**18))),
    "digest": lambda pixels, facts: facts.write_text(facts.read_text().replace('_sha256": "', '_sha256": "0')),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_made_again(cache: PixelCache, data: Path, decoded: list[str], kind: str) -> None:
    before = pixels(load_photos(str(data), OPTIONS)).clone()
    (facts,) = cache.entries
    DAMAGE[kind](facts.with_suffix(".pixels"), facts)
    assert torch.equal(pixels(load_photos(str(data), OPTIONS)), before)
    assert len(decoded) == 2 * COUNT
    load_photos(str(data), OPTIONS)
    assert len(decoded) == 2 * COUNT


def test_broken_images_are_tried_again(cache: PixelCache, data: Path, decoded: list[str]) -> None:
    options = PhotoOptions(size=8, holdout=0.25, skip_broken=True)
    (data / "a" / "90.png").write_bytes(b"none")
    aged(data, 10)
    first = load_photos(str(data), options)
    assert [image.name for image in first.broken] == ["a/90.png"]
    decoded.clear()
    again = load_photos(str(data), options)
    assert [image.name for image in again.broken] == ["a/90.png"]
    assert decoded == ["a/90.png"]
    assert torch.equal(pixels(first), pixels(again))


def test_an_image_that_can_be_read_after_all_is_read(cache: PixelCache, data: Path) -> None:
    options, real = PhotoOptions(size=8, holdout=0.25, skip_broken=True), decode.fitted
    whole = pixels(load_photos(str(data), options))
    cache.clear()
    tries = []

    def once_away(*arguments: object) -> object:
        tries.append(1)
        if len(tries) == 3:
            raise decode.UnreadableError("away")
        return real(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as away:
        away.setattr(decode, "fitted", once_away)
        assert len(load_photos(str(data), options).broken) == 1
    after = load_photos(str(data), options)
    assert not after.broken
    assert torch.equal(pixels(after), whole)


def test_the_oldest_entries_go_first(cache: PixelCache, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MACHINE, "cache_size", 32_000)
    for place, size in enumerate((8, 12, 16)):
        load_photos(str(data), PhotoOptions(size=size))
        for path in cache.entries:
            found = path.stat().st_mtime
            os.utime(path, (found - 50, found - 50))
        assert len(cache.entries) == (1, 2, 2)[place]
    sides = {round((path.with_suffix(".pixels").stat().st_size / COUNT / 3) ** 0.5) for path in cache.entries}
    assert sides == {12, 16}
    assert cache.bytes <= 32_000


def test_what_is_too_large_is_not_kept(cache: PixelCache, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MACHINE, "cache_size", 1000)
    assert len(load_photos(str(data), OPTIONS).train) > 0
    assert not cache.entries


def test_parts_that_are_written_are_not_kept_in_memory(cache: PixelCache) -> None:
    living: list[weakref.ref[Tensor]] = []

    def give(put: Callable[[Decoded], None]) -> None:
        for place in range(3):
            part = torch.full((2, 3, 8, 8), place, dtype=torch.uint8)
            living.append(weakref.ref(part))
            put(Decoded(part, torch.arange(2) + 2 * place, (), Counter({(8, 8): 2}), Counter({"RGB": 2})))
            del part
            assert [found() for found in living] == [None] * (place + 1)

    assert cache.has_room(3 * 2 * 3 * 8 * 8)
    found = cache.write("0" * 32, give)
    assert found is not None
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_folder_that_cannot_be_written_is_no_matter(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: PixelCache
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PixelCache, "write", full)
    assert len(load_photos(str(data), OPTIONS).train) > 0


def test_pixels_whose_facts_cannot_be_written_are_removed(
    data: Path, monkeypatch: pytest.MonkeyPatch, cache: PixelCache
) -> None:
    def full(*_: object) -> None:
        raise UserError("no disk space left")

    monkeypatch.setattr(caches, "write_json", full)
    assert len(load_photos(str(data), OPTIONS).train) > 0
    assert not list(cache.folder.iterdir())


def test_a_cache_that_may_only_be_read_is_read(
    data: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, cache: PixelCache
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    load_photos(str(data), OPTIONS)
    decoded.clear()
    monkeypatch.setattr(os, "utime", refused)
    load_photos(str(data), OPTIONS)
    assert not decoded
    assert len(cache.entries) == 1


def test_what_was_never_finished_goes_when_it_is_old(data: Path, cache: PixelCache) -> None:
    cache.folder.mkdir()
    old_age = 2 * caches.ABANDONED_SECONDS
    ages = {
        f"{'0' * 32}.pixels": old_age,
        f"{'0' * 32}.1-2.part": old_age,
        f".0{TEMPORARY}": old_age,
        f"{'1' * 32}.pixels": 10,
        f"{'1' * 32}.1-2.part": 10,
        f".1{TEMPORARY}": 10,
        "own.pixels": old_age,
    }
    for name, age in ages.items():
        (cache.folder / name).touch()
        os.utime(cache.folder / name, (time.time() - age, time.time() - age))
    load_photos(str(data), OPTIONS)
    (facts,) = cache.entries
    left = {path.name for path in cache.folder.iterdir()} - {facts.name, facts.with_suffix(".pixels").name}
    assert left == {name for name, age in ages.items() if age == 10} | {"own.pixels"}


def test_archives_and_unlabelled_images_are_kept_too(cache: PixelCache, data: Path, decoded: list[str]) -> None:
    place = data.parent / "data.zip"
    with ZipFile(place, "w") as packed:
        for path in sorted(data.rglob("*.png")):
            packed.write(path, path.relative_to(data))
    os.utime(place, (1e9, 1e9))
    first, names, _ = load_pictures(str(place), OPTIONS)
    again, _, _ = load_pictures(str(place), OPTIONS)
    assert len(decoded) == len(names) == COUNT
    assert torch.equal(first, again)
    os.utime(place, (1e9 + 1, 1e9 + 1))
    load_pictures(str(place), OPTIONS)
    assert len(decoded) == 2 * COUNT


def old(*places: Path) -> None:
    for path in (path for place in places for path in place.rglob("*")):
        os.utime(path, (1e9, 1e9))


def test_data_sets_of_torchvision_are_kept(cache: PixelCache, tmp_path: Path, decoded: list[str]) -> None:
    write_idx(tmp_path, "mnist")
    options = PhotoOptions(size=28, channels=1, data_dir=tmp_path)
    first, count = load_photos("torchvision:MNIST", options), len(decoded)
    again = load_photos("torchvision:MNIST", options)
    assert len(decoded) == count > 0
    assert torch.equal(pixels(first), pixels(again))
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    assert load_photos("torchvision:MNIST", options).test.images.pixels[-1, 0, -1, -1] == 7
    assert len(decoded) == 2 * count


def test_data_sets_of_torchvision_in_files_are_kept(cache: PixelCache, tmp_path: Path, decoded: list[str]) -> None:
    home = tmp_path / "eurosat"
    files: dict[str, bytes | str] = {f"2750/{'ab'[i % 2]}/{i}.jpg": encoded(digit(i), "JPEG") for i in range(6)}
    old(write(home, files))
    options = PhotoOptions(size=8, data_dir=tmp_path)
    for count in (6, 6):
        load_photos("torchvision:EuroSAT", options)
        assert len(decoded) == count
    os.utime(home / "2750" / "a" / "0.jpg", (1e9, 2e9 - 1e9 + 1))
    load_photos("torchvision:EuroSAT", options)
    assert len(decoded) == 12


@pytest.mark.parametrize("kind", ["saved", "parquet", "paths"])
def test_data_sets_of_hugging_face_are_kept(
    cache: PixelCache, tmp_path: Path, decoded: list[str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where images lie in the table, and where it names their files."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    labels, images = [i % 2 for i in range(6)], [encoded(digit(i)) for i in range(6)]
    own = write(tmp_path / "data", {f"own/{i}.png": image for i, image in enumerate(images)})
    stored: list[dict[str, object]] = [{"bytes": image, "path": None} for image in images]
    if kind == "paths":
        stored = [{"bytes": None, "path": str(own / "own" / f"{i}.png")} for i in range(6)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"image": stored, "label": labels}, features=features)
    if kind == "saved":
        data.save_to_disk(str(own))
    else:
        data.to_parquet(str(own / "train.parquet"))
    old(own)
    load_photos(f"hf:{own}", OPTIONS)  # writes the library's own table
    old(own, tmp_path / "hf")
    load_photos(f"hf:{own}", OPTIONS)
    decoded.clear()
    load_photos(f"hf:{own}", OPTIONS)
    assert not decoded
    changed = {"saved": own, "parquet": tmp_path / "hf", "paths": own / "own"}[kind]
    path = next(path for path in sorted(changed.rglob("*")) if path.suffix in (".arrow", ".png"))
    os.utime(path, (1e9, 1e9 + 1))
    load_photos(f"hf:{own}", OPTIONS)
    assert len(decoded) == 6


def test_the_command_shows_and_empties_it(
    cache: PixelCache, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_photos(str(data), OPTIONS)
    (cache.folder / "own.json").write_text("{}")
    (cache.folder / f"{'0' * 32}.1-2.part").write_text("of one who has died")
    where = ["--cache", str(cache.folder)]
    assert main(["cache", *where]) == 0
    assert "1 entry" in capsys.readouterr().out.replace("\n", " ")
    assert main(["cache", *where, "--clear"]) == 0
    assert [path.name for path in cache.folder.iterdir()] == ["own.json"], "nothing else is touched"
    assert main(["cache", "--cache", "none"]) == 0
    assert main(["cache", "--cache", str(data / "a" / "00.png")]) == 2
    assert "not a folder" in capsys.readouterr().err


def test_where_it_is_follows_the_flag_then_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(MACHINE, "cache", None)
    monkeypatch.setenv(caches.VARIABLE, "none")
    assert PixelCache.named() is None
    monkeypatch.setenv(caches.VARIABLE, str(tmp_path / "env"))
    assert PixelCache.named() == PixelCache(tmp_path / "env")
    monkeypatch.setattr(MACHINE, "cache", str(tmp_path / "flag"))
    monkeypatch.setattr(MACHINE, "cache_size", 5)
    assert PixelCache.named() == PixelCache(tmp_path / "flag", 5)
    monkeypatch.setattr(MACHINE, "cache", None)
    monkeypatch.delenv(caches.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    found = PixelCache.named()
    assert found is not None
    assert found.folder == tmp_path / "xdg" / "advmix"


@pytest.mark.parametrize(
    ("name", "words"), [("a" * 300, "File name too long"), ("~nobody-of-this-name/cache", "no such home")]
)
def test_a_folder_that_cannot_be_is_one_line(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--cache", name]) == 2
    error = capsys.readouterr().err
    assert "--cache" in error
    assert f"({words}); name another one, or none" in error


def test_two_processes_write_the_same_entry(cache: PixelCache, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one begins when the first has decoded a part, and ends before it."""
    real, nested = PixelCache.write, list[Tensor]()

    def write_twice(self: PixelCache, key: str, parts: object) -> object:
        monkeypatch.setattr(PixelCache, "write", real)
        nested.append(pixels(load_photos(str(data), OPTIONS)).clone())
        return real(self, key, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(PixelCache, "write", write_twice)
    assert torch.equal(pixels(load_photos(str(data), OPTIONS)), nested[0])
    assert len(cache.entries) == 1
    assert not list(cache.folder.glob("*.part"))
