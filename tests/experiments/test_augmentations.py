"""Augmentations of real digits, each held against what it claims to do; the study from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from running import main
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.colored import ColoredDigits
from advmix.training.autoencode import FitOptions
from advmix.training.classify import TrainOptions
from advmix.training.objectives import pgd
from advmix.utils.torch_tools import generator
from experiments.augmentations.figures import Augmented, augmentations_page
from experiments.augmentations.study import AugmentationsConfig, Scene, augment, make_scene, measure
from experiments.cells import Cell, make_cell

SMALL = ["--data", "digits", "--train-images", "200", "--test-images", "60", "--fit-steps", "40", "--epochs", "3"]
SMALL += ["--device", "cpu", "--images", "3", "--measured", "40"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AugmentationsConfig:
    root = tmp_path_factory.mktemp("augmentations")
    return AugmentationsConfig(
        data="digits",
        train_images=200,
        test_images=60,
        fit=FitOptions(fit_steps=40),
        train=TrainOptions(epochs=3),
        device="cpu",
        images=3,
        measured=40,
        seeds=(0, 1),
        cells=root / "cells",
        out=root / "run",
    )


@pytest.fixture(scope="module")
def cell(config: AugmentationsConfig) -> Cell:
    return make_cell(config.cells, config.data_config(), 0, config)


@pytest.fixture(scope="module")
def data(cell: Cell) -> ColoredDigits:
    return cell.check()


@pytest.fixture(scope="module")
def scene(config: AugmentationsConfig, cell: Cell, data: ColoredDigits) -> Scene:
    return make_scene(config, cell, data, CPU)


@pytest.fixture(scope="module")
def augmented(scene: Scene) -> dict[str, Tensor]:
    return augment(scene)


def test_the_scene_is_the_first_test_digits_painted_as_in_training(scene: Scene, data: ColoredDigits) -> None:
    images, labels = data.biased.batch(slice(0, 40))
    assert torch.equal(scene.images, images)
    assert torch.equal(scene.labels, labels)


def test_every_augmentation_gives_as_many_images_and_changes_them(scene: Scene, augmented: dict[str, Tensor]) -> None:
    assert set(augmented) >= {"mixup", "cutmix", "erasing", "augmix", "linf", "randmix", "advmix"}
    for name, images in augmented.items():
        assert images.shape == scene.images.shape, name
        assert images.dtype == scene.images.dtype, name
        assert 0 <= float(images.amin()) <= float(images.amax()) <= 1, name
        changed = (images - scene.images).abs().amax(dim=(1, 2, 3)) > 1e-3
        assert float(changed.double().mean()) > 0.5, name


def test_the_same_seed_gives_the_same_images_and_another_one_does_not(
    scene: Scene, augmented: dict[str, Tensor]
) -> None:
    again = augment(scene)
    other = augment(Scene(**{**vars(scene), "seed": 1}))
    for name, images in augmented.items():
        assert torch.equal(images, again[name]), name
        if name != "reconstruction":
            assert not torch.equal(images, other[name]), name


def test_mixup_is_a_weighted_average_with_a_weight_of_its_own(scene: Scene, augmented: dict[str, Tensor]) -> None:
    """The literal search: for each image, the partner and weight that explain it."""
    weights = []
    for index, mixed in enumerate(augmented["mixup"]):
        own, best = scene.images[index], (1.0, 0.0)
        for partner in scene.images[torch.arange(40) != index]:
            gap = own - partner
            weight = float(((mixed - partner) * gap).sum() / gap.square().sum())
            error = float((weight * own + (1 - weight) * partner - mixed).abs().max())
            best = min(best, (error, weight))
        assert best[0] < 1e-5
        weights.append(best[1])
    assert 0 <= min(weights) < 0.3
    assert 0.7 < max(weights) <= 1


def test_cutmix_takes_one_rectangle_from_one_other_image(scene: Scene, augmented: dict[str, Tensor]) -> None:
    for index, mixed in enumerate(augmented["cutmix"]):
        changed = (mixed != scene.images[index]).any(dim=0)
        if not changed.any():
            continue
        rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        box = (..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        assert any(torch.equal(mixed[box], other[box]) for other in scene.images)


def test_erasing_sets_pixels_to_zero_and_leaves_the_rest(scene: Scene, augmented: dict[str, Tensor]) -> None:
    kept = augmented["erasing"] == scene.images
    assert bool((kept | (augmented["erasing"] == 0)).all())


def test_linf_stays_in_its_ball_and_hurts_the_attacked_classifier(scene: Scene, augmented: dict[str, Tensor]) -> None:
    radius = scene.baseline.linf_radius
    assert float((augmented["linf"] - scene.images).abs().max()) <= radius + 1e-6
    with torch.no_grad():
        clean, found = (scene.attacked(images) for images in (scene.images, augmented["linf"]))
    assert F.cross_entropy(found, scene.labels) > F.cross_entropy(clean, scene.labels) + 0.1


def test_linf_attacks_the_named_classifier(scene: Scene, augmented: dict[str, Tensor]) -> None:
    rng = generator(scene.seed, "augmentations", "linf", 0)
    expected = pgd(scene.attacked, scene.images, scene.labels, radius=0.1, steps=7, rng=rng)
    assert torch.equal(augmented["linf"], expected)


def test_randmix_decodes_each_image_with_one_training_image_of_the_pool(
    scene: Scene, augmented: dict[str, Tensor]
) -> None:
    """The literal search: some member of the pool explains each mix."""
    model, pool = scene.mixable.model, scene.mixable.pool
    split = scene.search.split(model.generator.layers)
    with torch.no_grad():
        latents = model.encoder(scene.images)
        for index in range(5):
            own = torch.full((len(pool),), index)
            tried = model.generator(split.combine(latents[own], pool))
            assert float((tried - augmented["randmix"][index]).abs().amax(dim=(1, 2, 3)).min()) < 1e-4


def test_advmix_starts_where_randmix_ends_and_is_never_milder(scene: Scene, augmented: dict[str, Tensor]) -> None:
    with torch.no_grad():
        random, found = (
            F.cross_entropy(scene.attacked(augmented[name]), scene.labels, reduction="none")
            for name in ("randmix", "advmix")
        )
    assert bool((found >= random - 1e-4).all())
    assert float((found - random).mean()) > 0.05


def test_recolouring_changes_nothing_but_the_colour(scene: Scene, augmented: dict[str, Tensor]) -> None:
    gray = scene.gray.float() / 255
    color = augmented["recolor"].amax(dim=(2, 3), keepdim=True) / gray.amax(dim=(2, 3), keepdim=True)
    assert torch.allclose(augmented["recolor"], gray * color, atol=1e-5)


class BrightEnough(nn.Module):
    """Says 1 where the mean of an image is above a number."""

    def forward(self, images: Tensor) -> Tensor:
        margin = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-margin, margin], dim=1)


def test_measures_are_what_they_say(scene: Scene) -> None:
    """Four images, of which the reference knows three; the augmentation takes one of these three from it."""
    values = torch.tensor([0.9, 0.8, 0.2, 0.1])
    images = values[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    labels = torch.tensor([1, 1, 0, 1])
    small = Scene(**{**vars(scene), "images": images, "labels": labels, "attacked": BrightEnough()})
    found = measure(small, {"darker": (images - 0.35).clamp(0, 1)}, BrightEnough())
    assert found["reference_right"] == found["attacked_right"] == 0.75
    darker = found["augmentations"]["darker"]
    assert darker["label_kept"] == pytest.approx(2 / 3)
    assert darker["attacked_right"] == 0.5
    assert darker["pixel_change"] == pytest.approx((0.35 + 0.35 + 0.2 + 0.1) / 4)


def test_the_page_shows_every_image_and_every_difference(scene: Scene, augmented: dict[str, Tensor]) -> None:
    rows = [Augmented(name, images[:4], 0.1, 0.9, 0.5) for name, images in augmented.items()]
    page = augmentations_page(scene.images[:4], ["3"] * 4, rows, "nominal", 1.0)
    assert isinstance(page, Figure)
    assert sum(len(axes.images) for axes in page.axes) == 4 + 2 * 4 * len(rows)
    text = " ".join(item.get_text() for item in page.texts)
    assert all(word in text for word in ("CutMix", "AugMix", "Random erasing", "90.0", "Nominal"))


def results_of(out: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((out / "results.json").read_text())
    return parsed


def test_the_study_goes_on_with_the_cell_it_finds(
    config: AugmentationsConfig, scene: Scene, augmented: dict[str, Tensor]
) -> None:
    fitted = config.cells / "digits-200-std0.1-seed0" / "fit" / "generator.safetensors"
    before = fitted.stat().st_mtime_ns
    folders = ["--cells", str(config.cells), "--out", str(config.out)]
    assert main(["study", "augmentations", *SMALL, "--seeds", "0", "1", *folders]) == 0
    assert fitted.stat().st_mtime_ns == before
    found, other = results_of(config.out)["runs"]
    assert (found["seed"], other["seed"]) == (0, 1)
    assert found["generator"] != other["generator"]
    assert found["augmentations"] != other["augmentations"]
    change = (augmented["advmix"] - scene.images).abs().double().mean()
    assert found["augmentations"]["advmix"]["pixel_change"] == pytest.approx(float(change), abs=1e-4)
    assert found["augmentations"].keys() == augmented.keys()
    assert found["measured"] == 40
    assert (config.out / "figures" / "augmentations.png").is_file()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--attacked", "nobody"], "nobody"),
        (["--images", "0"], "--images 0"),
        (["--measured", "1"], "--measured 1"),
        (["--data", "letters"], "--data letters"),
        (["--color-std", "-1"], "--color-std -1"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "augmentations", *flags, "--out", str(tmp_path / "bad")]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
