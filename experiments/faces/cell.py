"""Folders of the face studies, named by what their parts are made with, so that several settings share `--cells`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import FILE as GENERATOR
from advmix.encoders.autoencoder import Autoencoder, fingerprint, load_autoencoder, save_autoencoder
from advmix.mixing import SearchOptions
from advmix.training.autoencode import FitOptions, reconstruction_mse
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.methods import BaselineOptions
from advmix.utils.config import to_dict
from advmix.utils.device import make_fabric, open_device
from advmix.utils.errors import naming
from advmix.utils.files import hexdigest, read_tensors, write_tensors
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from experiments.controls import REFIT, passes_of
from experiments.faces.dataset import SIZE, Faces, without_labels
from experiments.faces.settings import (
    BASE,
    FILTERED,
    NEEDS_ALL,
    PRETRAINED,
    REFERENCE,
    VARIANTS,
    CelebaConfig,
    Kit,
    base_of,
)
from experiments.refitting import refit_last_layer

FITTED = ("fit",)

TRAINED = ("train", "search", "baseline")

"""Groups of settings that make a generator, and those that make a classifier with it."""


def changes(settings: Mapping[str, Any], groups: Sequence[str]) -> dict[str, Any]:
    """The settings that differ from the studies' own: `{"train.epochs": 5}`."""
    usual = to_dict(CelebaConfig())
    return {
        f"{group}.{name}": value
        for group in groups
        for name, value in settings.get(group, {}).items()
        if value != usual[group].get(name)
    }


def tagged(plain: Path, changed: Mapping[str, Any]) -> Path:
    """A folder's name with eight digits that change with the settings; as it is where all are the studies' own."""
    tag = hexdigest(json.dumps(changed, sort_keys=True))[:8]
    return plain.with_name(f"{plain.name}-{tag}") if changed else plain


def fitted_place(plain: Path, config: CelebaConfig) -> Path:
    """Where a generator is; a variant's name is the end of the folder's."""
    place = tagged(plain, changes(to_dict(config), FITTED))
    return place if config.variant == BASE else place.with_name(f"{place.name}-{config.variant}")


def trained_place(plain: Path, config: CelebaConfig) -> Path:
    """Where the classifiers are that are trained with a generator; `plain` is the name without any tag."""
    variant = {} if config.variant == BASE else {"variant": config.variant}
    return tagged(plain, changes(to_dict(config), FITTED + TRAINED) | variant)


CLASSIFIER = "classifier.safetensors"

ALL, FEW = "generator", "generator-labelled"

TEACHER = "nominal"

"""The classifier that some variants of the generator learn from."""

CELLS = "--cells"

"""The option that says where all folders of a bench are."""


@dataclass(frozen=True)
class FitPart:
    """What makes a generator."""

    fit: FitOptions
    seed: int
    out: Path
    survival_weight: float = 0.0


@dataclass(frozen=True)
class ClassifierPart:
    """What makes a classifier."""

    method: str
    train: TrainOptions
    search: SearchOptions
    baseline: BaselineOptions
    seed: int
    out: Path


