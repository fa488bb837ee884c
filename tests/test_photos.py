"""A user's own data: where they lie, what they are called, which part is held out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advmix.data.photos import containers as files
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, load_photos
from advmix.data.photos.rows import class_names, hold_out
from advmix.utils.errors import UserError
from pictures import digit, digit_files, digit_label, digit_table, encoded, write

COUNT = 60
WHOLE = PhotoOptions(size=8, channels=1, holdout=0)


def tree(folder: str = "") -> dict[str, bytes | str]:
    return {f"{folder}{digit_label(index)}/{index:04}.png": encoded(digit(index)) for index in range(COUNT)}


def stylegan() -> dict[str, bytes | str]:
    labels: list[list[object]] = [[f"00000/{index:04}.png", digit_label(index)] for index in range(COUNT)]
    return {**digit_files(COUNT, "00000/"), "dataset.json": json.dumps({"labels": labels})}


LAYOUTS: dict[str, dict[str, bytes | str]] = {
    "tree": tree(),
    "tree in a split": tree("train/"),
    "table beside": {**digit_files(COUNT), "labels.csv": digit_table(COUNT)},
    "table above": {**digit_files(COUNT, "images/"), "labels.csv": digit_table(COUNT)},
    "table of another name": {**digit_files(COUNT, "images/"), "metadata.csv": digit_table(COUNT)},
    "semicolons": {**digit_files(COUNT), "labels.csv": "\ufeff" + digit_table(COUNT).replace(",", ";")},
    "stylegan": stylegan(),
}


def refused(data: Path, options: PhotoOptions = WHOLE) -> str:
    with pytest.raises(UserError) as caught:
        load_photos(str(data), options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def content(photos: Photos) -> dict[str, tuple[str, bytes]]:
    """Class and pixels of every training image, by the last part of its name."""
    found = photos.train
    labels, images = found.images.labels.tolist(), found.images.pixels
    return {
        Path(name).name: (photos.classes[label], image.numpy().tobytes())
        for name, label, image in zip(found.names, labels, images, strict=True)
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["folder", "photos.zip"])
def test_every_layout_holds_the_same_images(tmp_path: Path, layout: str, place: str) -> None:
    photos = load_photos(str(write(tmp_path / place, LAYOUTS[layout])), WHOLE)
    assert photos.classes == tuple("0123456789")
    assert photos.broken == ()
    assert photos.unlabelled == 0
    expected = {f"{i:04}.png": (str(digit_label(i)), np.asarray(digit(i)).tobytes()) for i in range(COUNT)}
    assert content(photos) == expected


def test_a_table_is_named_itself(tmp_path: Path) -> None:
    write(tmp_path, {**digit_files(COUNT), "other.csv": digit_table(COUNT)})
    assert len(load_photos(str(tmp_path / "other.csv"), WHOLE).train) == COUNT


def test_what_packers_add_is_left_out(tmp_path: Path) -> None:
    inside = {f"photos/{name}": data for name, data in LAYOUTS["table above"].items()}
    extra: dict[str, bytes | str] = {
        "__MACOSX/photos/._0000.png": b"",
        "photos/.DS_Store": b"",
        "photos/readme.txt": "hello",
    }
    photos = load_photos(str(write(tmp_path / "photos.zip", {**inside, **extra})), WHOLE)
    assert (len(photos.train), photos.unlabelled) == (COUNT, 0)


def test_images_without_a_label_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "tree", {**tree(), "stray.png": encoded(digit(0))})
    write(tmp_path / "table", {**digit_files(COUNT), "labels.csv": digit_table(COUNT - 3)})
    assert load_photos(str(tmp_path / "tree"), WHOLE).unlabelled == 1
    assert load_photos(str(tmp_path / "table"), WHOLE).unlabelled == 3


def test_own_splits(tmp_path: Path) -> None:
    names = {"train": "train", "valid": "val", "test": "test"}
    parts = {f"{split}/{name}": data for split in names for name, data in tree().items()}
    photos = load_photos(str(write(tmp_path / "tree", parts)), PhotoOptions(size=8))
    assert {name: len(found) for name, found in photos.splits.items()} == dict.fromkeys(names.values(), COUNT)

    table = digit_table(COUNT, ",split", lambda index: f",{index % 3}")
    photos = load_photos(str(write(tmp_path / "table", {**digit_files(COUNT), "labels.csv": table})), WHOLE)
    assert list(photos.splits) == ["train", "val", "test"]
    assert photos.splits["val"].names == tuple(f"{index:04}.png" for index in range(1, COUNT, 3))
    assert photos.test is photos.splits["test"]


def test_a_val_is_the_test_where_there_is_none(tmp_path: Path) -> None:
    table = digit_table(COUNT, ",split", lambda _: ",val")
    photos = load_photos(str(write(tmp_path, {**digit_files(COUNT), "labels.csv": table})), WHOLE)
    assert photos.test is photos.splits["val"]
    with pytest.raises(UserError, match="no train images, only val"):
        _ = photos.train


@pytest.mark.parametrize(
    ("values", "column", "names"),
    [
        (["1", "0", "1"], "Smiling", ["not Smiling", "Smiling"]),
        (["-1", "1"], "Smiling", ["not Smiling", "Smiling"]),
        (["1.0", "0.0"], "Smiling", ["not Smiling", "Smiling"]),
        (["True", "False"], "Smiling", ["not Smiling", "Smiling"]),
        (["1", "0"], "label", ["0", "1"]),
        (["-1", "0", "1"], "Smiling", ["-1", "0", "1"]),
        (["10", "9", "2"], "age", ["2", "9", "10"]),
        (["b", "A", "a", "B2"], "kind", ["A", "a", "b", "B2"]),
    ],
)
def test_names_and_order_of_classes(values: list[str], column: str, names: list[str]) -> None:
    assert list(class_names(values, column).values()) == names
    assert class_names(values[::-1] * 2, column) == class_names(values, column)


def test_labels_and_groups_come_from_the_columns_that_are_named(tmp_path: Path) -> None:
    table = digit_table(
        COUNT, ",Even,Colour", lambda i: f",{2 * (digit_label(i) % 2 == 0) - 1},{['blue', 'red'][i % 2]}"
    )
    write(tmp_path, {**digit_files(COUNT), "labels.csv": table})
    photos = load_photos(str(tmp_path), PhotoOptions(target="Even", group=("Colour", "label"), size=8, holdout=0))
    assert photos.classes == ("not Even", "Even")
    labels = [int(digit_label(i) % 2 == 0) for i in range(COUNT)]
    assert photos.train.images.labels.tolist() == labels
    words = [photos.groups[group] for group in photos.train.groups.tolist()]
    assert words == [f"{['blue', 'red'][i % 2]}, {digit_label(i)}" for i in range(COUNT)]
    assert len(set(photos.groups)) == len(photos.groups)


TABLE_ERRORS = {
    "line 4": ("filename,label\n0000.png,a\n0001.png,b\n0002.png,\n", "no value of label"),
    "line 3": ("filename,label\n0000.png,a\n0001.png\n", "more or fewer values"),
    "line 2": ("filename,label\n0000.png,a,b\n0001.png,b\n", "more or fewer values"),
    "0000.png": ("filename,label\n0000.png,a\n0001.png,b\n0000.png,b\n", "a second time"),
    "'tets'": ("filename,label,split\n0000.png,a,train\n0001.png,b,tets\n", "train, val or test"),
    "no column filename": ("name,label\n0000.png,a\n", "name, label"),
    "the same label": ("filename,label\n0000.png,a\n0001.png,a\n", "a"),
    "--target": ("filename,mood,age\n0000.png,a,3\n", "mood, age"),
    "no labelled images": ("filename,label\n", "labels.csv"),
}


@pytest.mark.parametrize("words", TABLE_ERRORS)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, words: str) -> None:
    table, more = TABLE_ERRORS[words]
    line = refused(write(tmp_path, {**digit_files(3), "labels.csv": table}))
    assert words in line
    assert more in line


def test_a_table_may_number_its_rows_as_pandas_does(tmp_path: Path) -> None:
    numbered = [f"{index},{row}" for index, row in enumerate(digit_table(COUNT).splitlines()[1:])]
    write(tmp_path, {**digit_files(COUNT), "labels.csv": "\n".join([",filename,label", *numbered]) + "\n"})
    photos = load_photos(str(tmp_path), WHOLE)
    assert content(photos)["0003.png"][0] == str(digit_label(3))
    (tmp_path / "labels.csv").write_text(",filename,label\n0,0000.png,1,more\n")
    assert "line 2: more or fewer values" in refused(tmp_path)


def test_a_column_that_is_nearly_there_is_proposed(tmp_path: Path) -> None:
    write(tmp_path, {**digit_files(COUNT), "labels.csv": digit_table(COUNT)})
    assert "did you mean label?" in refused(tmp_path, PhotoOptions(target="lable"))
    assert "--group Male" in refused(tmp_path, PhotoOptions(group=("Male",)))
    assert "--site labl" in refused(tmp_path, PhotoOptions(site="labl"))


def test_sites_come_from_the_column_that_is_named(tmp_path: Path) -> None:
    clinics = ("Ulm", "ulm", "Bonn")
    table = digit_table(COUNT, ",clinic,person", lambda i: f",{clinics[i % 3]},{i // 2}")
    write(tmp_path, {**digit_files(COUNT), "labels.csv": table})
    options = PhotoOptions(target="label", size=8, holdout=0, site="clinic", split_by="person")
    photos = load_photos(str(tmp_path), options)
    assert photos.sites == ("Bonn", "Ulm", "ulm")
    found = photos.train
    for name, site, unit in zip(found.names, found.sites.tolist(), found.units.tolist(), strict=True):
        assert photos.sites[site] == clinics[int(Path(name).stem) % 3]
        assert unit == int(Path(name).stem) // 2
    assert "values of clinic that differ in writing alone: 'Ulm' = 'ulm'; make them one" in photos.notes
    plain = load_photos(str(tmp_path), PhotoOptions(target="label", size=8, holdout=0))
    assert (plain.sites, plain.train.sites.any().item()) == ((), False)
    assert len(set(plain.train.units.tolist())) == COUNT
    assert plain.train.images.fingerprint == found.images.fingerprint


def test_places_that_hold_no_images_are_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "none")
    assert "no labelled images" in refused(write(tmp_path / "flat", digit_files(3)))
    assert "zip archive" in refused(write(tmp_path / "bad", {"photos.zip": b"PK"}) / "photos.zip")
    assert "neither" in refused(write(tmp_path / "text", {"a.txt": "hello"}) / "a.txt")
    assert "no labels" in refused(write(tmp_path / "gan", {**digit_files(3), "dataset.json": '{"labels": null}'}))
    assert "label 1" in refused(write(tmp_path / "gan2", {"dataset.json": '{"labels": [["a.png", [0.5]]]}'}))
    assert "JSON" in refused(write(tmp_path / "gan3", {"dataset.json": "{"}))


def test_a_path_may_name_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "here", tree())
    monkeypatch.setenv("ADVMIX_PHOTOS", str(tmp_path))
    assert len(load_photos("$ADVMIX_PHOTOS/here", WHOLE).train) == COUNT


def test_names_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"secret.png": encoded(digit(0))})
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        table = f"filename,label\n{name},b\n0001.png,a\n"
        photos = write(tmp_path / "photos", {**digit_files(3), "labels.csv": table})
        assert f"{name} (no such file)" in refused(photos)
        assert "leads out of the archive" in refused(write(tmp_path / "photos.zip", {name: b"", **tree()}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "photos.zip", "secret.png"]


def test_a_member_larger_than_the_limit_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 10_000)
    bomb = {"0/bomb.png": encoded(digit(0)) + bytes(20_000)}
    for place in ("photos.zip", "photos"):
        assert "more than 10,000" in refused(write(tmp_path / place, {**tree(), **bomb}))


def test_broken_images_are_listed_or_left_out(tmp_path: Path) -> None:
    broken: dict[str, bytes | str] = {f"0/broken{index:02}.png": b"hello" for index in range(13)}
    write(tmp_path, {**tree(), **broken})
    line = refused(tmp_path)
    assert "13 of 73 images" in line
    assert "0/broken09.png" in line
    assert "0/broken10.png" not in line
    assert "3 more" in line
    photos = load_photos(str(tmp_path), PhotoOptions(size=8, channels=1, holdout=0, skip_broken=True))
    assert len(photos.broken) == 13
    assert len(photos.train) == COUNT
    assert content(photos)["0003.png"][0] == str(digit_label(3))


def test_nothing_but_broken_images_is_an_error_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.png": b"", "b/1.png": b""})
    assert "2 of 2" in refused(tmp_path, PhotoOptions(skip_broken=True))


def test_the_held_out_test_depends_on_its_own_seed_and_names_alone(tmp_path: Path) -> None:
    table = digit_table(COUNT).splitlines()
    for name, lines in (("a", table), ("b", [table[0], *table[:0:-1]])):
        write(tmp_path / name, {**digit_files(COUNT), "labels.csv": "\n".join(lines)})
    first, turned, rerun, other = (
        load_photos(str(tmp_path / name), PhotoOptions(size=8, holdout=0.25, split_seed=split), seed)
        for name, split, seed in (("a", 0, 0), ("b", 0, 0), ("a", 0, 1), ("a", 1, 0))
    )
    assert set(first.test.names) == set(turned.test.names) != set(other.test.names)
    assert first.test.names == rerun.test.names, "runs of different seeds share the test"
    assert not set(first.test.names) & set(first.train.names)
    assert len(first.test) + len(first.train) == COUNT


def test_the_held_out_test_does_not_depend_on_the_target(tmp_path: Path) -> None:
    """A generator fitted for one column must not be asked about its training images when another one is audited."""
    table = digit_table(COUNT, ",Even,Colour", lambda i: f",{digit_label(i) % 2},{['blue', 'red'][i % 3 == 0]}")
    write(tmp_path, {**digit_files(COUNT), "labels.csv": table})
    one, two, three = (
        load_photos(str(tmp_path), PhotoOptions(size=8, target=target, group=group))
        for target, group in (("label", ()), ("Even", ("Colour",)), ("Colour", ()))
    )
    assert one.test.names == two.test.names == three.test.names
    assert len(one.test) == COUNT // 5


@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=120),
    persons=st.integers(1, 60),
    percent=st.integers(0, 90),
    seed=st.integers(0, 99),
)
def test_nobody_is_in_two_parts(labels: list[int], persons: int, percent: int, seed: int) -> None:
    units = [str(index * 7 % persons) for index in range(len(labels))]
    held = hold_out(labels, units, percent / 100, seed)
    training = {units[place] for place in range(len(labels)) if place not in held}
    assert training
    assert not training & {units[place] for place in held}
    largest = max(units.count(unit) for unit in units)
    assert len(held) <= percent / 100 * len(labels) + 4 * largest / 2


@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=5), percent=st.integers(0, 90), seed=st.integers(0, 99))
def test_every_class_gives_its_share_and_keeps_one(counts: list[int], percent: int, seed: int) -> None:
    labels = [index for index, count in enumerate(counts) for _ in range(count)]
    held = hold_out(labels, [str(place) for place in range(len(labels))], percent / 100, seed)
    for index, count in enumerate(counts):
        taken = sum(labels[place] == index for place in held)
        assert abs(taken - min(percent / 100 * count, count - 1)) <= 0.5 + 1e-9


def test_split_by_identity(tmp_path: Path) -> None:
    def person(index: int) -> str:
        return f",{index // 4}"

    write(tmp_path / "a", {**digit_files(COUNT), "labels.csv": digit_table(COUNT, ",person", person)})
    options = PhotoOptions(size=8, split_by="person", target="label", holdout=0.3)
    photos = load_photos(str(tmp_path / "a"), options)
    persons = [{int(Path(name).stem) // 4 for name in found.names} for found in (photos.train, photos.test)]
    assert persons[0] | persons[1] == set(range(COUNT // 4))
    assert not persons[0] & persons[1]
    leaky = digit_table(COUNT, ",person,split", lambda i: f"{person(i)},{'train' if i < 30 else 'test'}")
    write(tmp_path / "b", {**digit_files(COUNT), "labels.csv": leaky})
    assert "person 7 is in train and in test" in refused(tmp_path / "b", options)


def test_limit_draws_from_every_split(tmp_path: Path) -> None:
    write(tmp_path, {f"{split}/{name}": data for split in ("train", "test") for name, data in tree().items()})
    photos, other = (load_photos(str(tmp_path), PhotoOptions(size=8, limit=12), seed) for seed in (0, 1))
    assert len(photos.train) == len(photos.test) == 12
    assert photos.classes == tuple("0123456789")
    assert photos.train.names != other.train.names


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"crop": "center"}, "--crop center"),
        ({"channels": 2}, "--channels 2"),
        ({"size": 0}, "--size 0"),
        ({"holdout": 1.0}, "--holdout 1.0"),
        ({"limit": 0}, "--limit 0"),
    ],
)
def test_bad_options_are_named(option: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        PhotoOptions(**option)  # type: ignore[arg-type]


def test_a_file_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data", {"a/0.png": encoded(digit(0)), "b/1.png": encoded(digit(1))})
    Path(os.fsdecode(os.fsencode(tmp_path / "data" / "a") + b"/caf\xe9.png")).write_bytes(encoded(digit(0)))
    with pytest.raises(UserError, match=r"caf\\xe9.*not UTF-8; rename it"):
        load_photos(str(tmp_path / "data"), WHOLE)
