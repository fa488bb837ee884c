from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net
from advmix.commands.evaluate import differing_settings
from advmix.data.colored import ColoredDigits
from advmix.data.digits import color_grid
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder
from advmix.latents import Latents, Split
from advmix.metrics import (
    DRAWN_TOGETHER,
    Evaluation,
    accuracy,
    evaluate_batch,
    evaluate_latents,
    predict,
    recolor_worst,
    search_loss,
    share,
)
from advmix.mixing import FINEST, AdvMix, Mix, RandMix
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Nominal
from advmix.utils.config import to_dict
from advmix.utils.device import make_fabric
from advmix.utils.torch_tools import eval_mode, generator, global_seed
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
    ) -> Evaluation:
        labels = self.data.shuffled.labels[:count]
        network, search = classifier or self.classifier, self.search(**settings)
        return evaluate_latents(network, search, self.latents[:count], labels, self.pool, seed=seed)

    def mix(self, classifier: nn.Module | None = None, count: int = 60, seed: int = 0, **settings: object) -> Mix:
        """The candidates with the highest loss."""
        network, search, latents = classifier or self.classifier, self.search(**settings), self.latents[:count]
        loss, labels = search_loss(network, search.generator, latents), self.data.shuffled.labels[:count]
        return evaluate_batch(network, search, latents, labels, self.pool, seed=seed, start=0, loss=loss)[1]

    def seen(self, mix: Mix, classifier: nn.Module | None = None) -> Tensor:
        with torch.no_grad(), eval_mode(classifier or self.classifier) as (model,):
            answers: Tensor = model(mix.images).argmax(dim=1)
        return answers


@pytest.fixture(scope="module")
def trained() -> Trained:
    data = ColoredDigits(DataConfig(train_images=300, test_images=60, color_std=1.0), seed=1)
    with global_seed(0):
        classifier = conv_net(10, widths=(8, 16))
    options = TrainOptions(epochs=20, batch=50, lr=1e-2)
    Loop("classifier", 120).train(ClassifierTrainee(classifier, Nominal(), data.train, options, 0, make_fabric("cpu")))
    trainee = AutoencoderTrainee(data.train, FitOptions(fit_steps=120, fit_batch=16), 0, make_fabric("cpu"))
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
    pixels = torch.zeros(2 * DRAWN_TOGETHER + 3, 3, 1, 1, dtype=torch.uint8)
    pixels[-1] = 255
    images = ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.long), ("dark", "bright"))
    found = predict(ByFirstPixel(), images, CPU)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(pixels), dtype=torch.float64))
    assert found.argmax(dim=1).nonzero().flatten().tolist() == [2 * DRAWN_TOGETHER + 2]


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
    assert not found.right_worst_case[~found.right_start].any()
    assert 0 < int(found.right_worst_case.sum()) < int(found.right_start.sum()) < 60


def test_right_mixes_do_not_make_up_for_a_wrong_reconstruction(trained: Trained) -> None:
    found = trained.worst(restarts=1, steps=0)
    right_mix = trained.seen(trained.mix(restarts=1, steps=0)) == trained.data.shuffled.labels
    assert (right_mix & ~found.right_start).any()
    assert torch.equal(found.right_worst_case, right_mix & found.right_start)


def test_wrong_candidate_counts_even_if_another_has_the_higher_loss(trained: Trained) -> None:
    class Torn(nn.Module):
        """Bright images: right with 0.35. Dark ones: wrong with 0.48, which is the lower loss."""

        def forward(self, images: Tensor) -> Tensor:
            bright, dark = torch.tensor([0.35, 0.33, 0.32]), torch.tensor([0.48, 0.51, 0.01])
            return torch.where(images.mean(dim=(1, 2, 3))[:, None] > 0.15, bright, dark).log()

    labels = torch.zeros(60, dtype=torch.long)
    search = trained.search(restarts=4, steps=0)
    loss = search_loss(Torn(), search.generator, trained.latents)
    found, mix, _ = evaluate_batch(Torn(), search, trained.latents, labels, trained.pool, seed=0, start=0, loss=loss)
    worst_is_right = trained.seen(mix, Torn()) == 0
    assert (worst_is_right & found.right_start & ~found.right_worst_case).any()
    assert (worst_is_right & found.right_start & found.right_worst_case).any()


def test_reconstruction_is_judged_without_mixing(trained: Trained) -> None:
    with torch.no_grad():
        images = trained.model.generator(trained.latents)
        expected = trained.classifier.eval()(images).argmax(dim=1) == trained.data.shuffled.labels
    trained.classifier.train()
    assert torch.equal(trained.worst().right_start, expected)


def test_one_wrong_candidate_is_enough(trained: Trained) -> None:
    found = trained.worst()
    wrong = trained.seen(trained.mix()) != trained.data.shuffled.labels
    assert not found.right_worst_case[wrong].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_stopping_early_changes_no_verdict(trained: Trained, seed: int) -> None:
    full, early = trained.worst(seed=seed), trained.worst(seed=seed, stop_early=True)
    assert torch.equal(full.right_worst_case, early.right_worst_case)
    assert torch.equal(full.right_start, early.right_start)


def test_more_restarts_and_steps_are_at_least_as_hard(trained: Trained) -> None:
    weak, strong = trained.worst(steps=0), trained.worst(steps=5)
    assert not (strong.right_worst_case & ~weak.right_worst_case).any()
    assert share(strong.right_worst_case) < share(weak.right_worst_case)


def test_random_mixes_are_those_of_randmix_for_every_classifier(trained: Trained) -> None:
    rng, labels = generator(0, "random mix", 0), trained.data.shuffled.labels
    mixer = RandMix(trained.model.generator, Split.fine(6, 2))
    mix = mixer(None, trained.latents, labels, trained.pool, rng=rng)
    assert torch.equal(trained.worst().right_random_mix, trained.seen(mix) == labels)
    assert 0 < share(trained.worst().right_random_mix) < 1


def test_first_images_do_not_depend_on_how_many_follow(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advmix.metrics.DRAWN_TOGETHER", 20)
    some, every = trained.worst(count=40), trained.worst()
    assert torch.equal(some.right_worst_case, every.right_worst_case[:40])
    assert torch.equal(some.right_random_mix, every.right_random_mix[:40])


def test_classifiers_are_held_against_the_same_donors(trained: Trained) -> None:
    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :10] * 0

    first, second = (trained.mix(network, steps=0, restarts=1) for network in (Blind(), trained.classifier))
    torch.testing.assert_close(first.images, second.images)
    assert not torch.equal(first.images, trained.mix(Blind(), steps=0, restarts=1, seed=1).images)


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
        ({**to_dict(FINEST), "steps": 9}, []),
        ({**to_dict(FINEST), "radius": None, "step": "gradient"}, ["radius", "step"]),
    ],
)
def test_a_search_unlike_the_training_s_is_remarked_on(setting: dict[str, Any], expected: list[str]) -> None:
    assert differing_settings(setting, replace(FINEST, steps=5)) == expected
