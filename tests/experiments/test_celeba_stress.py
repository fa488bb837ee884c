"""The stress test, another source, filtered mixes: on the patches that stand for faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from running import cli
from sklearn.metrics import roc_auc_score
from test_celeba import SMALL, folder, study
from torch import nn

from advmix.classifiers.networks import conv_net
from advmix.intervals import GroupBootstrap
from advmix.latents import Split
from advmix.mixing import RandMix
from advmix.report.drawing import method, method_label
from advmix.training.objectives import Batch, Mixing
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator
from experiments.controls import FilteredMixing
from experiments.faces.dataset import GROUPS, Stress, agreement_of, agrees, divide_by_cue, groups_of
from experiments.faces.results import auc_interval, roc_auc
from tiny import VECTOR, make_generator, make_latents

__all__ = ["folder"]


def population(seed: int = 0, count: int = 4000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels, cues and persons: every person keeps the cue, and one in eight with it has the label."""
    rng = generator(seed, "tests", "population")
    persons = torch.randint(count // 4, (count,), generator=rng)
    cues = (torch.rand(count // 4, generator=rng) < 0.4).long()[persons]
    labels = (torch.rand(count, generator=rng) < torch.where(cues == 1, 0.1, 0.3)).long()
    return labels, cues, 7 * persons + 3


@pytest.mark.parametrize("agreement", [0.95, 0.98, 0.8])
def test_a_division_by_identity(agreement: float) -> None:
    labels, cues, persons = population()
    rng = generator(0, "tests", "division")
    parts = divide_by_cue(labels, cues, persons, judged=40, refit=12, agreement=agreement, rng=rng)
    rows = (parts.train, parts.refit, parts.judged)
    people = [set(persons[part].tolist()) for part in rows]
    assert all(people[a].isdisjoint(people[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert all(len(part.unique()) == len(part) for part in rows)
    groups = groups_of(labels, cues)
    assert torch.bincount(groups[parts.judged]).tolist() == [40] * GROUPS
    assert torch.bincount(groups[parts.refit]).tolist() == [12] * GROUPS
    reached = float((labels != cues)[parts.train].double().mean())
    assert reached == pytest.approx(agreement, abs=1e-3)
    assert len(parts.train) > 1000
    against = torch.bincount(groups[parts.train], minlength=GROUPS)[[0, 3]].tolist()
    left = ~torch.isin(persons, torch.tensor(sorted(people[1] | people[2])))
    rare = int((left & (groups == 3)).sum())
    assert against[1] == min(rare, sum(against) // 2)


def test_the_agreement_that_was_reached_is_counted() -> None:
    assert agreement_of(torch.tensor([40, 5, 10, 45])) == pytest.approx(0.85)
    assert agreement_of(torch.tensor([5, 40, 45, 10])) == pytest.approx(0.85)


def test_a_test_of_another_size_has_folders_of_its_own() -> None:
    assert Stress(cue="Male").moved == ""
    assert Stress(cue="Male", stress_images=40, refit_images=9).moved == "-test40-refit9"


def test_the_sense_of_the_agreement_is_that_of_the_images() -> None:
    labels, cues, _ = population()
    assert torch.equal(agrees(labels, cues), labels != cues)
    assert torch.equal(agrees(labels, 1 - cues), labels == 1 - cues)


def test_a_seed_fixes_the_division_and_too_much_is_refused() -> None:
    labels, cues, persons = population()

    def divide(seed: int, judged: int = 40) -> torch.Tensor:
        rng = generator(seed)
        return divide_by_cue(labels, cues, persons, judged=judged, refit=12, agreement=0.9, rng=rng).judged

    assert torch.equal(divide(1), divide(1))
    assert not torch.equal(divide(1), divide(2))
    with pytest.raises(UserError, match="too few images of class 1 with cue 1"):
        divide(1, judged=1000)


@pytest.fixture(scope="module")
def smiles(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Another source: grey crops of another size, under other words for the same classes."""
    out = tmp_path_factory.mktemp("smiles")
    lines = ["filename,smiling"]
    for number in range(12):
        image = Image.open(folder / f"{number:03}.png").convert("L").resize((40, 40))
        image.save(out / f"{number}.png")
        lines.append(f"{number}.png,{1 - number % 2}")
    (out / "labels.csv").write_text("\n".join(lines))
    return out


@pytest.fixture(scope="module")
def stressed(folder: Path, smiles: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    methods = ["--methods", "nominal", "advmix-filtered", "nominal-refit", "advmix-filtered-refit"]
    arguments = ["--seeds", "0", "1", "--judge", "test", "--cue", "Male", "--agreement", "0.8", *methods]
    arguments += ["--stress-images", "4", "--refit-images", "2", "--also", str(smiles), "--also-target", "smiling"]
    place = tmp_path_factory.mktemp("stress")
    return study(folder, place / "cells", place / "out", *arguments, "--labelled", "16")


def test_groups_are_judged_with_their_worst(stressed: dict[str, Any]) -> None:
    judged = stressed["judged"]
    assert (judged["images"], judged["persons"], judged["refit"]) == (16, 4, 8)
    assert judged["unlabelled"] == 20
    groups = judged["training_groups"]
    assert list(groups) == list(stressed["methods"][0]["group_errors"])
    assert sum(groups.values()) == 20
    none, cue, label, both = groups.values()
    assert judged["agreement"] == max(none + both, cue + label) / 20
    for row in stressed["methods"]:
        errors = {name: group["value"] for name, group in row["group_errors"].items()}
        assert list(errors) == ["not Smiling, not Male", "not Smiling, Male", "Smiling, not Male", "Smiling, Male"]
        assert row["worst_group_error"]["value"] == pytest.approx(max(errors.values()))
        assert row["error"]["value"] == pytest.approx(sum(errors.values()) / 4)
        assert row["error"]["value"] == pytest.approx(sum(row["error_by_seed"]) / 2)


def test_refitting_is_compared_with_what_it_changes(stressed: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in stressed["methods"]}
    pairs = [(entry["first"], entry["second"]) for entry in stressed["comparisons"]]
    refitted = [("advmix-filtered-refit", "advmix-filtered"), ("advmix-filtered-refit", "nominal-refit")]
    assert pairs[-2:] == refitted
    assert pairs.count(("nominal-refit", "nominal")) == 1
    for pair, entry in zip(pairs, stressed["comparisons"], strict=True):
        first, second = (rows[name]["worst_group_error"]["value"] for name in pair)
        assert entry["worst_group_error"]["value"] == pytest.approx(first - second)
        assert entry["worst_group_error"]["low"] <= entry["worst_group_error"]["high"]
    assert rows["nominal-refit"]["encode_seconds"] == rows["nominal"]["encode_seconds"]
    assert len(rows["nominal"]["accuracy_worst_case_by_seed"]) == 2
    mean = sum(rows["nominal"]["accuracy_worst_case_by_seed"]) / 2
    assert rows["nominal"]["accuracy_worst_case"]["value"] == pytest.approx(mean)


def test_a_refitted_method_is_called_after_its_own() -> None:
    assert method_label("advmix-refit") == "AdvMix, refitted"
    assert method("advmix-refit").control
    assert not method("advmix").control
    assert method_label("mine-refit") == "mine-refit"


def test_another_source_is_judged_apart(stressed: dict[str, Any]) -> None:
    also = stressed["also"]
    assert also["images"] == 12
    assert also["classes"] == {"not Smiling": 6, "Smiling": 6}
    assert [row["method"] for row in also["methods"]] == [row["method"] for row in stressed["methods"]]
    for row in also["methods"]:
        assert row["error"]["low"] <= row["error"]["value"] <= row["error"]["high"]
        assert 0 <= row["roc_auc"]["low"] <= row["roc_auc"]["value"] <= row["roc_auc"]["high"] <= 1


def test_another_source_of_other_classes_is_refused(
    folder: Path, smiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["study", "celeba", "--data", str(folder), *SMALL, "--target", "Male", "--out", str(tmp_path / "out")]
    assert cli([*command, "--also", str(smiles), "--also-target", "smiling"]) == 2
    assert "tells not smiling, smiling apart" in capsys.readouterr().err


def test_area_is_scikit_learns_with_ties_and_weights() -> None:
    rng = generator(0, "tests", "auc")
    scores, positive = torch.randint(9, (60,), generator=rng) / 9, torch.rand(60, generator=rng) < 0.4
    weights = torch.randint(4, (5, 60), generator=rng)
    expected = [roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    assert roc_auc(scores, positive, weights).tolist() == pytest.approx(expected)
    found = auc_interval(scores, positive, GroupBootstrap.draw(torch.arange(60), 300, rng))
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    assert found.low < found.value < found.high


class Below(nn.Module):
    """Class 1 where the image is darker than a half."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = images.mean(dim=(1, 2, 3))
        return torch.stack([light, 1 - light], dim=1)


def test_a_mix_that_lost_its_label_gives_way_to_the_image() -> None:
    model = make_generator(VECTOR).float()
    pool, split = make_latents(VECTOR, 40).to(dtype=torch.float32), Split.fine(VECTOR.layers, 4)
    mixing = Mixing(RandMix(model, split), pool)
    with torch.no_grad():
        images = model(pool)
        labels = Below()(images).argmax(dim=1)
    batch, network = Batch(images[:20], labels[:20], torch.arange(20)), conv_net(2)
    mixes = mixing.copy(network, batch, generator(5))
    lost = Below()(mixes).argmax(dim=1) != batch.labels
    found = FilteredMixing(mixing, Below()).copy(network, batch, generator(5))
    assert 0 < int(lost.sum()) < 20
    assert torch.equal(found[lost], batch.images[lost])
    assert torch.equal(found[~lost], mixes[~lost])
