"""Searches where the classifier's gradient or its answer says nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advmix.latents import Split
from advmix.mixing import AdvMix, Mix, RandMix, calibrated, calibrated_cross_entropy, cross_entropy
from advmix.utils.torch_tools import answers, eval_mode, mistakes, probabilities
from advmix.utils.torch_tools import generator as seeded
from tiny import VECTOR, make_classifier, make_generator, make_latents

SPLIT = Split.fine(6, 2)
GENERATOR = make_generator()
LATENTS, POOL = make_latents(VECTOR, 12, seed=1), make_latents(VECTOR, 30, seed=2)
LABELS = torch.arange(12) % 3
SEARCH = AdvMix(GENERATOR, SPLIT, restarts=3, steps=3)


class Scaled(nn.Module):
    """A network whose logits are multiplied by a factor."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.network(images)
        return logits


class Rounded(nn.Module):
    """A network behind eight bits: there is a gradient, and it is zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.round(images * 255) / 255)
        return logits


class Unsure(nn.Module):
    """A network that has no answer to bright images."""

    def __init__(self, network: nn.Module, above: float) -> None:
        super().__init__()
        self.network, self.above = network, above

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(dim=(1, 2, 3), keepdim=False)[:, None] > self.above
        logits: Tensor = self.network(images).masked_fill(bright, torch.nan)
        return logits


def found_by(network: nn.Module, search: AdvMix = SEARCH, trace: bool = False) -> Mix:
    loss = calibrated(network, GENERATOR(LATENTS))
    return search(network, LATENTS, LABELS, POOL, loss=loss, rng=seeded(0), trace=trace)


def flags(found: Tensor | None) -> Tensor:
    assert found is not None
    return found


@pytest.mark.parametrize("factor", [30.0, 1e4, 1e-3])
def test_the_scale_of_the_logits_changes_nothing(factor: float) -> None:
    plain, scaled = found_by(make_classifier()), found_by(Scaled(make_classifier(), factor))
    assert torch.equal(flags(plain.fooled), flags(scaled.fooled))
    assert torch.equal(plain.donors, scaled.donors)
    torch.testing.assert_close(plain.images, scaled.images)
    assert not flags(scaled.vanished).any()


def test_a_sure_classifier_is_climbed_where_its_own_cross_entropy_is_flat() -> None:
    sure = Scaled(make_classifier(), 1e6)
    with torch.no_grad(), eval_mode(sure):
        right = answers(sure(GENERATOR(LATENTS)))
    flat = SEARCH(sure, LATENTS, right, POOL, loss=cross_entropy, rng=seeded(0))
    assert flags(flat.vanished).any()
    climbed = SEARCH(sure, LATENTS, right, POOL, loss=calibrated(sure, GENERATOR(LATENTS)), rng=seeded(0))
    assert not flags(climbed.vanished).any()


def test_logits_that_say_nothing_leave_cross_entropy_as_it_is() -> None:
    logits, labels = torch.randn(5, 3, generator=seeded(1)), torch.tensor([0, 1, 2, 0, 1])
    for sample in (torch.zeros(4, 3), torch.full((4, 3), torch.nan)):
        assert torch.equal(calibrated_cross_entropy(sample)(logits, labels), cross_entropy(logits, labels))
    known = torch.cat([logits, torch.full((2, 3), torch.nan)])
    assert torch.equal(
        calibrated_cross_entropy(known)(logits, labels), calibrated_cross_entropy(logits)(logits, labels)
    )


def test_a_gradient_of_zero_is_none_and_other_donors_are_tried() -> None:
    mix = found_by(Rounded(make_classifier()), trace=True)
    assert flags(mix.vanished).all()
    assert mix.trace is not None
    perp, pool = mix.trace.perp, SPLIT.perp_of(POOL)
    lent = (perp[..., None, :] == pool).all(dim=-1)
    assert lent.any(dim=-1).all(), "every candidate is what another image has"
    tried = lent.float().argmax(dim=-1).flatten(0, 1)
    assert all(len(set(column.tolist())) > SEARCH.search.restarts for column in tried.T), "and not the same ones again"
    torch.testing.assert_close(SPLIT.perp_of(mix.latents), pool[mix.donors])


def test_an_example_does_not_get_its_own_latents_in_place_of_a_step() -> None:
    own = make_latents(VECTOR, 3, seed=1)
    mix = AdvMix(GENERATOR, SPLIT, restarts=2, steps=8)(
        Rounded(make_classifier()), own, LABELS[:3], own, rng=seeded(0), exclude=torch.arange(3), trace=True
    )
    assert mix.trace is not None
    assert not (mix.trace.perp == SPLIT.perp_of(own)).all(dim=-1).any()


def test_only_the_examples_without_a_gradient_get_other_donors() -> None:
    class Half(Scaled):
        """The first half of the batch is rounded."""

        def forward(self, images: Tensor) -> Tensor:
            rows = (torch.arange(len(images)) % len(LABELS) < len(LABELS) // 2)[:, None, None, None]
            return super().forward(torch.where(rows, torch.round(images * 255) / 255, images))

    plain, half = found_by(make_classifier()), found_by(Half(make_classifier(), 1.0))
    assert flags(half.vanished).tolist() == [True] * 6 + [False] * 6
    torch.testing.assert_close(half.images[6:], plain.images[6:])


@pytest.mark.parametrize("stop_early", [True, False])
@pytest.mark.parametrize("loss", [calibrated_cross_entropy(torch.randn(9, 3, generator=seeded(0))), cross_entropy])
def test_what_is_no_number_is_neither_right_nor_a_flip(stop_early: bool, loss: object) -> None:
    network = make_classifier()
    plain = RandMix(GENERATOR, SPLIT)(network, LATENTS, LABELS, POOL, rng=seeded(0)).images
    brightness = float(plain.mean(dim=(1, 2, 3)).median())
    search = AdvMix(GENERATOR, SPLIT, restarts=3, steps=2, stop_early=stop_early)
    mix = search(Unsure(network, brightness), LATENTS, LABELS, POOL, rng=seeded(0), loss=loss)  # type: ignore[arg-type]
    assert flags(mix.unanswered).any()
    assert mix.losses is not None
    assert not mix.losses.isnan().any()
    bright = mix.images.mean(dim=(1, 2, 3)) > brightness
    assert (mix.losses[bright] == -torch.inf).all(), "chosen only where nothing has an answer"
    silent = search(Unsure(network, -1.0), LATENTS, LABELS, POOL, rng=seeded(0))
    assert flags(silent.unanswered).all()
    assert not flags(silent.fooled).any()


def test_answers_and_mistakes() -> None:
    nan, inf = torch.nan, torch.inf
    logits = torch.tensor([[0, 1.0], [nan, 0], [inf, 0], [-inf, 0], [-inf, -inf], [nan, nan]])
    assert answers(logits).tolist() == [1, -1, -1, 1, -1, -1]
    assert (
        mistakes(answers(logits), torch.zeros(6, dtype=torch.long)).tolist() == [True, False, False, True] + [False] * 2
    )
    assert answers(logits.softmax(dim=1)).tolist() == [1, -1, -1, 1, -1, -1]


@pytest.mark.parametrize("factor", [1e-8, 1e-3, 1.0, 30.0, 1e8])
def test_the_scale_of_the_logits_changes_no_answer(factor: float) -> None:
    """In float32 the probabilities of logits of 1e-8 are all the same, and the first class is their answer."""
    logits = torch.randn(200, 10, generator=seeded(0))
    assert torch.equal(answers(probabilities(factor * logits)), answers(logits))
