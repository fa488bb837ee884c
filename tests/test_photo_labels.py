"""What the values of a column mean: words for none, numbers, spellings, columns of the same name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import load_photos
from advmix.data.photos.rows import class_names
from pictures import digit, digit_files, encoded, write
from test_photos import WHOLE, refused


def table(place: Path, values: Sequence[str], column: str = "label") -> Path:
    rows = "".join(f"{index:04}.png,{value}\n" for index, value in enumerate(values))
    return write(place, {**digit_files(len(values)), "labels.csv": f"filename,{column}\n{rows}"})


def notes(place: Path, target: str | None = None) -> list[str]:
    return list(load_photos(str(place), PhotoOptions(size=8, holdout=0, target=target)).notes)


@pytest.mark.parametrize(
    "word", ["nan", "NaN", "N/A", "NA", "n/a", "#N/A", "<NA>", "NULL", "null", "None", "none", "?", "-", "nat"]
)
def test_words_for_missing_are_no_class(tmp_path: Path, word: str) -> None:
    line = refused(table(tmp_path, ["0", "1", word, "1"]))
    assert f"line 4 (0002.png): no value of label ({word} 1); fill it in, or, if {word} is a class," in line
    write(tmp_path, {"labels.csv": f"filename,label,kind\n0000.png,0,a\n0001.png,1,{word}\n"})
    assert "line 3 (0001.png): no value of kind" in refused(tmp_path, PhotoOptions(target="label", group=("kind",)))


def test_rows_without_a_value_are_counted(tmp_path: Path) -> None:
    line = refused(table(tmp_path, ["0", "", "nan", " ", "1", "nan", "nan"]))
    assert "line 3 (0001.png): no value of label, nor in 4 more rows (nan 3, empty 2)" in line


def test_a_folder_may_be_called_none(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}/{index}.png": encoded(digit(index)) for index, name in enumerate(("none", "mild") * 2)})
    photos = load_photos(str(tmp_path), WHOLE)
    assert photos.classes == ("mild", "none")
    assert photos.notes == ("a folder is called none and taken for a class",)


@pytest.mark.parametrize("hidden", ["", "-1", "?"])
def test_a_test_split_without_labels_is_left_out(tmp_path: Path, hidden: str) -> None:
    rows = [
        f"{index:04}.png,{label},{split}"
        for index, (label, split) in enumerate(
            [("a", "train"), ("b", "train"), ("a", "val"), (hidden, "test"), (hidden, "test")]
        )
    ]
    write(tmp_path, {**digit_files(5), "labels.csv": "\n".join(["filename,label,split", *rows])})
    photos = load_photos(str(tmp_path), WHOLE)
    assert list(photos.splits) == ["train", "val"]
    assert (photos.classes, photos.unlabelled) == (("a", "b"), 2)
    assert "test: 2 images without a label, left out" in photos.notes


def test_minus_one_is_a_class_where_others_have_it(tmp_path: Path) -> None:
    rows = ["0000.png,-1,train", "0001.png,1,train", "0002.png,-1,test"]
    write(tmp_path, {**digit_files(3), "labels.csv": "\n".join(["filename,label,split", *rows])})
    assert len(load_photos(str(tmp_path), WHOLE).splits["test"]) == 1


def test_the_order_of_classes_is_total() -> None:
    """Whatever Python makes of `nan`, `inf`, `1_0` or digits of other scripts."""
    values = ["nan", "1", "inf", "01", "1.0", "1_0", "\N{ARABIC-INDIC DIGIT ONE}", "-inf", "a", "A", "1e999"]
    orders = {tuple(class_names(values[turn:] + values[:turn], "label")) for turn in range(len(values))}
    assert len(orders) == 1
    assert list(class_names(["10", "2", "1e1", "-1"], "label")) == ["-1", "2", "10", "1e1"]


def test_the_order_of_classes_does_not_change_with_the_hash_seed() -> None:
    program = (
        "from advmix.data.photos.rows import class_names\n"
        "print(list(class_names(['b', 'A', 'a', 'B', '1', '1.0', '01', 'nan', 'ß', 'ss'], 'label')))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "12"
    }
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1", "1.0", "01", "2"], "'01' = '1' = '1.0'"),
        (["cat", "Cat", "dog"], "'Cat' = 'cat'"),
        (["black cat", "Black  Cat", "black_cat"], "'Black  Cat' = 'black cat' = 'black_cat'"),
        (["caf\u00e9", "cafe\u0301"], "'cafe\u0301' = 'caf\u00e9'"),
    ],
)
def test_values_that_differ_in_writing_alone_are_remarked_upon(tmp_path: Path, values: list[str], said: str) -> None:
    expected = f"values of label that differ in writing alone: {said}; make them one"
    assert expected in notes(table(tmp_path, values * 2))


def test_many_numbers_are_remarked_upon(tmp_path: Path) -> None:
    found = notes(table(tmp_path, [str(age) for age in range(60)] * 2, "age"), "age")
    assert found == ["60 classes of age, all of them numbers; if it is a measurement, make a column of a few ranges"]
    assert notes(table(tmp_path / "few", ["0", "1", "2"] * 2)) == []


def test_classes_of_one_image_are_remarked_upon(tmp_path: Path) -> None:
    assert notes(table(tmp_path, ["a", "a", "b", "c"])) == ["2 of 3 classes have a single image: b, c"]


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {**digit_files(2), "labels.csv": "filename,label, label\n0000.png,a,b\n0001.png,b,a\n"})
    assert "labels.csv: column label a second time" in refused(tmp_path)
    write(tmp_path, {"labels.csv": "filename,label,target\n0000.png,a,b\n0001.png,b,a\n"})
    assert "name the column of labels with --target; there are label, target" in refused(tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_as_programs_write_them(tmp_path: Path, mark: str, end: str) -> None:
    rows = [["filename", "label"], ["0000.png", '"a, b; c"'], ["0001.png", '"say ""é"""']]
    text = "\ufeff" + "".join(mark.join(row) + end for row in rows)
    write(tmp_path, {**digit_files(2), "labels.csv": text.encode()})
    assert load_photos(str(tmp_path), WHOLE).classes == ("a, b; c", 'say "é"')


def test_tables_that_are_not_text_are_refused(tmp_path: Path) -> None:
    text = "filename,label\n0000.png,é\n0001.png,b\n"
    for encoding in ("cp1252", "utf-16"):
        write(tmp_path, {**digit_files(2), "labels.csv": text.encode(encoding)})
        assert "cannot be read as UTF-8 text" in refused(tmp_path)
    for number, long in ((2, f"filename,label\n0000.png,{'a' * 200_000}\n"), (1, f"filename,{'a' * 200_000}\n")):
        write(tmp_path, {"labels.csv": long})
        assert f"labels.csv, line {number}: field larger than" in refused(tmp_path)


def test_a_table_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, digit_files(2))
    with (tmp_path / "labels.csv").open("wb") as file:
        file.truncate(2**32)
    assert "labels.csv: cannot be read as UTF-8 text (4,294,967,296 bytes, more than" in refused(tmp_path)


def test_stylegan_s_labels_of_anybody_s(tmp_path: Path) -> None:
    write(tmp_path, {**digit_files(2), "dataset.json": '{"labels": ' + "[" * 100_000})
    assert "dataset.json: cannot be read as JSON (nested too deep)" in refused(tmp_path)
    labels = [["0000.png", "\ud800"], ["0001.png", "b"]]
    write(tmp_path, {"dataset.json": json.dumps({"labels": labels})})
    assert "label 1: not [filename, label]" in refused(tmp_path)
