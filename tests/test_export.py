"""`advmix export`: variations as an ImageFolder that other programs read, with a table that tells the truth."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder

from advmix.audit.records import AuditRecords
from advmix.classifiers.networks import load_classifier
from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.cli import main
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import load_photos
from advmix.export.variations import LONGEST, TABLE, Variation, VariationFolder, class_folders, file_stems, safe_name
from pictures import digit, digit_label, encoded, write
from trained import made, shared

CPU = ["--device", "cpu"]
CLASSES = {0: "a/b", 1: "A/B", 2: ".two", 3: "three"}
"""Digits under names that a file system does not take as they are."""
Row = dict[str, str]


@shared
def runs(out: Path) -> None:
    """A generator and classifiers of small digits in a table with awkward class names."""
    places = [i for i in range(160) if digit_label(i) in CLASSES]
    rows = "".join(f"{i:03}.png,{CLASSES[digit_label(i)]}\n" for i in places)
    files: dict[str, bytes | str] = {f"images/{i:03}.png": encoded(digit(i)) for i in places}
    data = write(out / "data", {**files, "labels.csv": "filename,label\n" + rows})
    fit, latents = str(out / "fit"), str(out / "latents")
    shape = ["--size", "16", "--channels", "1", "--holdout", "0.4", *CPU]
    assert main(["fit", "--data", str(data), *shape, "--fit-steps", "25", "--out", fit]) == 0
    assert main(["encode", "--generator", fit, "--out", latents, *CPU]) == 0
    made = ["--generator", fit, "--latents", latents, "--epochs", "4", "--batch", "8", *CPU]
    for seed, name in enumerate(("nominal", "other")):
        assert main(["train", *made, "--method", "nominal", "--seed", str(seed), "--out", str(out / name)]) == 0


def words(runs: Path, *flags: str) -> list[str]:
    mixing = ["--generator", str(runs / "fit"), "--latents", str(runs / "latents"), *CPU]
    return ["export", "--classifier", str(runs / "nominal"), *mixing, "--restarts", "2", "--steps", "2", *flags]


def export(runs: Path, out: Path, *flags: str) -> int:
    return main([*words(runs, *flags), "--out", str(out)])


def table(out: Path) -> list[Row]:
    with (out / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> Tensor:
    array = np.asarray(Image.open(path))
    return torch.from_numpy(array.reshape(*array.shape[:2], -1).transpose(2, 0, 1).copy()) / 255


@pytest.fixture(scope="module")
def exported(runs: Path) -> Path:
    return made(*words(runs, "--variants", "2", "--originals", "--reference", str(runs / "other")))


def test_the_table_says_what_the_classifier_says_of_the_files(runs: Path, exported: Path) -> None:
    rows, (network, metadata) = table(exported), load_classifier(runs / "nominal")
    judge, _ = load_classifier(runs / "other")
    for when, column in (("before", "original"), ("after", "filename")):
        shown = torch.stack([pixels(exported / row[column]) for row in rows])
        with torch.no_grad():
            logits, voted = network(shown), judge(shown).argmax(1)
        seen, classes = logits.softmax(1), metadata["classes"]
        assert [row[f"prediction_{when}"] for row in rows] == [classes[i] for i in seen.argmax(1)]
        labels = torch.tensor([classes.index(row["label"]) for row in rows])
        given_ = torch.tensor([float(row[f"label_probability_{when}"]) for row in rows])
        assert torch.allclose(given_, seen.gather(1, labels[:, None])[:, 0], rtol=1e-3, atol=1e-6)
        top = torch.tensor([float(row[f"probability_{when}"]) for row in rows])
        assert torch.allclose(top, seen.amax(1), rtol=1e-3)
        if when == "before":
            knows = voted == labels
    losses = torch.tensor([float(row["loss"]) for row in rows])
    assert torch.allclose(
        losses, torch.nn.functional.cross_entropy(logits, labels, reduction="none"), rtol=1e-2, atol=1e-4
    )
    kept = {True: "yes", False: "no"}
    expected = [
        kept[bool(vote == label)] if know else "" for vote, label, know in zip(voted, labels, knows, strict=True)
    ]
    assert [row["label_kept"] for row in rows] == expected
    right = [row["prediction_before"] == row["label"] != row["prediction_after"] for row in rows]
    assert [row["fooled"] == "yes" for row in rows] == right
    assert any(right)


def test_every_test_image_is_there_with_its_variants(runs: Path, exported: Path) -> None:
    rows = table(exported)
    photos = load_photos(str(runs / "data"), PhotoOptions(size=16, channels=1, holdout=0.4))
    assert sorted(row["source"] for row in rows) == sorted([*photos.test.names] * 2)
    assert {row["variant"] for row in rows} == {"advmix-1", "advmix-2"}
    assert {row["donor"] for row in rows} <= set(photos.train.names)
    by_name = dict(zip(photos.test.names, photos.test.images.batch(slice(None))[0], strict=True))
    for row in rows:
        assert torch.equal(pixels(exported / row["original"]), by_name[row["source"]])
        assert row["filename"].startswith(f"{class_folders(photos.classes)[row['label']]}/{Path(row['source']).stem}__")
    first, second = ([row["donor"] for row in rows if row["variant"] == f"advmix-{number}"] for number in (1, 2))
    assert first != second
    written = {path.relative_to(exported).as_posix() for path in exported.rglob("*.png")}
    assert written == {row["filename"] for row in rows} | {row["original"] for row in rows}


def test_other_programs_read_it_back(exported: Path, tmp_path: Path) -> None:
    rows, tree = table(exported), ImageFolder(str(exported))
    assert len(tree) == len({row["filename"] for row in rows} | {row["original"] for row in rows})
    assert {unquote(name.partition("~")[0]) for name in tree.classes} == set(CLASSES.values())
    assert len(tree.classes) == len(CLASSES), "a/b and A/B do not share a folder"
    assert main(["data", str(exported), "--size", "16", "--out", str(tmp_path)]) == 0
    photos = load_photos(str(exported), PhotoOptions(size=16, channels=1, holdout=0.0))
    assert set(photos.classes) == set(tree.classes)
    assert len(photos.train) == len(tree)


def test_which_split_and_random_mixes(runs: Path, tmp_path: Path) -> None:
    every, flips = tmp_path / "every", tmp_path / "flips"
    flags = ["--split", "train", "--images", "40", "--method", "randmix"]
    assert export(runs, every, *flags) == 0
    assert export(runs, flips, *flags, "--which", "fooled") == 0
    rows = table(every)
    assert len(rows) == 40
    assert all(row["donor"] != row["source"] for row in rows), "never an image's own"
    assert {row["variant"] for row in rows} == {"randmix-1"}
    assert {row["original"] for row in rows} == {""}
    assert table(flips) == [row for row in rows if row["fooled"] == "yes"]
    assert 0 < len(table(flips)) < 40
    assert len(list(flips.rglob("*.png"))) == len(table(flips))


def test_a_stopped_export_goes_on_to_the_same_files(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advmix.export.run.WRITTEN_TOGETHER", 7)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert export(runs, whole) == 0
    put, count = VariationFolder.write, 0

    def interrupted(*arguments: object) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        put(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(VariationFolder, "write", interrupted)
    assert export(runs, stopped) == 130
    assert not (stopped / TABLE).exists()
    lost = next(stopped.rglob("*.png"))
    lost.unlink()
    monkeypatch.setattr(VariationFolder, "write", put)
    assert export(runs, stopped, "--resume") == 0
    assert files(stopped) == files(whole)
    assert export(runs, stopped, "--resume") == 0, "done already"
    subprocess.run(["sha256sum", "--check", "--quiet", "variations.sha256"], cwd=stopped, check=True)
    assert export(runs, stopped) == 2


@pytest.mark.parametrize("pattern", [TABLE, "*/*.png", "variations.sha256"])
def test_going_on_with_a_finished_export_checks_it(
    runs: Path, tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert export(runs, out, "--images", "3") == 0
    path = next(out.glob(pattern))
    path.write_bytes(path.read_bytes()[:-20])
    capsys.readouterr()
    assert export(runs, out, "--images", "3", "--resume") == 2
    assert "missing or changed since it was exported" in capsys.readouterr().err


def files(out: Path) -> dict[str, bytes]:
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name != "config.json"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method", "mixup"], "--method mixup: unknown; choose from advmix randmix"),
        (["--which", "wrong"], "--which wrong: unknown; choose from all fooled"),
        (["--split", "val"], "--split val: unknown; choose from test train"),
        (["--variants", "0"], "--variants 0: must be at least 1"),
    ],
)
def test_bad_flags(
    runs: Path, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(runs, tmp_path / "out", *flags) == 2
    assert words in capsys.readouterr().err


@given(st.text(min_size=1, max_size=20))
def test_any_name_is_safe_and_comes_back(name: str) -> None:
    safe = safe_name(name)
    assert not set(safe) & set('/\\:*?"<>|')
    assert safe.isprintable()
    assert safe[0] not in ". "
    assert safe[-1] not in ". "
    if len(safe.encode()) <= LONGEST:
        assert unquote(safe) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("not Smiling", "not Smiling"),
        ("Ä.b", "Ä.b"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("..", "%2E%2E"),
        ("con", "%63on"),
        ("LPT1.x", "%4CPT1.x"),
        ("__MACOSX", "%5F_MACOSX"),
        ("\udcff", "%ED%B3%BF"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_long_names_are_cut_and_stay_apart() -> None:
    one, other = safe_name("é" * 300), safe_name("é" * 301)
    assert one != other
    assert len(one.encode()) < 140


def test_files_of_one_name_stay_apart() -> None:
    assert file_stems({3: "a/1.jpg", 5: "b/2.jpg"}) == {3: "1", 5: "2"}
    assert file_stems({3: "a/x.jpg", 5: "b/X.png", 7: "c"}) == {3: "x-000003", 5: "X-000005", 7: "c-000007"}


def test_words_of_any_kind_survive_the_table(tmp_path: Path) -> None:
    name = 'a,"b"\r\n;c'
    folder = VariationFolder(tmp_path, (name,), {0: name})
    row = Variation(name, name, "me", "advmix-1", name, 1.0, True, name, 1.0, 1.0, name, 0.5, 0.5)
    folder.write(0, [(0, row, torch.rand(3, 4, 4))])
    assert folder.has(0)
    assert folder.finish(1) == 1
    assert folder.finish(1) == 1, "twice is once"
    found = table(tmp_path)[0]
    assert (found["source"], found["label"], found["fooled"], found["label_kept"]) == (name, name, "yes", "")
    assert (tmp_path / found["filename"]).is_file()


FACTORY = """
import torch

