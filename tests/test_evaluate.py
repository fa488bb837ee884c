from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers import conv_net
from advmix.commands.evaluate import unlike
from advmix.data import ColoredDigits, DataConfig, ImageSet
from advmix.data.painting import color_grid
from advmix.encoders import Autoencoder
from advmix.latents import Latents, Split
from advmix.metrics import BATCH, WorstCase, accuracy, predict, recolor_worst, share, worst_case
from advmix.mixing import AdvMix
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.methods import SearchOptions
from advmix.training.objectives import Nominal
from advmix.utils.config import to_dict
from advmix.utils.device import make_fabric
from advmix.utils.torch_tools import global_seed
from tiny import assert_same_state, state_of

CPU = torch.device("cpu")
GRID = color_grid(3)


@dataclass(frozen=True, eq=False)
class Trained:
    """Both networks trained for a moment, so that some answers are right and some are wrong."""

    data: ColoredDigits
    classifier: nn.Sequential
    model: Autoencoder
    latents: Latents
    pool: Latents

    def search(self, **settings: object) -> AdvMix:
        chosen: dict[str, object] = {"restarts": 2, "steps": 2, "step_size": 0.1, "radius": None, **settings}
        return AdvMix(self.model.generator, Split.fine(6, 2), **chosen)  # type: ignore[arg-type]

    def worst(
        self, classifier: nn.Module | None = None, count: int = 60, seed: int = 0, **settings: object
    ) -> WorstCase:
        labels = self.data.shuffled.labels[:count]
        return worst_case(
            classifier or self.classifier, self.search(**settings), self.latents[:count], labels, self.pool, seed=seed
        )


@pytest.fixture(scope="module")
def trained() -> Trained:
    data = ColoredDigits(DataConfig(train_images=300, test_images=60, color_std=1.0), seed=1)
    with global_seed(0):
        classifier = conv_net(10, widths=(8, 16))
    options = TrainOptions(epochs=20, batch=50, lr=1e-2)
    Loop("classifier", 120).train(ClassifierTrainee(classifier, Nominal(), data.train, options, 0, make_fabric("cpu")))
    trainee = AutoencoderTrainee(data.train, FitOptions(fit_steps=120, fit_batch=32), 0, make_fabric("cpu"))
    Loop("autoencoder", 120).train(trainee)
    model = trainee.model.eval().requires_grad_(False)
    with torch.no_grad():
        codes = [model.encoder(images.batch(slice(None))[0]) for images in (data.shuffled, data.train)]
    return Trained(data, classifier.train(), model, *codes)


class ByFirstPixel(nn.Module):
    """Class 1 where the first pixel is bright."""

    def forward(self, images: Tensor) -> Tensor:
        score = images[:, 0, 0, 0] - 0.5
        return torch.stack([-score, score], dim=1)


def test_accuracy_is_the_share_of_right_answers() -> None:
    pixels = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    pixels[[0, 3], 0, 0, 0] = 255
    images = ImageSet(pixels, torch.tensor([1, 0, 1, 1]), ("dark", "bright"))
    assert accuracy(ByFirstPixel(), images, CPU) == 0.75
    assert share(torch.tensor([True, False, False])) == pytest.approx(1 / 3)


def test_accuracy_equals_a_count_one_by_one(trained: Trained) -> None:
    right = 0
    network = trained.classifier.eval()
    for index in range(60):
        image, label = trained.data.shuffled.batch(torch.tensor([index]))
        with torch.no_grad():
            right += int(network(image).argmax(dim=1) == label)
    trained.classifier.train()
    assert 0 < right < 60
    assert accuracy(trained.classifier, trained.data.shuffled, CPU) == right / 60


def test_predictions_cover_more_than_one_batch() -> None:
    pixels = torch.zeros(2 * BATCH + 3, 3, 1, 1, dtype=torch.uint8)
    pixels[-1] = 255
    images = ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.long), ("dark", "bright"))
    found = predict(ByFirstPixel(), images, CPU)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(pixels), dtype=torch.float64))
    assert found.argmax(dim=1).nonzero().flatten().tolist() == [2 * BATCH + 2]


def test_worst_recolouring_equals_brute_force(trained: Trained) -> None:
    digits, network = trained.data.gray_test, trained.classifier
    found = recolor_worst(network, digits, trained.data.look, GRID, CPU)
    network.eval()
    every = []
    with torch.no_grad():
        for color in GRID:
            images = trained.data.look.paint(digits.pixels.float() / 255, color.expand(60, 3))
            every.append(network(images).argmax(dim=1) == digits.labels)
    network.train()
    assert torch.equal(found, torch.stack(every).all(dim=0))
    assert 0 < int(found.sum()) < 60


def test_worst_recolouring_goes_on_when_no_digit_is_left(trained: Trained) -> None:
    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert len(images), "asked about nothing"
            return -nn.functional.one_hot(trained.data.gray_test.labels[: len(images)], 10).float()

    assert not recolor_worst(Wrong(), trained.data.gray_test, trained.data.look, GRID, CPU).any()


