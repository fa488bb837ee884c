from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from advmix.classifiers.networks import Grayscale, InstanceNorm, build_network
from advmix.data.colored import ColoredDigits
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.style import StyleConfig
from advmix.latents import Split
from advmix.mixing import AdvMix, RandMix, SearchOptions
from advmix.pools import FittedModel
from advmix.training.methods import CONTROLS, METHODS, BaselineOptions, Recipe, check_method, make_recipe
from advmix.training.objectives import Adversarial, Augment, Mixing, Mixup, Nominal
from advmix.utils.errors import UserError
from tiny import assert_same_state, state_of

KINDS = {
    "nominal": Nominal,
    "mixup": Mixup,
    "linf": Adversarial,
    "randmix": Mixing,
    "advmix": Mixing,
    "ceiling": Nominal,
    "grayscale": Nominal,
    "instnorm": Nominal,
    "jitter": Augment,
}
SEARCH = SearchOptions(perp=(-1,), restarts=3, steps=4, step_size=0.125, radius=2.0, step="gradient")
BASELINE = BaselineOptions(
    clean_weight=0.25,
    mixup_alpha=0.5,
    linf_radius=0.05,
    linf_steps=3,
    jitter=0.2,
)


def recipe(method: str, data: ColoredDigits, seed: int = 0) -> Recipe:
    model = Autoencoder(StyleConfig(resolution=16, style_dim=4, widths=(6, 6, 5)))
    with torch.no_grad():
        pool = model.encoder(data.train.batch(slice(None))[0])
    return make_recipe(method, data, seed, SEARCH, BASELINE, FittedModel(model, pool, {}, Path()))


def test_every_name_is_a_method() -> None:
    assert set(METHODS + CONTROLS) == set(KINDS)


def test_a_search_that_is_trained_on_asks_for_no_verdicts(digits: ColoredDigits) -> None:
    objective = recipe("advmix", digits).objective
    assert isinstance(objective, Mixing)
    assert isinstance(objective.mixer, AdvMix)
    assert not objective.mixer.verdicts


@pytest.mark.parametrize("method", KINDS)
def test_method_has_its_objective_and_images(digits: ColoredDigits, method: str) -> None:
    made = recipe(method, digits)
    assert type(made.objective) is KINDS[method]
    expected = digits.train_unbiased if method == "ceiling" else digits.train
    assert made.images.fingerprint == expected.fingerprint
    assert made.network(made.images.batch(slice(0, 4))[0]).shape == (4, 10)


@pytest.mark.parametrize("method", KINDS)
def test_first_weights_follow_from_the_seed_alone(digits: ColoredDigits, method: str) -> None:
    torch.manual_seed(1)
    first = build_network(method, 10, 3, seed=0)
    torch.manual_seed(2)
    assert_same_state(build_network(method, 10, 3, seed=0).state_dict(), state_of(first))
    other = build_network(method, 10, 3, seed=1).state_dict()
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize(("front", "name"), [(Grayscale, "grayscale"), (InstanceNorm, "instnorm")])
def test_only_one_control_has_the_layer(digits: ColoredDigits, front: type, name: str) -> None:
    behind = [method for method in KINDS if isinstance(next(recipe(method, digits).network.children()), front)]
    assert behind == [name]


def test_settings_reach_the_objectives(digits: ColoredDigits) -> None:
    advmix, linf = recipe("advmix", digits), recipe("linf", digits)
    assert isinstance(advmix.objective, Mixing)
    assert isinstance(advmix.objective.mixer, AdvMix)
    search = advmix.objective.mixer.search
    assert (search.restarts, search.steps, search.step_size, search.radius) == (3, 4, 0.125, 2.0)
    assert search.step == "gradient"
    assert not advmix.objective.mixer.stop_early
    assert advmix.objective.mixer.split == Split(6, (5,))
    assert advmix.objective.clean_weight == 0.25
    assert advmix.setting["step_size"] == 0.125
    assert isinstance(linf.objective, Adversarial)
    assert (linf.objective.radius, linf.objective.steps) == (0.05, 3)
    assert recipe("mixup", digits).setting == {"alpha": 0.5}


def test_random_mixing_has_the_split_of_the_search(digits: ColoredDigits) -> None:
    objective = recipe("randmix", digits).objective
    assert isinstance(objective, Mixing)
    assert isinstance(objective.mixer, RandMix)
    assert objective.mixer.split == Split(6, (5,))


@pytest.mark.parametrize("method", ["randmix", "advmix"])
def test_mixing_needs_latents(digits: ColoredDigits, method: str) -> None:
    with pytest.raises(UserError, match="name a generator"):
        make_recipe(method, digits, 0, SEARCH, BASELINE)


def test_unknown_method_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match="method 'advmx': unknown") as caught:
        check_method("advmx")
    assert all(name in str(caught.value) for name in KINDS)


@pytest.mark.parametrize(
    ("kind", "wrong", "words"),
    [
        (SearchOptions, {"step": "newton"}, "--step newton: unknown; use sign or gradient"),
        (SearchOptions, {"restarts": 0}, "--restarts 0: must be at least 1"),
        (SearchOptions, {"steps": -1}, "--steps -1"),
        (SearchOptions, {"step_size": -0.5}, "--step-size -0.5"),
        (SearchOptions, {"radius": -1.0}, "--radius -1.0"),
        (SearchOptions, {"step_size": float("nan")}, "--step-size nan"),
        (BaselineOptions, {"clean_weight": 1.5}, "--clean-weight 1.5: must be between 0 and 1"),
        (BaselineOptions, {"mixup_alpha": 0.0}, "--mixup-alpha 0.0: must be more than 0"),
        (BaselineOptions, {"linf_steps": 0}, "--linf-steps 0"),
        (BaselineOptions, {"linf_radius": float("nan")}, "--linf-radius nan"),
        (BaselineOptions, {"jitter": 0.6}, "--jitter 0.6: must be between 0 and 0.5"),
    ],
)
def test_bad_settings_are_refused_by_their_flag(kind: type, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        kind(**wrong)


@pytest.mark.parametrize("layer", [6, -7])
def test_split_that_the_generator_does_not_have_is_refused(layer: int) -> None:
    with pytest.raises(UserError, match=f"--perp {layer}: outside the network, which has layers 0 to 5"):
        SearchOptions(perp=(layer,)).split(6)


def test_split_counts_from_either_end() -> None:
    assert SearchOptions(perp=(-1, 0)).split(6) == Split(6, (0, 5))
    with pytest.raises(UserError, match="nothing to mix"):
        SearchOptions(perp=()).split(6)
