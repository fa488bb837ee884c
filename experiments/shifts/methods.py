"""The methods that are compared, by name, and their settings: chosen on home's validation images and at made sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.network import encoded
from advmix.mixing import AdvMix, Mixer, RandMix, Search, usual_split
from advmix.training.objectives import Augment, Mixing, Nominal, Objective
from experiments.refitting import refit_last_layer
from experiments.shifts.group_dro import GroupDRO
from experiments.shifts.lights import Lights
from experiments.shifts.rivals import (
    AugMixConsistency,
    FourierMixing,
    HistogramMatching,
    RandConv,
    TrivialAugment,
)
from experiments.shifts.style_layers import DSU, MixStyle, Seeded, with_style_layers

if TYPE_CHECKING:
    from advmix.data.images import ImageSet
    from experiments.shifts.sets import ShiftImages

JITTER = (0.5, 0.5, 0.5, 0.1)
"""Strengths of colour jitter in brightness, contrast, saturation and hue. With stronger ones, or copies in any hue
beside the images, classifiers knew less at made sites.
"""


RANDOM_IMAGE: dict[str, Any] = {"mix": False, "clean_share": 0.5, "weight": 5.0}
"""The authors' RC_img with consistency: with their RC_mix classifiers knew half as much at home."""


@dataclass(frozen=True)
class Ingredients:
    """What a method is made of.

    Attributes:
        images: of the set.
        donors: images whose styles are borrowed; None for methods that borrow none.
        fitted: makes the generator that is fitted to the images of home, or finds it.
    """

    images: ShiftImages
    donors: ImageSet | None
    fitted: Callable[[], Autoencoder]

    @property
    def lent(self) -> ImageSet:
        """The donors, where there must be some."""
        assert self.donors is not None
        return self.donors


@dataclass(frozen=True)
class Method:
    """One method.

    Args:
        title: in tables and figures.
        make: its objective.
        borrows: whether it needs donors.
        wrap: what it changes in the network.
        finish: what it does with the trained network, in eval mode: network, images and seed to another one.
        needs_groups: whether it is for sets in which light goes with the class.
    """

    title: str
    make: Callable[[Ingredients], Objective]
    borrows: bool = False
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network
    finish: Callable[[nn.Module, ShiftImages, int], nn.Module] = lambda network, images, seed: network
    needs_groups: bool = False


FITTED = "fitted"
"""In the place of a ready-made generator's name: the one that is fitted to images of home."""


@dataclass(frozen=True)
class MixSettings:
    """How mixes are trained on.

    Args:
        generator: what is a style: a ready-made generator, or `FITTED`.
        search: None for random donors.
        clean_weight: see `Mixing`.
        consistency: see `Mixing`.
    """

    generator: str = "statistics"
    search: Search | None = None
    clean_weight: float = 0.5
    consistency: float = 0.0


def make_mixing(made: MixSettings, parts: Ingredients) -> Objective:
    """RandMix or AdvMix."""
    model = parts.fitted() if made.generator == FITTED else load_autoencoder(Path(made.generator))[0]
    dec, split = model.generator, usual_split((), False, model.config)
    mixer: Mixer = RandMix(dec, split) if made.search is None else AdvMix(dec, split, made.search)
    pool = encoded(parts.lent, model.encoder, styles_only=True)
    places = torch.full((len(parts.images.train),), -1)
    if parts.lent is parts.images.train:
        places = torch.arange(len(places))
    return Mixing(mixer, pool, made.clean_weight, model.encoder, True, places, True, made.consistency)


def mixing(title: str, made: MixSettings) -> Method:
    """A method that mixes."""
    return Method(title, lambda parts: make_mixing(made, parts), borrows=True)


def _jitter(parts: Ingredients) -> Objective:
    from torchvision.transforms import v2

    return Augment(v2.ColorJitter(*JITTER), clean_weight=0.0)


def _group_dro(parts: Ingredients) -> Objective:
    train = parts.images.train
    return GroupDRO(train, Lights(train, seed=0).groups(train))


def _refitted(network: nn.Module, images: ShiftImages, seed: int) -> nn.Module:
    """With a last layer of held-out images, class x kind of light in equal shares."""
    held_out = images.chosen_by
    return refit_last_layer(network, held_out, Lights(images.train, seed=0).groups(held_out), seed)


def _layers(layer: type[MixStyle | DSU]) -> Callable[[nn.Module], nn.Module]:
    return lambda network: with_style_layers(network, layer)


SEARCH = Search(restarts=1, steps=1, step_size=0.25, radius=0.25)
"""Half as far as is usual, one step: with more, classifiers knew less at made sites."""

RANDMIX = MixSettings()
ADVMIX = replace(RANDMIX, search=SEARCH)
CONSISTENCY = 1.0
"""Weight of the divergence, where a mix is to be recognised and to be answered as its image is."""

METHODS: dict[str, Method] = {
    "nominal": Method("nominal", lambda parts: Nominal()),
    "jitter": Method("colour jitter", _jitter),
    "trivialaugment": Method("TrivialAugment", lambda parts: TrivialAugment()),
    "augmix": Method("AugMix with its loss", lambda parts: AugMixConsistency()),
    "randconv": Method("RandConv", lambda parts: RandConv(**RANDOM_IMAGE)),
    "mixstyle": Method("MixStyle", lambda parts: Seeded(), wrap=_layers(MixStyle)),
    "dsu": Method("DSU", lambda parts: Seeded(), wrap=_layers(DSU)),
    "groupdro": Method("GroupDRO", _group_dro, needs_groups=True),
    "refit": Method("last layer refitted", lambda parts: Nominal(), finish=_refitted, needs_groups=True),
    "fourier": Method(
        "Fourier amplitudes", lambda parts: FourierMixing(parts.lent.pixels, beta=0.5, interpolate=True), True
    ),
    "histogram": Method("histogram matching", lambda parts: HistogramMatching(parts.lent.pixels), True),
    "randmix": mixing("RandMix, statistics", RANDMIX),
    "randmix-kept": mixing("RandMix, statistics, with consistency", replace(RANDMIX, consistency=CONSISTENCY)),
    "advmix": mixing("AdvMix, statistics", ADVMIX),
    "advmix-kept": mixing("AdvMix, statistics, with consistency", replace(ADVMIX, consistency=CONSISTENCY)),
    "worst-of-3": mixing("worst of 3, statistics", replace(RANDMIX, search=Search(restarts=3, steps=0))),
    "randmix-photo": mixing("RandMix, photo", replace(RANDMIX, generator="photo")),
    "randmix-photo-moments": mixing("RandMix, photo:moments", replace(RANDMIX, generator="photo:moments")),
    "randmix-fitted": mixing("RandMix, fitted generator", replace(RANDMIX, generator=FITTED)),
    "advmix-fitted": mixing("AdvMix, fitted generator", replace(ADVMIX, generator=FITTED)),
    "advmix-photo": mixing("AdvMix, photo", replace(ADVMIX, generator="photo")),
    "advmix-photo-moments": mixing("AdvMix, photo:moments", replace(ADVMIX, generator="photo:moments")),
}
"""By name."""


def is_for(name: str, set_name: str) -> bool:
    """Whether a method says something about a set: some need groups, which the lamp set has."""
    return not METHODS[name].needs_groups or set_name == "wbc-lamp"