def test_worst_case_is_never_right_where_the_reconstruction_is_wrong(trained: Trained) -> None:
    found = trained.worst()
    assert not found.right[~found.right_reconstruction].any()
    assert 0 < int(found.right.sum()) < int(found.right_reconstruction.sum()) < 60


def test_right_mixes_do_not_make_up_for_a_wrong_reconstruction(trained: Trained) -> None:
    found = trained.worst(restarts=1, steps=0)
    right_mix = found.probabilities.argmax(dim=1) == trained.data.shuffled.labels
    assert (right_mix & ~found.right_reconstruction).any()
    assert torch.equal(found.right, right_mix & found.right_reconstruction)


def test_wrong_candidate_counts_even_if_another_has_the_higher_loss(trained: Trained) -> None:
    class Torn(nn.Module):
        """Bright images: right with 0.35. Dark ones: wrong with 0.48, which is the lower loss."""

        def forward(self, images: Tensor) -> Tensor:
            bright, dark = torch.tensor([0.35, 0.33, 0.32]), torch.tensor([0.48, 0.51, 0.01])
            return torch.where(images.mean(dim=(1, 2, 3))[:, None] > 0.15, bright, dark).log()

    labels = torch.zeros(60, dtype=torch.long)
    search = trained.search(restarts=4, steps=0)
    found = worst_case(Torn(), search, trained.latents, labels, trained.pool, seed=0)
    worst_is_right = found.probabilities.argmax(dim=1) == 0
    assert (worst_is_right & found.right_reconstruction & ~found.right).any()
    assert (worst_is_right & found.right_reconstruction & found.right).any()


def test_reconstruction_is_judged_without_mixing(trained: Trained) -> None:
    with torch.no_grad():
        images = trained.model.generator(trained.latents)
        expected = trained.classifier.eval()(images).argmax(dim=1) == trained.data.shuffled.labels
    trained.classifier.train()
    assert torch.equal(trained.worst().right_reconstruction, expected)


def test_one_wrong_candidate_is_enough(trained: Trained) -> None:
    found = trained.worst()
    wrong = found.probabilities.argmax(dim=1) != trained.data.shuffled.labels
    assert not found.right[wrong].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_stopping_early_changes_no_verdict(trained: Trained, seed: int) -> None:
    full, early = trained.worst(seed=seed), trained.worst(seed=seed, stop_early=True)
    assert torch.equal(full.right, early.right)
    assert torch.equal(full.right_reconstruction, early.right_reconstruction)


def test_more_restarts_and_steps_are_at_least_as_hard(trained: Trained) -> None:
    weak, strong = trained.worst(steps=0), trained.worst(steps=5)
    assert not (strong.right & ~weak.right).any()
    assert share(strong.right) < share(weak.right)


def test_worst_images_come_with_their_probabilities(trained: Trained) -> None:
    found = trained.worst()
    assert found.images.shape == (60, 3, 16, 16)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    with torch.no_grad():
        expected = trained.classifier.eval()(found.images).double().softmax(dim=1)
    trained.classifier.train()
    torch.testing.assert_close(found.probabilities, expected, atol=1e-5, rtol=1e-5)


def test_first_images_do_not_depend_on_how_many_follow(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advmix.metrics.BATCH", 20)
    some, every = trained.worst(count=40), trained.worst()
    assert torch.equal(some.right, every.right[:40])
    torch.testing.assert_close(some.images, every.images[:40])


def test_classifiers_are_held_against_the_same_donors(trained: Trained) -> None:
    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :10] * 0

    first, second = (trained.worst(network, steps=0, restarts=1) for network in (Blind(), trained.classifier))
    torch.testing.assert_close(first.images, second.images)
    assert not torch.equal(first.images, trained.worst(Blind(), steps=0, restarts=1, seed=1).images)


def test_classifier_is_left_as_it_was(trained: Trained) -> None:
    before = state_of(trained.classifier)
    trained.worst()
    recolor_worst(trained.classifier, trained.data.gray_test, trained.data.look, GRID, CPU)
    accuracy(trained.classifier, trained.data.shuffled, CPU)
    assert_same_state(trained.classifier.state_dict(), before)
    assert all(part.training for part in trained.classifier.modules())


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"radius": 0.1, "steps": 7}, []),
        ({"clean_weight": 0.5, "perp": [-2, -1]}, []),
        ({"clean_weight": 0.5, "perp": [0, 1]}, ["perp"]),
        ({**to_dict(SearchOptions()), "steps": 9}, []),
        ({**to_dict(SearchOptions()), "radius": None, "step": "gradient"}, ["radius", "step"]),
    ],
)
def test_a_search_unlike_the_training_s_is_remarked_on(setting: dict[str, Any], expected: list[str]) -> None:
    assert unlike(setting, SearchOptions(steps=5)) == expected
