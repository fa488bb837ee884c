"""What lies in a folder or an archive, and what is made of it: links, splits, other files, sizes only stated."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from advmix.cli import main
from advmix.data.photos import containers as files
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, load_photos, load_pictures
from advmix.data.photos.rows import split_word
from advmix.data.settings import DataConfig
from advmix.utils.errors import UserError
from pictures import digit, digit_files, encoded, write
from test_photos import WHOLE, refused


def pictures(*names: str) -> dict[str, bytes | str]:
    return {name: encoded(digit(index)) for index, name in enumerate(names)}


def found(place: Path) -> Photos:
    return load_photos(str(place), WHOLE)


def placed(photos: Photos) -> dict[str, dict[str, str]]:
    """By split, the class of every image."""
    return {
        split: {
            name: photos.classes[label] for name, label in zip(part.names, part.images.labels.tolist(), strict=True)
        }
        for split, part in photos.splits.items()
    }


TWO = ("cat/1.png", "dog/2.png")


def test_a_link_to_a_folder_above_adds_nothing(tmp_path: Path) -> None:
    write(tmp_path / "around", pictures("other/1.png"))
    data = write(tmp_path / "around" / "data", pictures(*TWO))
    for name, target in (("cat/up", data), ("dog/far", tmp_path / "around"), ("root", Path("/"))):
        (data / name).symlink_to(target)
    photos = found(data)
    assert placed(photos) == {"train": {"cat/1.png": "cat", "dog/2.png": "dog"}}
    assert "passed over: 3 links to folders already read" in photos.notes


def test_links_to_each_other_end(tmp_path: Path) -> None:
    data = write(tmp_path / "data", pictures("cat/a/1.png", "dog/b/2.png"))
    (data / "cat" / "a" / "b").symlink_to(data / "dog" / "b")
    (data / "dog" / "b" / "a").symlink_to(data / "cat" / "a")
    photos = found(data)
    assert len(photos.train) == 2
    assert "passed over: 2 links to folders already read" in photos.notes


def test_a_link_out_of_a_linked_folder_is_not_followed_upwards(tmp_path: Path) -> None:
    store = write(tmp_path / "store", pictures("cat/1.png", "secret/2.png"))
    (store / "cat" / "up").symlink_to(store)
    data = write(tmp_path / "data", pictures("dog/1.png"))
    (data / "cat").symlink_to(store / "cat")
    assert placed(found(data)) == {"train": {"cat/1.png": "cat", "dog/1.png": "dog"}}


def test_links_to_files_and_to_other_folders_are_followed(tmp_path: Path) -> None:
    other = write(tmp_path / "other", pictures("1.png", "2.png"))
    data = write(tmp_path / "data", pictures("cat/1.png"))
    (data / "dog").symlink_to(other)
    (data / "cat" / "link.png").symlink_to(other / "1.png")
    photos = found(data)
    assert sorted(photos.train.names) == ["cat/1.png", "cat/link.png", "dog/1.png", "dog/2.png"]
    assert photos.notes == ()


def odd(place: Path) -> Path:
    data = write(place, pictures(*TWO))
    (data / "cat" / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(data / "cat" / "pipe.png")
    (data / "dog" / "gone.png").symlink_to("nowhere")
    (data / "dog" / "self.png").symlink_to("self.png")
    return data


ODD = "passed over: 2 links that lead nowhere, 2 that are no regular files"


def test_what_is_no_regular_file_is_counted_and_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = odd(tmp_path / "data")
    assert ODD in found(data).notes
    assert load_pictures(str(data), WHOLE)[1] == TWO
    assert ODD in capsys.readouterr().out
    table = "filename,label\ncat/1.png,a\ndog/2.png,b\ncat/zero.jpg,b\ncat/pipe.png,a\n"
    (data / "labels.csv").write_text(table)
    assert "2 of 4 images cannot be read: cat/zero.jpg (no such file), cat/pipe.png" in refused(data)


def test_pipes_and_devices_are_no_data_sets(tmp_path: Path) -> None:
    for name in ("a.zip", "a.csv", "a"):
        os.mkfifo(tmp_path / name)
        assert "neither a folder nor a .zip, .csv or .tar file" in refused(tmp_path / name)
    assert "neither" in refused(Path("/dev/zero"))
    os.mkfifo(tmp_path / "labels.csv")
    write(tmp_path, digit_files(2))
    assert "no labelled images" in refused(tmp_path)


def test_folders_may_be_deep(tmp_path: Path) -> None:
    deep = f"cat/{'a/' * 400}"
    assert len(found(write(tmp_path / "data", pictures(f"{deep}1.png", "dog/2.png"))).train) == 2


@pytest.mark.parametrize("place", ["a" * 300, "x/" * 3000, "a\0b", "~nobody-is-called-so/x"])
def test_names_that_can_be_no_folder_are_one_line(place: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load_photos(place, WHOLE)
    if "/" not in place:
        with pytest.raises(UserError, match="unknown; choose from digits"):
            DataConfig(place)


def test_a_dollar_sign_may_be_part_of_a_name(tmp_path: Path) -> None:
    assert len(found(write(tmp_path / "a$b", pictures(*TWO))).train) == 2
    with pytest.raises(UserError, match="environment variable is not set"):
        found(tmp_path / "a$c")


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *((word, "train") for word in ("train", "Training", "TRAIN_SET", "training data", "train2017", "seg_train")),
        *((word, "val") for word in ("val", "valid_set", "validation", "dev-set", "eval", "evaluation", "val_images")),
        *((word, "test") for word in ("test", "Test Set", "testing", "holdout", "hold_out", "held-out", "test1")),
        *((word, None) for word in ("trainer", "trains", "latest", "contest", "value", "set", "2017", "invalid", "")),
        ("dataset" * 5000, None),
        ("1" * 50_000, None),
    ],
)
def test_names_of_splits(word: str, split: str | None) -> None:
    assert split_word(word) == split


SPLIT = ("train/cat/1.png", "train/dog/2.png")
TRAIN = {"train/cat/1.png": "cat", "train/dog/2.png": "dog"}


@pytest.mark.parametrize("kind", ["data", "data.zip"])
@pytest.mark.parametrize(
    ("names", "expected", "unlabelled", "note"),
    [
        ((*SPLIT, "test/1.png"), {"train": TRAIN}, 1, "no classes in test, left out"),
        ((*SPLIT, "test/unknown/1.png"), {"train": TRAIN}, 1, "no classes in test, left out"),
        ((*SPLIT, "train/loose.png", "stray.png"), {"train": TRAIN}, 2, ""),
        ((*SPLIT, "eval/cat/3.png"), {"train": TRAIN, "val": {"eval/cat/3.png": "cat"}}, 0, ""),
        ((*SPLIT, "Valid_Set/dog/3.png"), {"train": TRAIN, "val": {"Valid_Set/dog/3.png": "dog"}}, 0, ""),
        ((*SPLIT, "holdout/dog/3.png"), {"train": TRAIN, "test": {"holdout/dog/3.png": "dog"}}, 0, ""),
        (
            (*SPLIT, "test/cat/3.png", "extra/4.png"),
            {"train": TRAIN, "test": {"test/cat/3.png": "cat"}},
            1,
            "no classes in extra, left out",
        ),
        (
            ("train/images/cat/1.png", "train/images/dog/2.png", "test/images/cat/3.png"),
            {
                "train": {"train/images/cat/1.png": "cat", "train/images/dog/2.png": "dog"},
                "test": {"test/images/cat/3.png": "cat"},
            },
            0,
            "",
        ),
        (
            ("cat/train/1.png", "dog/train/2.png", "dog/test/3.png"),
            {"train": {"cat/train/1.png": "cat", "dog/train/2.png": "dog"}, "test": {"dog/test/3.png": "dog"}},
            0,
            "",
        ),
        (
            ("bus/1.png", "car/2.png", "train/3.png"),
            {"train": {"bus/1.png": "bus", "car/2.png": "car", "train/3.png": "train"}},
            0,
            "train is called like a split, but taken for a class like bus, car",
        ),
        (
            ("valid/1.png", "invalid/2.png"),
            {"train": {"invalid/2.png": "invalid", "valid/1.png": "valid"}},
            0,
            "valid is called like a split, but taken for a class like invalid",
        ),
    ],
)
def test_what_is_a_class_and_what_a_split(
    tmp_path: Path, kind: str, names: tuple[str, ...], expected: object, unlabelled: int, note: str
) -> None:
    photos = found(write(tmp_path / kind, pictures(*names)))
    assert placed(photos) == expected
    assert photos.unlabelled == unlabelled
    assert [words for words in photos.notes if "single image" not in words] == ([note] if note else [])


@pytest.mark.parametrize("around", ["photos/", "data/photos/", "data/train/images/", "images/train/"])
def test_folders_around_everything_say_nothing(tmp_path: Path, around: str) -> None:
    more: dict[str, bytes | str] = {".DS_Store": b"", "__MACOSX/x.png": b"", f"{around}Thumbs.db": b""}
    photos = found(write(tmp_path / "data", {**pictures(*(around + name for name in TWO)), **more}))
    assert placed(photos) == {"train": {f"{around}cat/1.png": "cat", f"{around}dog/2.png": "dog"}}
    assert "left out" not in " ".join(photos.notes)


def test_a_table_may_lie_in_the_only_folder(tmp_path: Path) -> None:
    table = "filename,label\n0000.png,a\n0001.png,b\n"
    data = write(tmp_path / "data", {**digit_files(2, "photos/images/"), "photos/labels.csv": table})
    assert placed(found(data)) == {"train": {"photos/images/0000.png": "a", "photos/images/0001.png": "b"}}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train/1.png", "test/2.png"), "test, train are called like splits, without folders of classes"),
        (("train/1.png",), "train is called like a split, without folders of classes"),
        (("cat/a/1.png", "dog/b/2.png", "test/3.png"), "test is called like a split, beside cat, dog"),
        (("train/steam/1.png", "car/2.png"), "train is called like a split and holds folders, beside car"),
    ],
)
def test_where_it_is_not_plain_what_is_a_class_folders_are_named(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    assert words in refused(write(tmp_path / "data", pictures(*names)))


def test_files_called_unlike_images_are_counted_by_ending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more: dict[str, bytes | str] = {"cat/a.HEIC": b"", "dog/b.heic": b"", "c.txt": "", "dog/d": encoded(digit(0))}
    data = write(tmp_path / "data", {**pictures(*TWO), **more})
    assert main(["data", str(data), "--size", "16", "--holdout", "0", "--out", str(tmp_path / "out")]) == 0
    line = "left out: .heic 2, .txt 1, no ending 1; convert .heic to .jpg or .png"
    assert line in capsys.readouterr().out
    (data / "only").mkdir()
    (data / "only" / "a.avif").write_bytes(b"")
    line = refused(data / "only")
    assert "no labelled images" in line
    assert "left out: .avif 1; convert .avif to .jpg or .png" in line
    with pytest.raises(UserError, match=r"no images in it; left out: \.avif 1"):
        load_pictures(str(data / "only"), WHOLE)


def bomb(place: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(place, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return place


def test_archives_that_grow_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FREE", 2**16)
    one = bomb(tmp_path / "one.zip", {"cat/1.png": encoded(digit(0)), "dog/2.png": bytes(2**20)})
    assert "dog/2.png (unpacks to 1.0 MB from 1.0 kB)" in refused(one)
    monkeypatch.setattr(files, "MAX_BYTES", 2**19)
    many = bomb(tmp_path / "many.zip", {f"{index % 2}/{index}.png": bytes(2**19) for index in range(8)})
    assert "would unpack to 4.2 MB from" in refused(many)


def test_members_that_python_unpacks_whole_are_not_unpacked(tmp_path: Path) -> None:
    packed = {"cat/1.png": encoded(digit(0)), "dog/2.png": encoded(digit(1))}
    assert "by another method than deflate" in refused(bomb(tmp_path / "a.zip", packed, zipfile.ZIP_BZIP2))
    table = {"labels.csv": b"filename,label\n1.png,a\n"}
    assert "labels.csv: cannot be read" in refused(bomb(tmp_path / "b.zip", table, zipfile.ZIP_LZMA))


def test_a_member_that_says_less_than_it_holds_is_broken(tmp_path: Path) -> None:
    """The size in the directory is rewritten: no more than that is unpacked."""
    place = bomb(tmp_path / "a.zip", {"cat/1.png": encoded(digit(0)), "dog/2.png": bytes(100_000)})
    data = place.read_bytes()
    place.write_bytes(data.replace((100_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert "1 of 2 images cannot be read: dog/2.png (" in refused(place)


def test_links_and_names_twice_in_an_archive_are_counted(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        for name, data in pictures("cat/1.png", "dog/2.png", "cat\\1.png").items():
            archive.writestr(name, data)
    notes = found(tmp_path / "a.zip").notes
    assert "passed over: 1 member of a name that another has, 1 that is no regular file" in notes


NAMES = ("c\na\x1bt/1.png", "\u202edog $x^{/2\r.png", "\N{CAT}/" + "é" * 125 + ".png", "~x/\N{CAT}.png", "[red]/=1.png")


def test_any_name_survives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", pictures(*NAMES))
    assert main(["data", str(data), "--size", "16", "--holdout", "0", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert not any(letter in printed for letter in "\x1b\u202e\r")
    assert sorted(found(data).train.names) == sorted(NAMES)
    assert set(found(data).classes) == {name.split("/")[0] for name in NAMES}


def test_any_name_of_a_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "a\nb\x1b[31m", {"text.txt": "hello"})
    assert main(["data", str(data), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no labelled images" in line
    assert "\x1b" not in line


def test_limit_and_options_hold_for_pictures_of_an_archive(tmp_path: Path) -> None:
    pixels, names, broken = load_pictures(str(write(tmp_path / "a.zip", pictures(*TWO))), PhotoOptions(size=8, limit=1))
    assert (pixels.shape, names, broken) == ((1, 3, 8, 8), ("cat/1.png",), ())
