"""The face study, on patches of scikit-learn's photographs that stand for faces."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from PIL import Image
from running import cli, parse
from sklearn.datasets import load_sample_images

from advmix.data.photos.load import Photos
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.intervals import GroupBootstrap
from advmix.mixing import SearchOptions
from advmix.report.tables import schema
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.classify import TrainOptions
from advmix.training.methods import BaselineOptions
from advmix.training.objectives import Batch, Mixing
from advmix.utils.torch_tools import generator, global_seed
from experiments.faces.cell import ALL, Bench
from experiments.faces.dataset import divide, held_out, load, tinted
from experiments.faces.evaluate import Judge
from experiments.faces.results import Metric
from experiments.faces.settings import CONTROLS, METHODS, CelebaConfig, EncoderClassifier, Kit, reconstructed
from experiments.faces.study import open_faces

SIDE = 32
SMALL = [
    "--size",
    str(SIDE),
    "--fit-steps",
    "2",
    "--fit-batch",
    "8",
    "--epochs",
    "1",
    "--batch",
    "16",
    "--labelled",
    "24",
]
SMALL += ["--worst-images", "6", "--worst-restarts", "1", "--worst-steps", "1", "--linf-steps", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty patches; two of every "person"; those of the temple "smile"."""
    out = tmp_path_factory.mktemp("patches")
    rows = []
    pictures = load_sample_images().images
    for number in range(80):
        picture = pictures[number % 2]
        left, top = 24 * (number // 2 % 20), 90 * (number // 40)
        name = f"{number:03}.png"
        Image.fromarray(picture[top : top + 64, left : left + 64]).save(out / name)
        split = "train" if number < 56 else "val" if number < 68 else "test"
        person, male = number // 4, number // 2 % 2
        rows.append({"filename": name, "split": split, "identity": person, "Smiling": 1 - number % 2, "Male": male})
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return load(str(folder), "Smiling", "identity", SIDE)


def study(folder: Path, cells: Path, out: Path, *arguments: str) -> dict[str, Any]:
    command = ["study", "celeba", "--data", str(folder), *SMALL, "--cells", str(cells), "--out", str(out)]
    assert cli([*command, *arguments]) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def results(folder: Path, cells: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("study") / "out"
    return study(folder, cells, out, "--seeds", "0", "--judge", "test", "--methods", *METHODS, *CONTROLS)


def test_every_method_has_its_errors_and_intervals(results: dict[str, Any]) -> None:
    assert [row["method"] for row in results["methods"]] == [*METHODS, *CONTROLS]
    judged = results["judged"]
    assert (judged["images"], judged["persons"], judged["unlabelled"], judged["refit"]) == (24, 6, 52, 0)
    assert judged["classes"] == {"not Smiling": 12, "Smiling": 12}
    for row in results["methods"]:
        errors = row["error_by_seed"]
        assert row["error"]["value"] == pytest.approx(errors[0])
        assert row["error"]["low"] <= row["error"]["value"] <= row["error"]["high"]


def test_differences_are_those_of_the_methods_image_by_image(results: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in results["methods"]}
    pairs = [(entry["first"], entry["second"]) for entry in results["comparisons"]]
    assert pairs[: len(rows) - 1] == [(method, "nominal") for method in rows if method != "nominal"]
    assert pairs[len(rows) - 1 :] == [
        ("advmix", "randmix"),
        ("advmix", "nominal-long"),
        ("advmix", "randmix-long"),
        ("advmix", "jitter"),
        ("advmix", "augmix"),
        ("advmix", "advmix-small"),
        ("advmix-filtered", "advmix"),
        ("advmix-decoded", "advmix"),
    ]
    for entry in results["comparisons"]:
        for key in ("error", "accuracy_mixed", "accuracy_worst_case"):
            first, second = (rows[entry[place]][key]["value"] for place in ("first", "second"))
            assert entry[key]["value"] == pytest.approx(first - second)
            assert entry[key]["low"] - 1e-9 <= entry[key]["value"] <= entry[key]["high"] + 1e-9
    for row in rows.values():
        assert row["accuracy_worst_case"]["value"] == pytest.approx(row["accuracy_worst_case_by_seed"][0])


def test_the_controls_of_equal_computing_take_so_many_times_the_steps(cells: Path, results: dict[str, Any]) -> None:
    def steps(method: str) -> int:
        (log,) = cells.glob(f"*/{method}/log.jsonl")
        return int(json.loads(log.read_text().splitlines()[-1])["step"])

    assert steps("nominal-long") == 8 * steps("nominal")
    assert steps("randmix-long") == 2 * steps("randmix") == 2 * steps("advmix")
    rows = {row["method"]: row for row in results["methods"]}
    assert rows["randmix-long"]["generator_seconds"] == rows["advmix"]["generator_seconds"]
    assert rows["nominal-long"]["generator_seconds"] == [None]


def test_seconds_of_generator_and_encoding_stand_beside_those_of_training(results: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in results["methods"]}
    made = results["generators"][0]
    for method, name in (
        ("advmix", "generator"),
        ("reconstructed", "generator"),
        ("advmix-small", "generator-labelled"),
    ):
        assert rows[method]["generator_seconds"] == [made[name]["fit_seconds"]]
        assert rows[method]["encode_seconds"][0] > 0
    assert rows["nominal"]["generator_seconds"] == [None]
    assert rows["nominal"]["encode_seconds"] == [0]


def test_change_is_paired_and_none_where_nominal_training_may_have_no_error() -> None:
    wrong = (torch.arange(200) % 3 == 0).double()
    boot = GroupBootstrap.draw(torch.arange(200) // 2, 200, generator(0))
    error = Metric([torch.ones(200, dtype=torch.bool)])
    assert error.change(wrong, wrong, boot) == {"value": 0, "low": 0, "high": 0}
    half = error.change(wrong * (torch.arange(200) % 2), wrong, boot)
    assert half is not None
    assert -1 < half["low"] < half["value"] < half["high"] < 0
    assert error.change(wrong, torch.zeros(200), boot) is None


def test_balanced_and_worst_errors_are_those_of_the_parts() -> None:
    wrong = torch.tensor([1.0, 0, 0, 0, 0.5, 0.5])
    parts = [torch.arange(6) < 4, torch.arange(6) >= 4]
    boot = GroupBootstrap.draw(torch.arange(6), 100, generator(0))
    assert Metric(parts).interval(wrong, boot).value == pytest.approx((0.25 + 0.5) / 2)
    worst = Metric(parts, worst=True).interval(wrong, boot)
    assert worst.value == pytest.approx(0.5)
    assert worst.low <= worst.value <= worst.high


def test_what_is_done_is_not_done_again(folder: Path, cells: Path, results: dict[str, Any], tmp_path: Path) -> None:
    weights = next(cells.glob("celeba-Smiling-24-32px-seed0-*")) / "nominal" / "classifier.safetensors"
    written = weights.stat().st_mtime_ns
    again = study(folder, cells, tmp_path / "out", "--seeds", "0", "--judge", "test", "--methods", "nominal", "advmix")
    assert weights.stat().st_mtime_ns == written
    assert again["methods"][0]["error_by_seed"] == results["methods"][0]["error_by_seed"][:1]


def test_choosing_and_testing_share_the_classifiers_and_not_the_images(
    folder: Path, cells: Path, results: dict[str, Any], tmp_path: Path
) -> None:
    weights = next(cells.glob("celeba-Smiling-24-32px-seed0-*")) / "advmix" / "classifier.safetensors"
    written = weights.stat().st_mtime_ns
    found = study(folder, cells, tmp_path / "out", "--seeds", "0", "--methods", "nominal", "advmix")
    assert weights.stat().st_mtime_ns == written
    assert found["judged"]["persons"] == 1


def test_another_search_is_not_taken_for_the_one_that_was_done(
    folder: Path, cells: Path, results: dict[str, Any], tmp_path: Path
) -> None:
    arguments = ["--seeds", "0", "--judge", "test", "--methods", "nominal", "--worst-images", "4"]
    found = study(folder, cells, tmp_path / "out", *arguments)
    assert results["methods"][0]["worst_case_images"] == 6
    assert found["methods"][0]["worst_case_images"] == 4


def other_generator(cells: Path, out: Path) -> Path:
    """The same cells, with another generator in the place of each."""
    shutil.copytree(cells, out)
    for home in out.glob("celeba-generator-*"):
        model, metadata = load_autoencoder(home)
        model.get_parameter("generator.to_image.bias").add_(0.01)
        save_autoencoder(home, model, {key: value for key, value in metadata.items() if key != "fingerprint"})
    return out


def test_worst_cases_under_another_generator_are_looked_for_again(
    folder: Path, cells: Path, results: dict[str, Any], photos: Photos, tmp_path: Path
) -> None:
    config = parse(["study", "celeba", "--data", str(folder), *SMALL, "--judge", "test", "--cells", str(cells)])
    judge = Judge(Bench(config, 0, divide(photos, 24, "test", 0, seed=0)))
    judge.do("nominal")
    assert judge.is_done("nominal")
    other = replace(config, cells=other_generator(cells, tmp_path / "cells"))
    again = Judge(replace(judge.bench, config=other))
    assert again.bench.is_trained("nominal")
    assert not again.is_done("nominal")
    again.do("nominal")
    assert again.is_done("nominal")
    assert again.found("nominal")[1]["generator"] != judge.found("nominal")[1]["generator"]
    assert again.found("nominal")[1]["pool"] == judge.found("nominal")[1]["pool"]


def test_nobody_is_in_two_parts(photos: Photos) -> None:
    parts = divide(photos, 24, "test", 0, seed=0)
    select = divide(photos, 24, "select", 0, seed=0)
    train_names = set(photos.train.groups[~held_out(photos.train.groups)].tolist())
    assert len(parts.unlabelled) == 52
    assert len(parts.judged) == 24
    assert train_names.isdisjoint(parts.persons.tolist())
    assert train_names.isdisjoint(select.persons.tolist())
    assert set(select.persons.tolist()).isdisjoint(parts.persons.tolist())


def test_seeds_draw_other_labelled_images_and_hold_out_the_same_persons(photos: Photos) -> None:
    one, two = (divide(photos, 24, "select", 0, seed=seed) for seed in (0, 1))
    assert one.labelled.fingerprint != two.labelled.fingerprint
    assert one.judged.fingerprint == two.judged.fingerprint
    assert len(one.labelled) == 24


@pytest.mark.parametrize(("variant", "is_said"), [("survival", True), ("base", False)])
def test_a_generator_that_would_learn_the_shortcut_is_pointed_out(
    variant: str, is_said: bool, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tint", "0.5", "--variant", variant, "--methods", "nominal", "--seeds", "0"]
    study(folder, tmp_path / "cells", tmp_path / "out", *arguments)
    assert ("may read nothing but the shortcut (--tint 0.5)" in " ".join(capsys.readouterr().out.split())) == is_said


def test_tint_gives_the_class_away_in_training_alone(photos: Photos) -> None:
    parts = divide(photos, 24, "test", 0.5, seed=0)
    plain = divide(photos, 24, "test", 0, seed=0)
    expected = tinted(plain.labelled, plain.labelled.labels, 0.5)
    assert torch.equal(parts.labelled.pixels, expected.pixels)
    assert not torch.equal(parts.judged.pixels, tinted(plain.judged, plain.judged.labels, 0.5).pixels)
    either = torch.stack([tinted(plain.judged, torch.full((24,), k), 0.5).pixels for k in (0, 1)])
    assert (parts.judged.pixels == either).flatten(2).all(2).any(0).all()


def make_kit(photos: Photos, **changes: Any) -> Kit:
    with global_seed(0):
        model = Autoencoder(style_config(photos.train.images, FitOptions(grid_channels=8))).requires_grad_(False).eval()
    kit = Kit(photos.train.images[:8], model, SearchOptions(perp=(0, 1, 2, 3, 4, 5)), BaselineOptions(), 0)
    return replace(kit, **changes)


def test_classifier_from_the_encoder_begins_with_its_weights_and_trains_a_copy(photos: Photos) -> None:
    kit = make_kit(photos)
    network = kit.network("pretrained")
    assert isinstance(network, EncoderClassifier)
    images = kit.images.batch(slice(0, 2))[0]
    theirs, ours = kit.autoencoder.encoder(images), network.encoder(images)
    assert torch.equal(theirs.styles, ours.styles)
    network(images).sum().backward()
    assert all(part.grad is not None for part in network.parameters())
    assert all(part.grad is None for part in kit.autoencoder.parameters())


def test_reconstructions_are_those_of_the_generator(photos: Photos) -> None:
    kit = make_kit(photos)
    found = reconstructed(kit.images, kit.autoencoder)
    with torch.no_grad():
        expected = kit.autoencoder.generator(kit.autoencoder.encoder(kit.images.batch(slice(None))[0]))
    assert (found.batch(slice(None))[0] - expected).abs().max() < 1 / 255
    assert torch.equal(found.labels, kit.images.labels)


def test_decoded_mixes_are_those_without_the_residual(photos: Photos) -> None:
    kit = make_kit(photos, baseline=BaselineOptions(residual=True))
    batch = Batch(*kit.images.batch(slice(None)), torch.arange(len(kit.images)))
    bare = replace(kit, baseline=BaselineOptions(residual=False))

    def mixes(kit: Kit, method: str) -> torch.Tensor:
        objective = kit.recipe(method).objective
        assert isinstance(objective, Mixing)
        return objective.copy(kit.network(method), batch, generator(0, "tests"))

    decoded = mixes(kit, "advmix-decoded")
    assert torch.equal(decoded, mixes(bare, "advmix"))
    assert not torch.allclose(decoded, mixes(kit, "advmix"), atol=0.1)


def test_searched_images_are_the_same_for_every_method_and_seed(folder: Path, photos: Photos) -> None:
    config = CelebaConfig(data=str(folder), size=SIDE, worst_images=6, train=TrainOptions(epochs=1))
    bench = Bench(config, 3, divide(photos, 24, "test", 0, seed=3))
    rows = Judge(bench).searched()
    assert len(rows.unique()) == 6
    assert torch.equal(rows, Judge(replace(bench, seed=4)).searched())


def test_a_generator_is_shared_by_all_that_is_recognised(
    folder: Path, cells: Path, results: dict[str, Any], photos: Photos
) -> None:
    command = ["study", "celeba", "--data", str(folder), *SMALL, "--cells", str(cells)]
    male, smiling = (
        Bench(
            parse([*command, "--target", target]),
            seed=0,
            faces=divide(found, 24, "test", 0, seed=0),
        )
        for target, found in (("Male", load(str(folder), "Male", "identity", SIDE)), ("Smiling", photos))
    )
    assert male.folder != smiling.folder
    assert male.home("generator") == smiling.home("generator")
    assert smiling.has_generator("generator")
    assert set(smiling.faces.unlabelled.labels.tolist()) == {0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "advmix"], "nominal must be among them"),
        (["--methods", "nominal", "recolor"], "--methods recolor: unknown"),
        (["--methods", "nominal", "advmix-decoded", "--no-residual"], "--methods advmix-decoded: leaves out"),
        (["--judge", "train"], "--judge train: unknown"),
        (["--labelled", "999"], "--labelled 999: there are 52 training images"),
        (["--tint", "2"], "--tint 2.0: must be between 0 and 1"),
        (["--target", "Smile"], "--target Smile"),
        (["--seeds", "1", "1"], "--seeds 1 1"),
        (["--methods", "nominal", "nominal-refit"], "which a stress test has"),
        (["--judge", "test", "--cue", "Male", "--methods", "nominal", "advmix-refit"], "which must be among them"),
        (["--cue", "Male"], "a stress test has a test of its own"),
        (["--judge", "test", "--cue", "Sex"], "--cue Sex"),
        (["--persons", "who"], "--persons who"),
        (["--judge", "test", "--cue", "Male", "--agreement", "0.4"], "--agreement 0.4: must be between"),
        (["--judge", "test", "--cue", "Male"], "too few images of class"),
        (["--perceptual-weight", "0.1"], "--perceptual-weight 0.1: a teacher comes with the variant; give --variant"),
        (["--linf-radius", "0.05"], "--linf-radius 0.05: linf4 and linf8 have their own"),
        (["--also-target", "smiling"], "goes together with --also"),
    ],
)
def test_bad_settings_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    command = ["study", "celeba", "--data", str(folder), *SMALL, "--out", str(tmp_path / "out")]
    assert cli([*command, *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_other_source_names_its_own_option(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["study", "celeba", "--data", str(folder), *SMALL, "--out", str(tmp_path / "out"), "--also", str(folder)]
    assert cli([*command, "--also-target", "smile"]) == 2
    assert "--also-target smile" in capsys.readouterr().err


def test_size_is_that_of_the_faces_and_keeps_its_own_folder(folder: Path, tmp_path: Path) -> None:
    small, full = (CelebaConfig(data=str(folder), size=size, cells=tmp_path) for size in (32, 64))
    faces = [open_faces(replace(config, labelled=24, seeds=(0,)))[0][0] for config in (small, full)]
    assert [part.judged.shape for part in faces] == [(3, 32, 32), (3, 64, 64)]
    benches = [Bench(config, 0, part) for config, part in zip((small, full), faces, strict=True)]
    assert benches[0].folder != benches[1].folder
    assert benches[0].home(ALL) != benches[1].home(ALL)
    for part in faces:
        config = style_config(part.unlabelled, small.fit)
        assert (config.grid_channels, config.layers) == (8, 6), "the styles that are z⊥ are all styles at every size"
