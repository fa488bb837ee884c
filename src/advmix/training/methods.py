"""The methods by name: which objective, which training images, which network each one stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from advmix.classifiers.networks import build_network
from advmix.data.datasets import Data, painted_digits
from advmix.data.images import ImageSet
from advmix.mixing import Mixer, RandMix, SearchOptions
from advmix.pools import FittedModel
from advmix.training.objectives import Adversarial, Augment, Mixing, Mixup, Nominal, Objective
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import check_values, to_dict
from advmix.utils.errors import UserError

METHODS = ("nominal", "mixup", "linf", "randmix", "advmix")
NEEDS_LATENTS = ("randmix", "advmix")


@dataclass(frozen=True)
class BaselineOptions:
    """Settings of the methods that are compared.

    Args:
        clean_weight: weight of the clean images' loss beside that of mixes or augmented copies, in [0, 1]; 0 is the
            paper's risk.
        consistency: weight of the Kullback-Leibler divergence of the answer to a mix or augmented copy from that to its
            image, beside that loss; at least 0.
        mixup_alpha: of mixup's Beta distribution.
        linf_radius: of l_inf training, in pixel values of [0, 1].
        linf_steps: of its PGD.
        jitter: strength of the ColorJitter control in brightness, contrast, saturation and hue, in [0, 0.5].
        residual: whether a mix keeps what the generator cannot draw of its image, `x - dec(enc(x))`; with a ready-made
            generator, which was not fitted to the images, it always does.
    """

    clean_weight: float = 0.5
    consistency: float = 0.0
    mixup_alpha: float = 1.0
    linf_radius: float = 0.1
    linf_steps: int = 7
    jitter: float = 0.5
    residual: bool = False

    def __post_init__(self) -> None:
        check_values(self, "clean_weight", within=(0, 1))
        check_values(self, "consistency", least=0)
        check_values(self, "jitter", within=(0, 0.5))
        check_values(self, "mixup_alpha linf_radius linf_steps", above=0)


Made = tuple[Objective, dict[str, Any]]
"""An objective, and the numbers that define it, for the record."""


def _linf(data: Data, options: BaselineOptions) -> Made:
    attack = {"radius": options.linf_radius, "steps": options.linf_steps}
    return Adversarial(options.linf_radius, options.linf_steps), attack


def _mixup(data: Data, options: BaselineOptions) -> Made:
    return Mixup(len(data.train.classes), options.mixup_alpha), {"alpha": options.mixup_alpha}


def _jitter(data: Data, options: BaselineOptions) -> Made:
    from torchvision.transforms import v2

    strength, weights = options.jitter, _weights(options)
    jitter = v2.ColorJitter(strength, strength, strength, strength)
    return Augment(jitter, **weights), {**weights, "strength": strength}


def _weights(options: BaselineOptions) -> dict[str, Any]:
    return {"clean_weight": options.clean_weight, "consistency": options.consistency}


def _nominal(data: Data, options: BaselineOptions) -> Made:
    return Nominal(), {}


OBJECTIVES: dict[str, Callable[[Data, BaselineOptions], Made]] = {
    "nominal": _nominal,
    "mixup": _mixup,
    "linf": _linf,
    "ceiling": _nominal,
    "jitter": _jitter,
    "grayscale": _nominal,
    "instnorm": _nominal,
}
"""What trains without latents, by name. One more entry is one more method of `train`."""

CONTROLS = tuple(name for name in OBJECTIVES if name not in METHODS)


def check_method(name: str, more: Sequence[str] = ()) -> None:
    """Refuse a method that does not exist; `more` do, too.

    Raises:
        UserError: with the names that do.
    """
    if name not in (*NEEDS_LATENTS, *OBJECTIVES, *more):
        controls = [*(other for other in OBJECTIVES if other not in METHODS), *more]
        raise UserError(f"method {name!r}: unknown; choose from {' '.join(METHODS)}, controls {' '.join(controls)}")


def check_methods(names: tuple[str, ...], more: Sequence[str] = ()) -> None:
    """Refuse a list of methods that is empty, or names one that does not exist, or one twice; `more` exist, too.

    Raises:
        UserError: saying which.
    """
    if not names:
        raise UserError("--methods: name at least one")
    for name in names:
        check_method(name, more)
    if len(set(names)) < len(names):
        raise UserError(f"--methods {' '.join(names)}: names one twice")


@dataclass(frozen=True)
class Recipe:
    """One method, ready to train.

    Args:
        network: fresh, with seeded weights.
        objective: what each step minimises.
        images: the training set.
        setting: the numbers that define the method, for the record.
    """

    network: nn.Module
    objective: Objective
    images: ImageSet
    setting: dict[str, Any]


def make_recipe(
    method: str,
    data: Data,
    seed: int,
    search: SearchOptions,
    baseline: BaselineOptions,
    model: FittedModel | None = None,
    arithmetic: ArithmeticOptions | None = None,
) -> Recipe:
    """What `method` trains with. `model`, on its device, is for the mixing methods, `arithmetic` for a search.

    Raises:
        UserError: unknown method, or a mixing method without generator and latents.
    """
    check_method(method)
    images = painted_digits(data, f"method {method}").train_unbiased if method == "ceiling" else data.train
    if method in NEEDS_LATENTS:
        objective, setting = _mixing(method, search, baseline, model, len(images), arithmetic)
    else:
        objective, setting = OBJECTIVES[method](data, baseline)
    network = build_network(method, len(images.classes), int(images.pixels.shape[1]), seed)
    return Recipe(network, objective, images, setting)


def _mixing(
    method: str,
    search: SearchOptions,
    baseline: BaselineOptions,
    model: FittedModel | None,
    images: int,
    arithmetic: ArithmeticOptions | None,
) -> Made:
    if model is None:
        raise UserError(f"method {method} mixes latents: name a generator (--generator)")
    ready_made = model.generator.any_size
    loss: dict[str, Any] = {**_weights(baseline), "residual": baseline.residual or ready_made, "together": ready_made}
    mixer: Mixer
    if method == "advmix":
        mixer = search.mixer(model.generator, arithmetic=arithmetic, verdicts=False)
        setting = to_dict(search)
    else:
        mixer = RandMix(model.generator, search.split(model.generator.layers), search.strength)
        setting = {"perp": list(search.perp), "perp_grid": search.perp_grid, "strength": search.strength}
    objective = Mixing(mixer, model.pool, encoder=model.encoder, places=model.places(images), **loss)
    return objective, {**loss, **setting}
