"""One search for all smaller ones, against the literal way."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from advmix.data.images import slices
from advmix.doctor import measure as nested
from advmix.doctor.measure import nested_search
from advmix.encoders.autoencoder import Autoencoder
from advmix.latents import Latents
from advmix.metrics import evaluate_batch, evaluate_latents, search_loss
from advmix.mixing import FINEST, AdvMix, cross_entropy
from tiny import VECTOR, assert_same_state, make_classifier, make_generator, make_latents, no_gradients, state_of

Parts = tuple[nn.Module, Autoencoder, Latents, Tensor, Latents]


@pytest.fixture
def parts() -> Parts:
    """Untrained networks in float64 and seeded codes; most answers are right before the search, few after it."""
    model = Autoencoder(VECTOR).double()
    model.generator = make_generator()
    classifier, latents, pool = make_classifier().eval(), make_latents(VECTOR, 30, seed=1), make_latents(VECTOR, 40)
    with torch.no_grad():
        labels = classifier(model.generator(latents)).argmax(dim=1)
    labels[:3] = (labels[:3] + 1) % 3
    return classifier, model.requires_grad_(False).eval(), latents, labels, pool


def worst_images(classifier: nn.Module, mixer: AdvMix, latents: Latents, labels: Tensor, pool: Latents) -> Tensor:
    """The candidates with the highest loss, in batches of twelve images."""
    loss = search_loss(classifier, mixer.generator, latents)
    found = [
        evaluate_batch(classifier, mixer, latents[part], labels[part], pool, seed=2, start=part.start, loss=loss)[1]
        for part in slices(len(latents), 12)
    ]
    return torch.cat([mix.images for mix in found])


def test_one_search_holds_all_smaller_ones(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The literal way: every smaller search anew; here with donors drawn for twelve images, few of them at once."""
    classifier, model, latents, labels, pool = parts
    monkeypatch.setattr(nested, "DRAWN_TOGETHER", 12)
    monkeypatch.setattr("advmix.metrics.DRAWN_TOGETHER", 12)
    monkeypatch.setattr("advmix.utils.machine.MACHINE.memory", 10**6)
    options = replace(FINEST, restarts=5, steps=3, step_size=0.3, radius=0.5)
    found = nested_search(classifier, model, options, latents, labels, pool, seed=2)
    shares = set()
    for restarts, steps in product((1, 2, 5), (0, 1, 3)):
        mixer = replace(options, restarts=restarts, steps=steps).mixer(model.generator)
        expected = evaluate_latents(classifier, mixer, latents, labels, pool, seed=2)
        assert torch.equal(found.right(restarts, steps), expected.right_worst_case)
        assert torch.equal(found.plain, expected.right_start)
        images = worst_images(classifier, mixer, latents, labels, pool)
        losses = cross_entropy(classifier(images), labels).detach()
        assert (found.loss(restarts, steps) >= losses - 1e-6).all(), "the worst by its own loss is the largest"
        assert float(found.loss(restarts, steps).mean()) == pytest.approx(float(losses.mean()), rel=0.05)
        shares.add(float(expected.right_worst_case.double().mean()))
    torch.testing.assert_close(found.images, images)
    assert len(shares) > 3


def test_the_nested_search_leaves_no_trace(parts: Parts) -> None:
    classifier, model, latents, labels, pool = parts
    classifier.train()
    before = state_of(classifier)
    nested_search(classifier, model, FINEST, latents, labels, pool, seed=0)
    assert_same_state(classifier.state_dict(), before)
    assert no_gradients(classifier, model)
    assert classifier.training
    classifier.eval()
