from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, Mix, RandMix, Search, ascend, draw_donors, project
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded
from tiny import (
    SPATIAL,
    VECTOR,
    assert_same_state,
    make_classifier,
    make_generator,
    make_latents,
    no_gradients,
    state_of,
)

NUMBERS = partial(st.floats, allow_subnormal=False)
SPLIT = Split.fine(6, 2)
GENERATOR = make_generator()
LATENTS, POOL = make_latents(VECTOR, 5, seed=1), make_latents(VECTOR, 8, seed=2)
LABELS = torch.tensor([0, 1, 2, 0, 1])


def losses_of(mix: Mix) -> Tensor:
    assert mix.losses is not None
    return mix.losses


@given(pool=st.integers(2, 9), restarts=st.integers(1, 4), seed=st.integers(0, 2**32), data=st.data())
def test_own_latent_is_never_drawn(pool: int, restarts: int, seed: int, data: st.DataObject) -> None:
    own = torch.tensor(data.draw(st.lists(st.integers(0, pool - 1), min_size=1, max_size=6)))
    donors = draw_donors((restarts, len(own)), pool, own, seeded(seed))
    assert donors.shape == (restarts, len(own))
    assert (donors != own).all()
    assert ((donors >= 0) & (donors < pool)).all()


def test_every_other_latent_is_drawn_equally_often() -> None:
    donors = draw_donors((1, 8000), 5, torch.full((8000,), 2), seeded(0))
    counts = donors.flatten().bincount(minlength=5)
    assert counts[2] == 0
    assert (counts[[0, 1, 3, 4]] - 2000).abs().max() < 200


def test_without_exclude_the_whole_pool_is_drawn() -> None:
    assert set(draw_donors((1, 100), 3, None, seeded(0)).flatten().tolist()) == {0, 1, 2}