def tall():
    torch.manual_seed(0)
    pools = [torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(64, 4)]
    with torch.no_grad():
        pools[-1].weight.mul_(20)
    return torch.nn.Sequential(*pools)
"""


@pytest.fixture(scope="module")
def audited(runs: Path) -> Path:
    """What `advmix audit` wrote of the nominal classifier."""
    return made(*audit_words(runs, "--classifier", str(runs / "nominal")))


def audit_words(runs: Path, *flags: str) -> list[str]:
    mixing = ["--generator", str(runs / "fit"), "--latents", str(runs / "latents"), "--reference", str(runs / "other")]
    return ["audit", *mixing, "--images", "15", "--restarts", "2", "--steps", "1", *CPU, *flags]


def audit(runs: Path, out: Path, *flags: str) -> int:
    return main([*audit_words(runs, *flags), "--out", str(out)])


def check_export(found: Path, out: Path, options: ClassifierOptions, side: int) -> None:
    """The files are the images that the audit judged, up to rounding, as the classifier was shown them."""
    assert main(["export", "--audit", str(found), "--originals", "--out", str(out), *CPU]) == 0
    rows, network = table(out), open_classifier(options, image=(1, 16, 16)).network
    assert len({row["source"] for row in rows}) == len(rows) == 15
    for when, column in (("before", "original"), ("after", "filename")):
        shown = torch.stack([pixels(out / row[column]) for row in rows])
        assert shown.shape[-1] == side
        with torch.no_grad():
            seen = network(shown).softmax(1).amax(1)
        said = torch.tensor([float(row[f"probability_{when}"]) for row in rows])
        assert torch.allclose(said, seen, atol=0.02)
    asked = AuditRecords.load(found).images
    assert [row["label_kept"] != "" for row in rows] == (asked.reference_before == asked.labels).tolist()
    assert len(ImageFolder(out)) == 30


def test_what_an_audit_found(runs: Path, audited: Path, tmp_path: Path) -> None:
    check_export(audited, tmp_path / "out", ClassifierOptions(str(runs / "nominal")), 16)


def test_what_an_audit_found_in_larger_images(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "export_factory.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert audit(runs, Path("audit"), "--classifier", "export_factory:tall", "--input-size", "32") == 0
    check_export(Path("audit"), Path("out"), ClassifierOptions("export_factory:tall", input_size=32), 32)


def test_what_does_not_go_with_an_audit_is_refused(
    runs: Path, audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit, latents, out = (str(tmp_path / name) for name in ("fit", "latents", "out"))
    shape = ["--data", str(runs / "data"), "--size", "16", "--channels", "1", "--holdout", "0.4", "--seed", "3"]
    assert main(["fit", *shape, "--fit-steps", "2", "--out", fit, *CPU]) == 0
    assert main(["encode", "--generator", fit, "--out", latents, *CPU]) == 0
    for flags, words in (
        (["--audit", str(audited), "--generator", fit, "--latents", latents], "found with another generator"),
        (["--audit", str(audited), "--split", "train"], "--split: not together with --audit"),
        (["--audit", str(tmp_path)], "no such file"),
        ([], "name --audit, or --classifier"),
    ):
        assert main(["export", *flags, "--out", out, *CPU]) == 2
        assert words in capsys.readouterr().err


def test_votes_that_an_audit_does_not_trust_are_not_exported(audited: Path, tmp_path: Path) -> None:
    """The same votes of a reference that was expected to be right more often."""
    doubtful, said = tmp_path / "audit", {}
    shutil.copytree(audited, doubtful)
    found = AuditRecords.load(audited)
    metadata = found.metadata | {"reference": found.metadata["reference"] | {"accuracy_train": 2.0}}
    replace(found, metadata=metadata).save(doubtful / "found.safetensors")
    for folder in (audited, doubtful):
        out = tmp_path / f"of-{folder.name}"
        assert main(["export", "--audit", str(folder), "--out", str(out), *CPU]) == 0
        said[folder] = {row["label_kept"] for row in table(out)}
    assert said[audited] - {""}
    assert said[doubtful] == {""}
