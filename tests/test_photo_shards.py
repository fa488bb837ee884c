"""Shards of WebDataset: which are named, what is in them, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advmix.cli import main
from advmix.data.photos import decode
from advmix.data.photos import shards as tars
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import load_photos, load_pictures, native_photos
from advmix.data.photos.pixel_cache import PixelCache
from advmix.utils.errors import UserError
from advmix.utils.machine import MACHINE
from pictures import digit, digit_files, digit_label, digit_table, encoded, photograph, write
from test_photos import COUNT, WHOLE, content, refused

Members = Mapping[str, bytes | str]


def tar(path: Path, members: Members, form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as file:
        for name, text in members.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def samples(indices: range, kind: str = "cls") -> dict[str, bytes | str]:
    members: dict[str, bytes | str] = {}
    for index in indices:
        label = digit_label(index)
        members[f"{index:04}.png"] = encoded(digit(index))
        members[f"{index:04}.{kind}"] = (
            f"{label}\n" if kind == "cls" else json.dumps({"label": label, "odd": label % 2})
        )
    return members


def shards(place: Path, kind: str = "cls", name: str = "train") -> Path:
    """`train-000000.tar` to `train-000002.tar`, 20 images each."""
    for shard in range(3):
        tar(place / f"{name}-{shard:06}.tar", samples(range(shard * 20, shard * 20 + 20), kind))
    return place


@pytest.mark.parametrize("kind", ["cls", "json"])
@pytest.mark.parametrize("named", ["", "/train-{000000..000002}.tar", "/*.tar", "/train-00000{0,1,2}.t?r"])
def test_shards_hold_the_images_of_a_table(tmp_path: Path, kind: str, named: str) -> None:
    table = write(tmp_path / "table", {**digit_files(COUNT), "labels.csv": digit_table(COUNT)})
    options = replace(WHOLE, target=None if kind == "cls" else "label")
    photos = load_photos(f"{shards(tmp_path / 'shards', kind)}{named}", options)
    assert content(photos) == content(load_photos(str(table), WHOLE))
    assert photos.classes == tuple("0123456789")
    assert photos.notes == ()
    assert photos.train.names[0] == "train-000000.tar/0000.png"


def test_columns_of_json_are_labels_groups_and_sites(tmp_path: Path) -> None:
    values: list[dict[str, object]] = [
        {"Even": True, "site": "a", "size": [8, 8], "age": 1.5},
        {"Even": False, "site": "b", "caption": None, "age": 2},
        {"Even": False, "site": "b", "age": 3.0},
    ]
    members: dict[str, bytes | str] = {}
    for place, known in enumerate(values):
        members |= {
            f"{place}.PNG": encoded(digit(place)),
            f"{place}.json": json.dumps(known),
            f"{place}.cls": f"{place}",
        }
    path = tar(tmp_path / "a.tar", members)
    photos = load_photos(str(path), replace(WHOLE, target="Even", group=("age",), site="site"))
    assert (photos.classes, photos.groups, photos.sites) == (("not Even", "Even"), ("1.5", "2", "3.0"), ("a", "b"))
    assert photos.train.images.labels.tolist() == [1, 0, 0]
    assert photos.train.sites.tolist() == [0, 1, 1]
    assert load_photos(str(path), WHOLE).classes == ("0", "1", "2"), "cls is the usual column"


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train-0.tar", "val-0.tar", "test-0.tar"), ["train", "val", "test"]),
        (("train/0.tar", "test/0.tar"), ["train", "test"]),
        (("cc3m-train-0001.tar", "cc3m_validation.tar"), ["train", "val"]),
        (("a-0.tar", "b-0.tar"), ["train"]),
    ],
)
def test_names_of_shards_tell_the_split(tmp_path: Path, names: tuple[str, ...], splits: list[str]) -> None:
    for place, name in enumerate(names):
        tar(tmp_path / name, samples(range(place * 20, place * 20 + 20)))
    photos = load_photos(str(tmp_path), WHOLE)
    assert list(photos.splits) == splits
    assert sum(map(len, photos.splits.values())) == 20 * len(names)


def test_a_column_split_counts_before_the_name(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for place, split in enumerate(("train", "test", "0", "valid")):
        known = {"label": place % 2, "split": split}
        members |= {f"{place}.png": encoded(digit(place)), f"{place}.json": json.dumps(known)}
    photos = load_photos(str(tar(tmp_path / "train-0.tar", members)), WHOLE)
    assert {name: len(part) for name, part in photos.splits.items()} == {"train": 2, "val": 1, "test": 1}
    tar(tmp_path / "train-0.tar", {**members, "9.png": encoded(digit(9)), "9.json": '{"label": 1, "split": "nine"}'})
    assert "train-0.tar/9.png: split 'nine' is unknown" in refused(tmp_path / "train-0.tar")
    tar(tmp_path / "train-test.tar", members)
    assert "called like test and train; rename it" in refused(tmp_path / "train-test.tar")


PATTERNS = {
    "train-{000000..000003}.tar": "train-000003.tar: no such shard of the 4 that are named",
    "train-{000001..000009}.tar": "train-000003.tar: no such shard, nor are 6 more of the 9",
    "train-{5..2}.tar": "{5..2} is no range of shards",
    "train-{}.tar": "{} is no range of shards",
    "train-{a..b}.tar": "{a..b} is no range of shards",
    "train-{0..2.tar": "a brace alone, or within others",
    "train-{{0,1},2}.tar": "a brace alone, or within others",
    "train-{0..999999999999999999}.tar": "names more than 100,000 shards",
    "{0..999}-{0..999}-{0..999}.tar": "names more than 100,000 shards",
    "val-*.tar": "val-*.tar: no file is called so",
    "nothing.tar": "no such file or folder",
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_that_name_no_shards_are_one_line(tmp_path: Path, pattern: str) -> None:
    assert PATTERNS[pattern] in refused(shards(tmp_path) / pattern)


def test_a_file_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    assert len(load_photos(str(tar(tmp_path / "a{1}[b]*.tar", samples(range(20)))), WHOLE).train) == 20


def sample(name: str = "1", **members: bytes | str) -> dict[str, bytes | str]:
    """One that is whole, before another with these members."""
    other = {f"{name}.{ending}": data for ending, data in members.items()}
    return {"0.png": encoded(digit(0)), "0.cls": "0", **other}


PNG = encoded(digit(1))
SAMPLES: dict[str, tuple[dict[str, bytes | str], str]] = {
    "no label": (sample(png=PNG), "a.tar/1.png: has no label; put a .cls or .json of its name beside it"),
    "no labels": ({"0.png": PNG, "1.png": PNG}, "no labelled images; it needs KEY.cls or KEY.json beside each KEY.jpg"),
    "an empty label": (sample(png=PNG, cls=" "), "(a.tar/1.png): no value of cls"),
    "lines": (sample(png=PNG, cls="1\n2"), "a.tar/1.cls: more than one line"),
    "bytes": (sample(png=PNG, cls=b"\xff"), "a.tar/1.cls: cannot be read as UTF-8"),
    "a list": (sample(png=PNG, json="[1]"), "a.tar/1.json: no JSON object"),
    "no json": (sample(png=PNG, json="{"), "a.tar/1.json: cannot be read as JSON"),
    "deep json": (sample(png=PNG, json="[" * 100_000), "a.tar/1.json: cannot be read as JSON"),
    "half a letter": (sample(png=PNG, json='{"a": "\\ud800"}'), "a.tar/1.json: holds what UTF-8 cannot"),
    "two images": (sample(png=PNG, jpg=PNG, cls="1"), "a.tar/1: 2 images, a.tar/1.jpg, a.tar/1.png"),
    "no image": ({"0.npy": b"", "0.cls": "1"}, "no labelled images; it needs KEY.cls"),
    "damaged": (sample(png=PNG[:40], cls="1"), "1 of 2 images cannot be read: a.tar/1.png ("),
    "a lie": (sample(jpg=b"<svg/>", cls="1"), "a.tar/1.jpg (not an image of the formats"),
    "outside": (sample("../1", png=PNG, cls="1"), "its member ../1.png leads out of the archive"),
    "absolute": (sample("/1", png=PNG, cls="1"), "its member /1.png leads out of the archive"),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_that_cannot_be_used_are_one_line(tmp_path: Path, kind: str) -> None:
    members, words = SAMPLES[kind]
    assert words in refused(tar(tmp_path / "a.tar", members))


def test_what_is_no_sample_is_counted(tmp_path: Path) -> None:
    link, sparse = tarfile.TarInfo("2.png"), tarfile.TarInfo("3.png")
    link.type, link.linkname, sparse.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    members: Members = {
        **samples(range(20)),
        "0001.txt": "words",
        "0001.seg.png": PNG,
        "._0001.png": b"",
        "about.json": "{}",
    }
    path = tar(tmp_path / "a.tar", members)
    with tarfile.open(path, "a") as file:
        file.addfile(link)
        file.addfile(sparse)
        file.addfile(tarfile.TarInfo("0001.png"))
    photos = load_photos(str(path), WHOLE)
    assert photos.notes == (
        "without an image of their name: .json 1",
        "passed over: 1 member of a name that another has, 2 that are no regular files",
        "left out: .txt 1",
    )
    assert (len(photos.train), photos.unlabelled) == (20, 1)


LONG = "folder/" * 30 + "0000"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(tmp_path: Path, form: int) -> None:
    name = "a/0" if form == tarfile.USTAR_FORMAT else LONG
    members: Members = {f"./{name}.png": PNG, f"./{name}.cls": "é", "1.png": PNG, "1.cls": "b"}
    photos = load_photos(str(tar(tmp_path / "a.tar", members, form)), WHOLE)
    assert photos.classes == ("b", "é")
    assert f"a.tar/{name}.png" in photos.train.names


def test_a_shard_that_is_cut_or_damaged_is_refused(tmp_path: Path) -> None:
    """Wherever it ends, and whichever header is damaged."""
    data = tar(tmp_path / "whole.tar", samples(range(4))).read_bytes()
    blocks = next(start for start in range(0, len(data), 512) if not any(data[start:])) // 512
    cut = tmp_path / "cut.tar"
    for end in (*range(0, blocks * 512 + 1, 512), 700, blocks * 512 - 100):
        cut.write_bytes(data[:end])
        assert "cut.tar: cannot be read as a tar file" in refused(cut)
    for start in (place for place in range(0, blocks * 512, 512) if data[place + 257 :].startswith(b"ustar")):
        cut.write_bytes(data[:start] + b"\xff" + data[start + 1 :])
        assert "cut.tar: cannot be read as a tar file" in refused(cut)


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "compressed": (gzip.compress, "that is not compressed"),
    "of another kind": (lambda data: b"PK\3\4" + data, "cannot be read as a tar file"),
    "empty": (lambda data: b"", "cannot be read as a tar file"),
    "a huge member": (lambda data: header("0.png", 2**32), "cannot be read as a tar file"),
    "a huge name": (lambda data: header("././@LongLink", 2**30, b"L"), "a header of 1073741824 bytes"),
    "a huge pax header": (lambda data: header("a", 2**30, b"x") + data, "a header of 1073741824 bytes"),
    "a negative size": (lambda data: header("0.png", -1024) + data, "cannot be read as a tar file"),
    "a name of no letters": (lambda data: header("0\udcff.png", 0) + data, "is not UTF-8; rename it"),
    "pax without end": (lambda data: (header("a", 0, b"x")) * 3000 + data, "cannot be read as a tar file"),
}


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape"))
    block[124:136] = b"\xff\xff\xff\xff" + size.to_bytes(8, "big", signed=True) if size < 0 else b"%011o\0" % size
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_that_are_no_shards_are_one_line(tmp_path: Path, kind: str) -> None:
    change, words = HOSTILE[kind]
    path = tar(tmp_path / "a.tar", samples(range(4)))
    path.write_bytes(change(path.read_bytes()))
    assert words in refused(path)


def test_members_that_are_too_large_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "a.tar", {**samples(range(4)), "9.png": bytes(2000), "9.cls": "1"})
    monkeypatch.setattr("advmix.data.photos.containers.MAX_BYTES", 1000)
    assert "1 of 5 images cannot be read: a.tar/9.png (2,000 bytes, more than 1,000)" in refused(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PixelCache:
    monkeypatch.setattr(MACHINE, "cache", str(tmp_path / "cache"))
    return PixelCache(tmp_path / "cache")


def aged(place: Path) -> Path:
    for path in place.glob("*.tar"):
        os.utime(path, (1e9, 1e9))
    return place


def test_shards_are_decoded_once(tmp_path: Path, cache: PixelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    place, options = aged(shards(tmp_path / "shards")), PhotoOptions(size=8)
    first = load_photos(str(place), options)
    monkeypatch.setattr(decode, "fitted", None)
    again = load_photos(str(place / "*.tar"), options)
    for split in ("train", "test"):
        assert torch.equal(first.splits[split].images.pixels, again.splits[split].images.pixels)
    monkeypatch.undo()
    monkeypatch.setattr(MACHINE, "cache", str(cache.folder))
    os.utime(place / "train-000002.tar", (2e9 - 1e9, 1e9 + 1))
    load_photos(str(place), options)
    assert len(cache.entries) == 2, "a shard that changes is read again"


def test_each_shard_is_read_once_and_in_order(
    tmp_path: Path, cache: PixelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, real = list[str](), tars.Shards._read

    def read(self: tars.Shards, name: str, size: int) -> bytes:
        if name.endswith(".png"):
            seen.append(name)
        return real(self, name, size)

    monkeypatch.setattr(tars.Shards, "_read", read)
    monkeypatch.setattr(decode, "WORKERS", 1)
    monkeypatch.setattr("advmix.data.photos.pixel_cache.PART_IMAGES", 7)
    load_photos(str(aged(shards(tmp_path / "shards"))), WHOLE)
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen) == COUNT


def test_pictures_of_shards_need_no_labels(tmp_path: Path) -> None:
    place = tar(tmp_path / "shards" / "0.tar", {"a.png": PNG, "b.png": PNG, "b.cls": "1"}).parent
    pixels, names, _ = load_pictures(str(place), WHOLE)
    assert (tuple(pixels.shape), names) == ((2, 1, 8, 8), ("0.tar/a.png", "0.tar/b.png"))


def test_images_of_shards_at_another_size(tmp_path: Path) -> None:
    data = encoded(photograph(), "JPEG")
    path = tar(tmp_path / "a.tar", {"0.jpg": data, "0.cls": "0", "1.jpg": data, "1.cls": "1"})
    with native_photos(str(path), WHOLE) as native:
        assert native.pixels(("a.tar/1.jpg",), 224).shape == (1, 1, 224, 224)


def test_the_command_shows_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = shards(tmp_path / "shards") / "train-{000000..000002}.tar"
    assert main(["data", str(place), "--size", "8", "--out", str(tmp_path / "out")]) == 0
    assert "60 images in 10 classes" in capsys.readouterr().out
    assert main(["data", str(tmp_path / "shards" / "train-{0..2}.tar"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "train-0.tar: no such shard, nor are 2 more of the 3 that are named" in line
    unquoted = sorted(str(path) for path in (tmp_path / "shards").glob("train-*.tar"))
    for flag in ([], ["--data"]):
        assert main(["data", *flag, *unquoted, "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "put a pattern of shards in quotes" in line


def test_what_lies_beside_shards_is_counted(tmp_path: Path) -> None:
    place = shards(tmp_path / "shards")
    write(place, {"train-000003.tar.gz": gzip.compress(b"")})
    (place / "more").symlink_to("nowhere")
    assert "passed over: 1 compressed shard, 1 link that leads nowhere" in load_photos(str(place), WHOLE).notes


def test_an_absent_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="from the root and from here"):
        load_photos(f"{{{tmp_path},here}}/0.tar", WHOLE)
    with pytest.raises(UserError, match="no such shard"):
        load_photos(str(tmp_path / "none" / "{0..1}.tar"), WHOLE)