def test_donors_follow_from_the_random_generator() -> None:
    first, again, other = (draw_donors((2, 9), 50, None, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pool_without_another_latent_is_refused() -> None:
    with pytest.raises(ValueError, match="another example"):
        draw_donors((1, 1), 1, torch.tensor([0]), None)


@pytest.mark.parametrize("stop_early", [True, False])
def test_mixing_a_batch_equals_mixing_each_alone(monkeypatch: pytest.MonkeyPatch, stop_early: bool) -> None:
    donors = draw_donors((3, 5), len(POOL), None, seeded(0))
    search, classifier = AdvMix(GENERATOR, SPLIT, restarts=3, steps=3, stop_early=stop_early), make_classifier()
    monkeypatch.setattr("advmix.mixing.draw_donors", lambda *_: donors)
    whole = search(classifier, LATENTS, LABELS, POOL)
    for one in range(5):
        monkeypatch.setattr("advmix.mixing.draw_donors", lambda *_, one=one: donors[:, one : one + 1])
        alone = search(classifier, LATENTS[one : one + 1], LABELS[one : one + 1], POOL)
        torch.testing.assert_close(alone.images[0], whole.images[one], rtol=0, atol=1e-10)
        assert alone.donors[0] == whole.donors[one]
    kept = (donors == whole.donors).long().argmax(dim=0)
    assert len(set(kept.tolist())) > 1


def test_each_example_keeps_its_own_worst_candidate() -> None:
    mix = AdvMix(GENERATOR, SPLIT, restarts=3, steps=4)(
        make_classifier(), LATENTS, LABELS, POOL, rng=seeded(0), trace=True
    )
    assert mix.trace is not None
    highest = mix.trace.losses.flatten(0, 1).max(dim=0)
    assert torch.equal(losses_of(mix), highest.values)
    assert len(set(highest.indices.tolist())) > 1
    perps = mix.trace.perp.flatten(0, 1)[highest.indices, torch.arange(5)]
    assert torch.equal(SPLIT.perp_of(mix.latents), perps)


def test_trace_holds_every_start_and_step() -> None:
    mix = AdvMix(GENERATOR, SPLIT, restarts=3, steps=2)(
        make_classifier(), LATENTS, LABELS, POOL, rng=seeded(4), trace=True
    )
    assert mix.trace is not None
    assert mix.trace.perp.shape == (3, 3, 5, 8)
    assert mix.trace.losses.shape == (3, 3, 5)
    donors = draw_donors((3, 5), len(POOL), None, seeded(4))
    assert torch.equal(mix.trace.perp[0].flatten(0, 1), SPLIT.perp_of(POOL[donors.flatten()]))


def test_a_candidate_that_fooled_is_remembered() -> None:
    """Downhill: the classifier gets surer of the right answer with every step, so only early candidates fool it."""

    def sureness(logits: Tensor, labels: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(logits, labels, reduction="none")

    classifier, search = make_classifier(), AdvMix(GENERATOR, SPLIT, restarts=2, steps=4, radius=None)
    mix = search(classifier, LATENTS, LABELS, POOL, loss=sureness, rng=seeded(0), trace=True)
    assert mix.trace is not None
    assert mix.fooled is not None
    with torch.no_grad():
        images = [GENERATOR(SPLIT.with_perp(LATENTS, perp)) for perp in mix.trace.perp.flatten(0, 1)]
        wrong = torch.stack([classifier.eval()(x).argmax(dim=1) != LABELS for x in images]).unflatten(0, (5, 2))
    assert torch.equal(mix.fooled, wrong.flatten(0, 1).any(dim=0))
    assert (wrong[0].any(dim=0) & ~wrong[-1].any(dim=0)).any()


def test_trace_losses_are_those_of_its_latents() -> None:
    classifier = make_classifier()
    mix = AdvMix(GENERATOR, SPLIT, restarts=2, steps=2)(classifier, LATENTS, LABELS, POOL, rng=seeded(4), trace=True)
    assert mix.trace is not None
    with torch.no_grad():
        images = GENERATOR(SPLIT.with_perp(LATENTS, mix.trace.perp[2, 1]))
        expected = nn.functional.cross_entropy(classifier.eval()(images), LABELS, reduction="none")
    torch.testing.assert_close(mix.trace.losses[2, 1], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("step", ["sign", "gradient"])
@pytest.mark.parametrize("radius", [0.0, 0.3, 1.0])
def test_every_candidate_stays_in_its_box(step: Any, radius: float) -> None:
    search = AdvMix(GENERATOR, SPLIT, restarts=2, steps=4, step_size=0.7, radius=radius, step=step)
    mix = search(make_classifier(), LATENTS, LABELS, POOL, rng=seeded(0), trace=True)
    assert mix.trace is not None
    unit = SPLIT.perp_of(POOL).std(dim=0, correction=0)
    distance = (mix.trace.perp - mix.trace.perp[0]).abs() / unit
    assert distance.max() <= radius + 1e-12
    assert distance[0].max() == 0


def test_steps_without_a_box_have_the_asked_length() -> None:
    unit = SPLIT.perp_of(POOL).std(dim=0, correction=0)
    for step in ("sign", "gradient"):
        search = AdvMix(GENERATOR, SPLIT, steps=1, step_size=0.7, radius=None, step=step)
        mix = search(make_classifier(), LATENTS, LABELS, POOL, rng=seeded(0), trace=True)
        assert mix.trace is not None
        moved = ((mix.trace.perp[1, 0] - mix.trace.perp[0, 0]) / unit).abs()
        lengths = moved.amax(dim=1) if step == "sign" else moved.norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((5,), 0.7, dtype=torch.float64))


def test_zero_gradient_leaves_the_latent_where_it_is() -> None:
    perp, zero, unit = torch.ones(2, 3), torch.zeros(2, 3), torch.ones(1, 3)
    assert torch.equal(ascend(perp, zero, unit, 0.5, "sign"), perp)
    assert torch.equal(ascend(perp, zero, unit, 0.5, "gradient"), perp)


@given(NUMBERS(-5, 5), NUMBERS(0, 2), st.none() | NUMBERS(0, 3))
def test_projection_is_the_nearest_point_of_the_box(moved: float, unit: float, radius: float | None) -> None:
    start = torch.tensor([[1.0]], dtype=torch.float64)
    found = project(start + moved, start, torch.full_like(start, unit), radius)
    within = moved if radius is None else max(-radius * unit, min(radius * unit, moved))
    assert abs(found.item() - (1 + within)) < 1e-12


def test_search_is_at_least_as_bad_as_the_random_mix_of_the_same_donors() -> None:
    classifier = make_classifier()
    random = RandMix(GENERATOR, SPLIT)(classifier, LATENTS, LABELS, POOL, rng=seeded(0))
    found = AdvMix(GENERATOR, SPLIT, restarts=1, steps=3)(classifier, LATENTS, LABELS, POOL, rng=seeded(0))
    assert torch.equal(random.donors, found.donors)
    assert (losses_of(found) >= losses_of(random)).all()
    assert (losses_of(found) > losses_of(random)).any()


def test_random_mix_is_the_same_with_and_without_a_classifier() -> None:
    judged = RandMix(GENERATOR, SPLIT)(make_classifier(), LATENTS, LABELS, POOL, rng=seeded(0))
    plain = RandMix(GENERATOR, SPLIT)(None, LATENTS, LABELS, POOL, rng=seeded(0))
    assert torch.equal(judged.images, plain.images)
    assert torch.equal(judged.donors, plain.donors)
    assert torch.equal(judged.latents.styles, plain.latents.styles)
    assert plain.losses is None
    assert plain.fooled is None
    assert judged.losses is not None


def test_parallel_latents_are_the_examples_own() -> None:
    latents, pool, split = make_latents(SPATIAL, 3, seed=1), make_latents(SPATIAL, 4, seed=2), Split.fine(4, 1)
    mix = AdvMix(make_generator(SPATIAL), split)(make_classifier(), latents, LABELS[:3], pool, rng=seeded(0))
    assert mix.latents.grid is not None
    assert latents.grid is not None
    assert torch.equal(mix.latents.grid, latents.grid)
    assert torch.equal(mix.latents.styles[:, :3], latents.styles[:, :3])
    assert not torch.equal(mix.latents.styles[:, 3], latents.styles[:, 3])


def test_another_loss_is_what_the_search_maximises() -> None:
    def brightness(logits: Tensor, labels: Tensor) -> Tensor:
        return logits[:, 0]

    mix = AdvMix(GENERATOR, SPLIT, steps=2)(make_classifier(), LATENTS, LABELS, POOL, loss=brightness, rng=seeded(0))
    with torch.no_grad():
        logits = make_classifier().eval()(mix.images)
    torch.testing.assert_close(losses_of(mix), logits[:, 0], rtol=0, atol=1e-10)


def test_nothing_is_left_behind() -> None:
    generator, classifier = make_generator(), make_classifier()
    classifier[2].eval()
    before, latents = state_of(classifier), make_latents(VECTOR, 5, seed=1)
    latents.styles.requires_grad_()
    mix = AdvMix(generator, SPLIT, restarts=2, steps=2)(classifier, latents, LABELS, POOL, rng=seeded(0))
    assert no_gradients(generator, classifier)
    assert latents.styles.grad is None
    assert not mix.images.requires_grad
    assert_same_state(classifier.state_dict(), before)
    assert [part.training for part in classifier] == [True, True, False, True, True]
    assert all(part.training for part in generator.modules())


def test_modes_come_back_after_an_error() -> None:
    classifier = make_classifier()
    classifier[1].eval()

    def broken(logits: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("broken loss")

    with pytest.raises(RuntimeError, match="broken loss"):
        AdvMix(GENERATOR, SPLIT)(classifier, LATENTS, LABELS, POOL, loss=broken)
    assert [part.training for part in classifier] == [True, False, True, True, True]
    assert all(part.training for part in GENERATOR.modules())


def test_search_works_where_gradients_are_switched_off() -> None:
    search = AdvMix(GENERATOR, SPLIT, steps=2)
    expected = search(make_classifier(), LATENTS, LABELS, POOL, rng=seeded(0))
    with torch.no_grad():
        found = search(make_classifier(), LATENTS, LABELS, POOL, rng=seeded(0))
    assert torch.equal(found.images, expected.images)


def test_search_works_in_inference_mode() -> None:
    """Lightning validates in it; images and latents that are made there know no gradients."""
    search, classifier = AdvMix(GENERATOR, SPLIT, restarts=2, steps=2), make_classifier()
    expected = search(classifier, LATENTS, LABELS, POOL, rng=seeded(0))
    with torch.inference_mode():
        own, labels = Latents(LATENTS.styles * 1), LABELS * 1
        found = search(classifier, own, labels, POOL, rng=seeded(0))
    assert torch.equal(found.images, expected.images)
    assert torch.equal(losses_of(found), losses_of(expected))


def test_images_can_be_trained_on() -> None:
    classifier = make_classifier()
    mix = AdvMix(GENERATOR, SPLIT)(classifier, LATENTS, LABELS, POOL, rng=seeded(0))
    torch.autograd.backward(nn.functional.cross_entropy(classifier(mix.images), LABELS))
    assert all(parameter.grad is not None for parameter in classifier.parameters())


@pytest.mark.parametrize("wrong", [{"restarts": 0}, {"steps": -1}, {"step_size": -0.1}, {"radius": -1.0}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="must"):
        AdvMix(GENERATOR, SPLIT, **wrong)


def test_settings_are_those_of_the_search_but_for_what_is_named() -> None:
    search = AdvMix(GENERATOR, SPLIT, Search(restarts=5, steps=5, radius=None), steps=3)
    assert search.search == Search(restarts=5, steps=3, radius=None)
    assert AdvMix(GENERATOR, SPLIT).search == Search()
    with pytest.raises(TypeError, match="restart"):
        AdvMix(GENERATOR, SPLIT, restart=5)


def test_search_without_a_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a classifier"):
        AdvMix(GENERATOR, SPLIT)(None, LATENTS, LABELS, POOL)


def test_trace_with_early_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="trace"):
        AdvMix(GENERATOR, SPLIT, stop_early=True)(make_classifier(), LATENTS, LABELS, POOL, trace=True)


def test_repr_prints_every_setting() -> None:
    search = AdvMix(GENERATOR, SPLIT, restarts=2, steps=5, step_size=0.1, radius=None, step="gradient", stop_early=True)
    settings = "restarts=2, steps=5, step_size=0.1, radius=None, step='gradient', strength=1.0"
    assert repr(search) == f"AdvMix(Search({settings}), stop_early=True)"
    assert repr(RandMix(GENERATOR, SPLIT, strength=0.5)) == "RandMix(strength=0.5)"


def test_latents_with_a_history_leave_none_in_the_mix() -> None:
    generator, split = make_generator(), Split.fine(VECTOR.layers, 2)
    code = make_latents(VECTOR, 4).styles.requires_grad_()
    for mixer in (AdvMix(generator, split), RandMix(generator, split)):
        mix = mixer(make_classifier(), Latents(code), torch.zeros(4, dtype=torch.long), Latents(code * 2))
        assert not mix.latents.styles.requires_grad
        assert not mix.images.requires_grad


@pytest.mark.parametrize("exclude", [torch.tensor([0, 1, 7]), torch.tensor([-1, 0, 1]), torch.tensor([0])])
def test_indices_outside_the_pool_are_refused(exclude: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="indices from 0 to 6"):
        draw_donors((1, 3), 7, exclude, None)


def test_an_image_mixed_with_its_own_perp_is_itself_when_it_has_a_residual() -> None:
    images = torch.rand(len(LATENTS), 3, 8, 8, dtype=torch.float64, generator=seeded(1))
    complete = GENERATOR.complete(LATENTS, images)
    torch.testing.assert_close(GENERATOR(complete), images)
    torch.testing.assert_close(GENERATOR(SPLIT.combine(complete, LATENTS)), images)
    torch.testing.assert_close(GENERATOR.complete(complete, images).residual, complete.residual)


def test_a_residual_stays_with_its_image_in_every_mix() -> None:
    images = torch.rand(len(LATENTS), 3, 8, 8, dtype=torch.float64, generator=seeded(1))
    complete = GENERATOR.complete(LATENTS, images)
    for mixer in (RandMix(GENERATOR, SPLIT), AdvMix(GENERATOR, SPLIT, restarts=2)):
        mix = mixer(make_classifier(), complete, LABELS, POOL, rng=seeded(0))
        assert mix.latents.residual is not None
        assert complete.residual is not None
        assert torch.equal(mix.latents.residual, complete.residual)
        plain = GENERATOR(Latents(mix.latents.styles))
        torch.testing.assert_close(mix.images, (plain + complete.residual).clamp(0, 1))
