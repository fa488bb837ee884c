"""Consistency with unlabelled images, beside a literal reference."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.cli import main
from advmix.data.images import ImageSet
from advmix.training.classify import flipped
from advmix.training.consistency import VIEWS, Consistency, UnlabelledOptions, transformed
from advmix.training.objectives import Batch, Nominal
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors
from advmix.utils.torch_tools import generator, global_seed
from pictures import digit, digit_label, encoded, scenes, write
from trained import shared

CLASSES = ("a", "b", "c")


def negative(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
    """A view that anybody can compute."""
    return 1 - images


def same(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
    return images


@pytest.fixture
def unlabelled() -> ImageSet:
    return ImageSet((scenes(12, 3, 8) * 255).byte(), torch.zeros(12, dtype=torch.int64), CLASSES)


@pytest.fixture
def network() -> nn.Module:
    with global_seed(3):
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))


def batch() -> Batch:
    return Batch(scenes(6, 3, 8, seed=1), torch.arange(6) % 3, torch.arange(6))


def labelled_loss(network: nn.Module) -> Tensor:
    return F.cross_entropy(network(batch().images), batch().labels)


@torch.no_grad()
def reference(network: nn.Module, unlabelled: ImageSet, count: int, threshold: float | None) -> float:
    """The disagreement, image by image."""
    rng, total, network = generator(0), 0.0, copy.deepcopy(network)
    images = flipped(unlabelled.batch(torch.randint(12, (count,), generator=rng))[0], rng)
    network.eval()
    wanted = network(images).softmax(dim=1).tolist()
    network.train()
    for share, seen in zip(wanted, network(1 - images).log_softmax(dim=1).tolist(), strict=True):
        if threshold is None:
            total += sum(p * (math.log(p) - q) for p, q in zip(share, seen, strict=True))
        elif max(share) >= threshold:
            total -= seen[share.index(max(share))]
    return total / count


@pytest.mark.parametrize("threshold", [0.0, 0.4, None])
def test_loss_is_that_of_the_papers(network: nn.Module, unlabelled: ImageSet, threshold: float | None) -> None:
    expected = reference(network, unlabelled, 7, threshold)
    objective = Consistency(Nominal(), unlabelled, negative, batch=7, weight=0.5, threshold=threshold)
    assert expected > 0.01
    assert objective(network, batch(), generator(0)).item() == pytest.approx(
        labelled_loss(network).item() + 0.5 * expected, rel=1e-4
    )


def test_images_that_are_not_certain_do_not_count(network: nn.Module, unlabelled: ImageSet) -> None:
    loss = Consistency(Nominal(), unlabelled, negative, threshold=1.0)(network, batch(), generator(0))
    assert loss.item() == labelled_loss(network).item()


def test_labels_of_unlabelled_images_are_not_looked_at(network: nn.Module, unlabelled: ImageSet) -> None:
    others = ImageSet(unlabelled.pixels, torch.arange(12) % 3, CLASSES)
    losses = [
        Consistency(Nominal(), images, negative, threshold=0.0)(network, batch(), generator(0)).item()
        for images in (unlabelled, others)
    ]
    assert losses[0] == losses[1]


def test_what_is_said_of_the_image_is_a_constant(unlabelled: ImageSet) -> None:
    with global_seed(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    loss = Consistency(Nominal(), unlabelled, same, threshold=None)(network, batch(), generator(0))
    labelled = labelled_loss(network)
    assert loss.item() == pytest.approx(labelled.item(), abs=1e-6)
    for found, expected in zip(
        torch.autograd.grad(loss, list(network.parameters())),
        torch.autograd.grad(labelled, list(network.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_view_gets_the_mirrored_images_and_the_classifier(network: nn.Module, unlabelled: ImageSet) -> None:
    seen: list[tuple[nn.Module, Tensor]] = []

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        seen.append((classifier, images))
        return images

    for flip in (False, True):
        Consistency(Nominal(), unlabelled, view, batch=5, flip=flip)(network, batch(), generator(0))
    rng = generator(0)
    images = unlabelled.batch(torch.randint(12, (5,), generator=rng))[0]
    assert all(classifier is network for classifier, _ in seen)
    torch.testing.assert_close(seen[0][1], images)
    torch.testing.assert_close(seen[1][1], flipped(images, rng))
    assert not torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("wrong", [{"batch": 1}, {"weight": -1.0}, {"threshold": 1.1}])
def test_values_out_of_range_are_refused(unlabelled: ImageSet, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        Consistency(Nominal(), unlabelled, same, **wrong)


def test_as_many_unlabelled_images_as_labelled_ones_by_default(network: nn.Module, unlabelled: ImageSet) -> None:
    seen: list[Tensor] = []

    def view(classifier: nn.Module, images: Tensor, rng: torch.Generator) -> Tensor:
        seen.append(images)
        return images

    for step in (0, 0, 1):
        Consistency(Nominal(), unlabelled, view)(network, batch(), generator(0, step))
    assert [len(images) for images in seen] == [6, 6, 6]
    torch.testing.assert_close(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def brighter(image: Tensor) -> Tensor:
    """A transform that draws from torch's global generator."""
    return image // 2 + torch.randint(100, (1, 1, 1)).to(torch.uint8)


