from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from advmix.generators.style import StyleConfig
from advmix.latents import Split
from advmix.mixing import AdvMix, draw_donors
from advmix.utils.torch_tools import generator as seeded
from reference import worst_of_one
from tiny import SPATIAL, VECTOR, assert_same_state, make_classifier, make_generator, make_latents, state_of

EXAMPLES = 4


@dataclass(frozen=True)
class Case:
    network: StyleConfig
    split: Split
    residual: bool = False


CASES = {
    "vector": Case(VECTOR, Split.fine(6, 2)),
    "vector reversed": Case(VECTOR, Split(6, (0, 1, 2))),
    "vector with gaps": Case(VECTOR, Split(6, (1, 3, 4))),
    "vector all": Case(VECTOR, Split.fine(6, 6)),
    "spatial": Case(SPATIAL, Split.fine(4, 3)),
    "spatial with gaps": Case(SPATIAL, Split(4, (0, 2))),
    "vector with residual": Case(VECTOR, Split.fine(6, 2), residual=True),
    "spatial with residual": Case(SPATIAL, Split.fine(4, 3), residual=True),
    "spatial reversed": Case(SPATIAL, Split(4, (0,), grid=True)),
    "spatial grid alone": Case(SPATIAL, Split(4, (), grid=True)),
}

ALL = [
    {"step": step, "restarts": restarts, "steps": steps, "radius": radius, "stop_early": stop_early}
    for step, restarts, steps, radius, stop_early in itertools.product(
        ("sign", "gradient"), (1, 3), (0, 2, 3), (None, 0.5), (True, False)
    )
]
FEW = [
    {"step": step, "restarts": 3, "steps": 3, "radius": radius, "stop_early": stop_early}
    for step, radius, stop_early in (("sign", 0.5, False), ("gradient", None, False), ("gradient", 0.5, True))
]
COMBINATIONS = [("vector", settings) for settings in ALL] + [
    (name, settings) for name in CASES if name != "vector" for settings in FEW
]


def describe(value: Any) -> str:
    return " ".join(str(part) for part in value.values()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("name", "settings"), COMBINATIONS, ids=describe)
def test_fast_search_equals_the_literal_one(name: str, settings: dict[str, Any]) -> None:
    network, split = CASES[name].network, CASES[name].split
    generator, classifier = make_generator(network), make_classifier()
    latents, pool = make_latents(network, EXAMPLES, seed=1), make_latents(network, 7, seed=2)
    if CASES[name].residual:
        latents = generator.complete(latents, torch.rand(EXAMPLES, 3, 8, 8, dtype=torch.float64, generator=seeded(4)))
    with torch.no_grad():
        labels = (classifier.eval()(generator(latents)).argmax(1) + torch.tensor([0, 0, 0, 1])) % 3
    exclude = torch.arange(EXAMPLES)
    donors = draw_donors((settings["restarts"], EXAMPLES), len(pool), exclude, seeded(3, "donors"))
    expected = [
        worst_of_one(
            generator,
            split,
            classifier,
            own=latents[example : example + 1],
            label=int(labels[example]),
            pool=pool,
            donors=donors[:, example].tolist(),
            steps=settings["steps"],
            step_size=0.4,
            radius=settings["radius"],
            step=settings["step"],
            stop_early=settings["stop_early"],
        )
        for example in range(EXAMPLES)
    ]
    classifier.train()
    before = state_of(classifier)

    search = AdvMix(generator, split, step_size=0.4, **settings)
    mix = search(classifier, latents, labels, pool, rng=seeded(3, "donors"), exclude=exclude)

    assert mix.losses is not None
    assert mix.fooled is not None
    torch.testing.assert_close(mix.images, torch.stack([one.image for one in expected]), rtol=0, atol=1e-8)
    torch.testing.assert_close(mix.losses, mix.losses.new_tensor([one.loss for one in expected]), rtol=0, atol=1e-8)
    assert mix.donors.tolist() == [one.donor for one in expected]
    assert mix.fooled.tolist() == [one.fooled for one in expected]
    torch.testing.assert_close(generator(mix.latents), mix.images, rtol=0, atol=1e-8)
    assert all(part.training for part in classifier.modules())
    assert_same_state(classifier.state_dict(), before)


def test_the_comparison_sees_examples_that_stop_early_and_others_that_do_not() -> None:
    generator, classifier, split = make_generator(), make_classifier(), CASES["vector"].split
    latents, pool = make_latents(VECTOR, EXAMPLES, seed=1), make_latents(VECTOR, 7, seed=2)
    with torch.no_grad():
        labels = (classifier.eval()(generator(latents)).argmax(1) + torch.tensor([0, 0, 0, 1])) % 3
    found = [
        AdvMix(generator, split, restarts=3, steps=steps, step_size=0.4)(
            classifier, latents, labels, pool, rng=seeded(4, "donors"), exclude=torch.arange(EXAMPLES)
        ).fooled
        for steps in (0, 3)
    ]
    counts = [int(fooled.sum()) for fooled in found if fooled is not None]
    assert 0 < counts[0] < EXAMPLES
    assert counts[0] <= counts[1]