@dataclass(frozen=True, eq=False)
class Bench:
    """All parts of one seed.

    Args:
        config: of the study.
        seed: fixes them.
        faces: the images.
    """

    config: CelebaConfig
    seed: int
    faces: Faces

    @cached_property
    def folder(self) -> Path:
        """Where the classifiers are kept, named by what they depend on."""
        config, stress = self.config, self.config.stress
        tint = f"-tint{config.tint:g}" if config.tint else ""
        cue = f"-cue{stress.cue}{stress.agreement:g}{stress.moved}" if stress.cue else ""
        labelled = config.labelled or "all"
        size = f"-{config.size}px" if config.size != SIZE else ""
        plain = config.cells / f"celeba-{config.target}-{labelled}{size}{tint}{cue}-seed{self.seed}"
        return trained_place(plain, config)

    @cached_property
    def device(self) -> torch.device:
        """Of all networks."""
        return open_device(self.config.device)

    def generator_images(self, name: str) -> ImageSet:
        """What a generator is trained on."""
        return self.faces.unlabelled if name == ALL else without_labels(self.faces.labelled)

    def home(self, name: str) -> Path:
        """The folder of a generator, named by its images and settings: whoever needs that of these images shares it,
        whatever is recognised on them; unless it learns from a classifier, which its name then tells.
        """
        place = fitted_place(self._plain_home(name), self.config)
        if self.school is None:
            return place
        return place.with_name(f"{place.name}-{hexdigest(self.school.folder.name)[:8]}")

    def _plain_home(self, name: str) -> Path:
        return self.config.cells / f"celeba-generator-{self.generator_images(name).fingerprint[:8]}-seed{self.seed}"

    def of_variant(self, name: str) -> Bench:
        """The same with generators that are trained in another way."""
        return replace(self, config=self.config.with_variant(name))

    def has_generator(self, name: str) -> bool:
        """Whether a generator is there."""
        return (self.home(name) / GENERATOR).is_file()

    def is_trained(self, method: str) -> bool:
        """Whether a classifier is there."""
        return (self.folder / method / CLASSIFIER).is_file()

    @cached_property
    def school(self) -> Bench | None:
        """Where the nominal classifier is that generators of this variant learn from; None where they learn alone. It
        mixes nothing, so that it is one for all z⊥.
        """
        if not VARIANTS[self.config.variant].is_taught:
            return None
        search = replace(self.config.search, perp=())
        return replace(self, config=replace(self.config, variant=BASE, search=search))

    def can_fit(self) -> bool:
        """Whether that classifier is there."""
        return self.school is None or self.school.is_trained(TEACHER)

    def fit(self, name: str) -> None:
        """Generator and encoder, of all training images (`ALL`) or of the labelled ones (`FEW`)."""
        images, out, variant = self.generator_images(name), self.home(name), VARIANTS[self.config.variant]
        teacher = None if self.school is None else self.school.classifier(TEACHER)[0]
        inputs: dict[str, str | None] = {"images": images.fingerprint}
        if teacher is not None:
            inputs["classifier"] = fingerprint(teacher)
        side = int(images.pixels.shape[-1])
        options = variant.options(self.config.fit, side)
        part = FitPart(options, self.seed, out, variant.survival_weight)
        with naming(CELLS):
            run = claim_run(out, "study celeba: fit", part, True, inputs)
        trainee = variant.trainee(images, options, self.seed, make_fabric(self.config.device), teacher)
        loop = Loop(f"seed {self.seed}: {name}", options.steps(side), out, run)
        loop.train(trainee)
        model = trainee.model.eval()
        metadata = {
            "data_fingerprint": images.fingerprint,
            "images": len(images),
            "fit_seconds": round(loop.seconds, 2),
            "reconstruction_mse": reconstruction_mse(model, images, self.device),
        }
        save_autoencoder(out, model, metadata)
        loop.finish()

    def generator(self, name: str) -> tuple[Autoencoder, dict[str, Any]]:
        """A generator with its encoder, on the device, and what its file says."""
        model, metadata = load_autoencoder(self.home(name))
        return model.to(self.device), metadata

    def lent(self) -> dict[str, str]:
        """Fingerprints of the generator of all training images, and of the pool: the latents that its encoder finds for
        the labelled ones.
        """
        model, metadata = self.generator(ALL)
        pool = hexdigest(fingerprint(model.encoder), self.faces.labelled.fingerprint)
        return {"generator": metadata["fingerprint"], "pool": pool}

    def generator_of(self, method: str) -> str | None:
        """Which generator a method is trained with."""
        return ALL if method in NEEDS_ALL else FEW if method == "advmix-small" else None

    def needs(self, method: str) -> tuple[str, ...]:
        """Classifiers that must be trained before."""
        return (base_of(method),) if method.endswith(REFIT) else (REFERENCE,) if method == FILTERED else ()

    def can_train(self, method: str) -> bool:
        """Whether the generator and the classifiers that a method needs are there."""
        name = self.generator_of(base_of(method))
        return (name is None or self.has_generator(name)) and all(map(self.is_trained, self.needs(method)))

    def kit(self, method: str) -> Kit:
        """What the method's recipe is made of."""
        config, name = self.config, self.generator_of(base_of(method))
        model = None if name is None else self.generator(name)[0]
        reference = self.classifier(REFERENCE)[0] if method == FILTERED else None
        return Kit(self.faces.labelled, model, config.search, config.baseline, self.seed, reference)

    def train(self, method: str) -> None:
        """A classifier, unless it is there."""
        config, out = self.config, self.folder / method
        part = ClassifierPart(method, config.train, config.search, config.baseline, self.seed, out)
        name = self.generator_of(method)
        inputs = {
            "images": self.faces.labelled.fingerprint,
            "generator": None if name is None else self.generator(name)[1]["fingerprint"],
        }
        inputs |= {f"classifier {other}": fingerprint(self.classifier(other)[0]) for other in self.needs(method)}
        with naming(CELLS):
            run = claim_run(out, "study celeba: classifier", part, True, inputs)
        if self.is_trained(method):
            return
        if method.endswith(REFIT):
            self._refit(method)
        else:
            self._train(method, run)

    def _train(self, method: str, run: str) -> None:
        kit, out = self.kit(method), self.folder / method
        begun = time.monotonic()
        recipe = kit.recipe(method)  # encodes the labelled images where the method needs their latents
        seconds = 0.0 if kit.model is None else time.monotonic() - begun
        fabric = make_fabric(self.config.device)
        options = self.config.train.times(passes_of(method), recipe.images)
        trainee = ClassifierTrainee(recipe.network, recipe.objective, recipe.images, options, self.seed, fabric)
        loop = Loop(f"seed {self.seed}: {method}", options.steps(recipe.images), out, run)
        loop.train(trainee)
        facts = {"train_seconds": round(loop.seconds, 2), "encode_seconds": round(seconds, 3)}
        self._keep(method, recipe.network, facts)
        loop.finish()

    def _refit(self, method: str) -> None:
        """The features of another method under a new last layer; it took no time worth counting, its features did."""
        assert self.faces.refit is not None
        network, facts = self.classifier(base_of(method))
        images, groups = self.faces.refit.images, self.faces.refit.groups
        console.print(f"  {method}: last layer on {len(images)} balanced images")
        self._keep(method, refit_last_layer(network, images, groups, self.seed, least=2), facts)

    def _keep(self, method: str, network: nn.Module, facts: dict[str, Any]) -> None:
        metadata = {**facts, "method": method}
        write_tensors(self.folder / method / CLASSIFIER, "classifier", network.state_dict(), metadata)

    def classifier(self, method: str) -> tuple[nn.Module, dict[str, Any]]:
        """A trained classifier in eval mode, on the device, and what its file says: the seconds of its training, and of
        encoding its images.
        """
        tensors, metadata = read_tensors(self.folder / method / CLASSIFIER, "classifier")
        name = base_of(method)
        network = self.kit(name if name == PRETRAINED else TEACHER).network(name)
        network.load_state_dict(tensors)
        return network.to(self.device).eval(), metadata

    def generator_seconds(self, method: str) -> float | None:
        """What the generator took that a method is trained with; None where it needs none."""
        name = self.generator_of(base_of(method))
        return None if name is None else float(self.generator(name)[1]["fit_seconds"])

    def summary(self) -> dict[str, Any]:
        """What `results.json` says about the generators."""
        names = [name for name in (ALL, FEW) if self.has_generator(name)]
        keys = ("fingerprint", "images", "fit_seconds", "reconstruction_mse")
        return {name: {key: self.generator(name)[1][key] for key in keys} for name in names}