def test_a_transform_draws_anew_for_each_image(unlabelled: ImageSet) -> None:
    images, rng, before = unlabelled.pixels / 255, generator(5), torch.get_rng_state()
    found = transformed(brighter)(nn.Identity(), images, rng)
    assert torch.equal(before, torch.get_rng_state())
    added = []
    for image, new, seed in zip(
        unlabelled.pixels, found, torch.randint(2**62, (12,), generator=generator(5)).tolist(), strict=True
    ):
        with global_seed(seed):
            added.append(int(torch.randint(100, (1,))))
        torch.testing.assert_close(new, (image // 2 + added[-1]) / 255)
    assert len(set(added)) > 6


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", VIEWS)
def test_views_of_train_are_images(name: str, channels: int) -> None:
    images = scenes(8, channels, 16)
    views = VIEWS[name]()(nn.Identity(), images, generator(0))
    assert views.shape == images.shape
    assert views.min() >= 0
    assert views.max() <= 1
    assert sum(not torch.equal(view, image) for view, image in zip(views, images, strict=True)) >= 6


@pytest.mark.parametrize(
    ("wrong", "words"), [({"view": "blur"}, "--view blur: unknown"), ({"unlabelled_weight": -1.0}, "-1.0")]
)
def test_wrong_options_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        UnlabelledOptions("more", **wrong)


DIGITS = {f"{place}.png": encoded(digit(place)) for place in range(60)}
LINE = ["--size", "16", "--channels", "1", "--method", "nominal", "--epochs", "2", "--batch", "16", "--device", "cpu"]


@shared
def places(out: Path) -> None:
    """Digits with labels, and more of them without."""
    names = [f"{digit_label(place) % 2}/{place}.png" for place in range(60)]
    write(out / "data", dict(zip(names, DIGITS.values(), strict=True)))
    write(out / "more", {f"{place}.png": encoded(digit(place)) for place in range(60, 100)})
    write(out / "one", {"0.png": DIGITS["0.png"]})
    write(out / "none", {"about.txt": "nothing"})
    (out / "table.csv").write_text("filename\n")


def train(places: Path, out: Path, *flags: str) -> dict[str, Tensor]:
    assert main(["train", "--data", str(places / "data"), *LINE, *flags, "--out", str(out)]) == 0
    return dict(load_file(out / "classifier.safetensors"))


def test_training_with_unlabelled_images(places: Path, tmp_path: Path) -> None:
    plain = train(places, tmp_path / "plain")
    more = ["--unlabelled", str(places / "more")]
    found = train(places, tmp_path / "found", *more)
    assert any(not torch.equal(plain[name], found[name]) for name in plain)
    weightless = train(places, tmp_path / "weightless", *more, "--unlabelled-weight", "0")
    assert any(not torch.equal(weightless[name], found[name]) for name in found)
    metadata = read_tensors(tmp_path / "found" / "classifier.safetensors", "classifier")[1]
    assert metadata["setting"] == {"view": "randaugment", "unlabelled_weight": 1.0, "unlabelled_images": 40}
    assert json.loads((tmp_path / "found" / "config.json").read_text())["unlabelled"]["unlabelled"].endswith("more")


def test_training_of_other_unlabelled_images_does_not_go_on(
    places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more"
    shutil.copytree(places / "more", more)
    line = ["train", "--data", str(places / "data"), *LINE, "--unlabelled", str(more), "--out", str(tmp_path / "out")]
    assert main(line) == 0
    (more / "60.png").unlink()
    assert main([*line, "--resume"]) == 2
    assert "unlabelled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "missing"),
        ("table.csv", "name the folder of its images"),
        ("none", "no images in it"),
        ("one", "1 image; 2 are needed at least"),
    ],
)
def test_no_unlabelled_images_is_one_line(
    name: str, words: str, places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "--data", str(places / "data"), *LINE, "--unlabelled", str(places / name)]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--unlabelled" in error
    assert words in error
    assert not (tmp_path / "out").exists()


def test_test_images_among_the_unlabelled_ones_are_counted(
    places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(places, tmp_path / "more", "--unlabelled", str(places / "more"))
    assert "test images" not in capsys.readouterr().out
    train(places, tmp_path / "same", "--unlabelled", str(places / "data"))
    assert "12 of the 12 test images are in it" in " ".join(capsys.readouterr().out.split())


def test_unlabelled_images_are_cropped_as_those_of_the_latents(tmp_path: Path) -> None:
    wide = {f"{place % 2}/{place}.png": encoded(digit(place).resize((48, 16))) for place in range(20)}
    data, latents = write(tmp_path / "data", wide), str(tmp_path / "latents")
    named = ["--data", str(data), "--size", "16", "--crop", "stretch"]
    training = ["train", "--method", "nominal", "--epochs", "1", "--unlabelled", str(data), "--device", "cpu"]
    assert main(["encode", "--generator", "statistics", *named, "--device", "cpu", "--out", latents]) == 0
    found = []
    for name, flags in (("direct", named), ("pooled", ["--generator", "statistics", "--latents", latents])):
        assert main([*training, *flags, "--out", str(tmp_path / name)]) == 0
        found.append(load_file(tmp_path / name / "classifier.safetensors"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
