"""`python -m experiments smiling`, on the patches that stand for faces."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from running import main
from test_celeba import folder as patches
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.data.photos.load import Photos
from advmix.metrics import predict
from advmix.report.tables import schema
from advmix.training.objectives import Batch
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors
from advmix.utils.torch_tools import generator, global_seed
from experiments.faces.dataset import divide, held_out, load
from experiments.smiling.results import PersonMeasure, share_of_runs
from experiments.smiling.settings import METHODS, VIEWS, RunOptions, SmilingConfig
from experiments.smiling.study import first_half, make_cell
from experiments.smiling.training import Training, epochs_of, make_network, make_objective
from experiments.smiling.views import TOGETHER, Viewed, half_and_half, make_view, mirrored, transformed
from experiments.tables import TABLES
from pictures import scenes

__all__ = ["patches"]
CPU = torch.device("cpu")
SMALL = ["--size", "32", "--labelled", "12", "--steps", "3", "--check-every", "1", "--batch", "8", "--resamples", "50"]
SMALL += ["--unlabelled-batch", "4", "--threshold", "0.5", "--worst-images", "3", "--seeds", "0"]
FAST = (
    "nominal",
    "nominal-2x2",
    "jitter",
    "randmix",
    "consistency-flip",
    "consistency-advmix",
    "consistency-half",
    "randmix-consistency-randaugment",
)


@pytest.fixture(scope="module")
def folder(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same patches, two of every "person": enough persons for some to be held out in two halves."""
    out = tmp_path_factory.mktemp("smiling") / "faces"
    shutil.copytree(patches, out)
    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "identity": number // 2} for number, row in enumerate(rows))
    return out


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return load(str(folder), "Smiling", "identity", 32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smiling")


def words(folder: Path, cells: Path, out: Path, *more: str) -> list[str]:
    command = ["study", "smiling", "--data", str(folder), *SMALL, "--methods", *FAST]
    return [*command, "--cells", str(cells), "--out", str(out), *more]


def study(folder: Path, cells: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main(words(folder, cells, out, *more)) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


@pytest.fixture(scope="module")
def results(folder: Path, place: Path) -> dict[str, Any]:
    return study(folder, place / "cells", place / "out")


def test_numbers_are_those_of_the_classifiers(results: dict[str, Any], photos: Photos, place: Path) -> None:
    cell = make_cell(SmilingConfig(labelled=12, worst_images=3, cells=place / "cells"), photos, 0)
    judged = cell.faces.judged
    assert [row["method"] for row in results["methods"]] == list(FAST)
    for run, row in zip(results["runs"], results["methods"], strict=True):
        tensors, facts = read_tensors(cell.folder / run["method"] / "classifier.safetensors", "classifier")
        network = conv_net(2, pool=2 if run["method"] == "nominal-2x2" else 4)
        network.load_state_dict(tensors)
        wrong = predict(network, judged, CPU).argmax(dim=1) != judged.labels
        assert run["wrong"] == wrong.nonzero()[:, 0].tolist()
        assert row["error"]["value"] == pytest.approx(float(wrong.double().mean()))
        searched = cell.searched()
        assert {place for place, row in enumerate(searched.tolist()) if wrong[row]} <= set(run["wrong_worst"])
        assert facts["step"] == run["step"] == min(run["curve"], key=lambda point: point[1])[0]


def test_the_page_shows_every_method_and_every_difference(results: dict[str, Any], place: Path) -> None:
    assert (place / "out" / "figures" / "smiling.png").is_file()
    facts, methods, words, due = TABLES["smiling"](results)
    assert "12 labels" in facts
    assert "4 images of 2 persons" in facts
    assert "points" in words
    assert len(methods.splitlines()) == 2 + len(FAST)
    for row in results["methods"]:
        assert f"| `{row['method']}` | {100 * row['error']['value']:.1f}" in methods
    assert len(due.splitlines()) == 2 + len(results["due"])
    assert "| `nominal` less `nominal-2x2` |" in due


def test_no_person_both_chooses_and_judges(photos: Photos) -> None:
    held = divide(photos, 12, "select", 0.0, 0)
    chosen = first_half(held.persons)
    assert set(held.persons[chosen].tolist()).isdisjoint(held.persons[~chosen].tolist())
    cell, test = (make_cell(SmilingConfig(labelled=12, judge=judge), photos, 0) for judge in ("select", "test"))
    assert len(cell.choose) + len(cell.faces.judged) == int(held_out(photos.train.groups).sum())
    assert test.choose.fingerprint == cell.choose.fingerprint
    assert len(test.faces.judged) == 24


def test_what_is_due_is_a_difference_of_two_methods(results: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in results["methods"]}
    assert [(row["first"], row["second"]) for row in results["due"]] == [
        ("nominal", "nominal-2x2"),
        ("consistency-flip", "nominal"),
        ("jitter", "nominal"),
        ("randmix", "nominal"),
        ("randmix-consistency-randaugment", "randmix"),
    ]
    for row in results["due"]:
        first, second = rows[row["first"]], rows[row["second"]]
        for key in ("error", "accuracy_worst_case"):
            assert row[key]["value"] == pytest.approx(first[key]["value"] - second[key]["value"])


def test_runs_of_a_file_are_taken_as_they_are(
    folder: Path, place: Path, results: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    finished = ("--finished", str(place / "out"))
    again = study(folder, place / "none", place / "again", *finished)
    assert again["runs"] == results["runs"]
    assert again["methods"] == results["methods"]
    assert not (place / "none").exists()
    assert main(words(folder, place / "none", place / "other", *finished, "--lr", "0.1")) == 2
    assert "made with other settings (run lr 0.003 there, 0.1 here)" in capsys.readouterr().err


def test_a_run_ends_when_it_has_not_been_better_for_a_while(photos: Photos) -> None:
    faces = divide(photos, 12, "select", 0.0, 0)
    answers = iter([0.5, 0.4, 0.4, 0.45, 0.1])

    class Scripted(Training):
        """Errors are given; the first weight of each look is kept."""

        def _error(self, images: ImageSet) -> float:
            seen.append(next(self.averaged.module.parameters()).flatten()[0].item())
            return next(answers)

    seen: list[float] = []
    with global_seed(0):
        network = conv_net(2)
    options = RunOptions(steps=20, batch=4, check_every=2, patience=2)
    found = Scripted(network, Viewed(mirrored), faces.labelled, options, 0, CPU).best(faces.judged)
    assert found.curve == [[2, 0.5], [4, 0.4], [6, 0.4], [8, 0.45]]
    assert found.step == 4
    assert next(found.network.parameters()).flatten()[0].item() == seen[1]
    assert len(set(seen)) == 4
    assert epochs_of(6, 12, options) == 2.0


def test_weights_are_the_average_of_the_steps(photos: Photos) -> None:
    images = divide(photos, 12, "select", 0.0, 0).labelled
    with global_seed(0):
        network = conv_net(2, widths=(4, 4))
    training = Training(network, Viewed(mirrored), images, RunOptions(steps=3, batch=6, decay=0.6), 0, CPU)
    expected: dict[str, Tensor] = {}
    for step, index in enumerate([torch.arange(6), torch.arange(6, 12), torch.arange(6)]):
        training._step(step, index)
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                expected[name] = 0.6 * expected[name] + 0.4 * value if step else value.clone()
    assert any("running_var" in name for name in expected)
    found = training.averaged.module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("name", [name for name in VIEWS if not name.endswith("-photo")])
def test_a_view_is_another_picture_that_follows_from_its_generator(name: str) -> None:
    pool = ImageSet((scenes(20, 3) * 255).byte(), torch.zeros(20, dtype=torch.int64), ("face",))
    view, images = make_view(name, pool, 0.5), scenes(9, 3, seed=1)
    with global_seed(0):
        network = conv_net(2).train()
    first, again, other = (view(network, images, generator(seed)) for seed in (0, 0, 1))
    assert first.shape == images.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.allclose(first, images)
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_transforms_are_drawn_for_a_few_images_at_once() -> None:
    counts: list[int] = []

    def transform(images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        counts.append(len(images))
        return 255 - images

    images = scenes(10, 3)
    found = transformed(transform)(nn.Identity(), images, generator(0))
    assert counts == [TOGETHER, TOGETHER, 2]
    torch.testing.assert_close(found, 1 - images, atol=1 / 255, rtol=0)


def test_half_of_the_images_are_seen_either_way() -> None:
    images = scenes(6, 3)
    view = half_and_half(lambda _, some, __: some, lambda _, some, __: 1 - some)
    found = view(nn.Identity(), images, generator(0))
    assert torch.equal(found[:3], images[:3])
    assert torch.equal(found[3:], 1 - images[3:])


def test_copies_and_images_are_one_batch_to_the_classifier() -> None:
    seen: list[int] = []
    network = conv_net(2)
    network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    Viewed(mirrored)(network, Batch(scenes(4, 3), torch.arange(4) % 2, torch.arange(4)), generator(0))
    assert seen == [8]


def test_shares_of_runs_and_their_intervals_are_over_persons() -> None:
    wrong = share_of_runs([[0, 1], [1, 3]], 4)
    assert wrong.tolist() == [0.5, 1, 0, 0.5]
    measure = PersonMeasure.of(torch.tensor([5, 5, 5, 5]), torch.tensor([0, 1]), 20)
    runs = [{"method": "nominal", "wrong": [0], "wrong_worst": [0], "epochs": 1, "cpu_seconds": 1.0}]
    error = measure.row(runs, runs)["error"]
    assert error == {"value": 0.25, "low": 0.25, "high": 0.25}  # one person: nothing to resample


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"methods": ("randmix",)}, "nominal must be among them"),
        ({"methods": ("nominal", "magic")}, "--methods magic: unknown"),
        ({"network": "vgg"}, "--network vgg: unknown"),
        ({"judge": "train"}, "--judge train: unknown"),
        ({"network": "resnet18", "methods": ("nominal", "nominal-2x2")}, "nominal-2x2"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SmilingConfig(**settings)


def test_every_method_makes_a_network_and_an_objective(photos: Photos) -> None:
    faces = divide(photos, 12, "select", 0.0, 0)
    batch = Batch(*faces.labelled.batch(slice(0, 4)), torch.arange(4), augmented=True)
    config = SmilingConfig(labelled=12)
    for method in (name for name in METHODS if not name.endswith("-photo")):
        network = make_network(config, method, 0, 2)
        loss = make_objective(config, method, faces)(network, batch, generator(0))
        loss.backward()
        assert float(loss.detach()) > 0
    deep = make_network(SmilingConfig(network="resnet18", methods=("nominal",)), "nominal", 0, 2)
    assert deep(batch.images).shape == (4, 2)
