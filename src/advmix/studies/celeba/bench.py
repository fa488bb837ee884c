"""One seed of the face study: generators, classifiers and what was found about them, each kept in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.audit.evaluate import predict
from advmix.audit.verdicts import verdicts
from advmix.encoders import encoded
from advmix.encoders.autoencoder import FILE as GENERATOR
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.engine import make_fabric
from advmix.files import read_tensors, write_tensors
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.studies.celeba.faces import Faces
from advmix.studies.celeba.recipes import NEEDS_ALL, Kit
from advmix.studies.celeba.settings import CelebaConfig
from advmix.training.autoencode import AutoencoderTrainee, FitOptions, reconstruction_mse
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.methods import BaselineOptions, SearchOptions

CLASSIFIER, FOUND = "classifier.safetensors", "found.safetensors"
ALL, FEW = "generator", "generator-labelled"
ERROR_IMAGES = 2000
"""Training images whose reconstruction error is reported."""


@dataclass(frozen=True)
class FitPart:
    """What makes a generator."""

    fit: FitOptions
    seed: int
    out: Path


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
        """Where they are kept, named by what they depend on."""
        config = self.config
        tint = f"-tint{config.tint:g}" if config.tint else ""
        return config.cells / f"celeba-{config.target}-{config.labelled}{tint}-seed{self.seed}"

    @cached_property
    def device(self) -> torch.device:
        """Of all networks."""
        return make_fabric(self.config.device).device

    def has_generator(self, name: str) -> bool:
        """Whether a generator is there."""
        return (self.folder / name / GENERATOR).is_file()

    def is_done(self, method: str) -> bool:
        """Whether a method was trained and judged."""
        return (self.folder / method / f"{self.config.judge}-{FOUND}").is_file()

    def fit(self, name: str) -> None:
        """Generator and encoder, of all training images (`ALL`) or of the labelled ones (`FEW`)."""
        images = self.faces.unlabelled if name == ALL else self.faces.labelled
        out, options = self.folder / name, self.config.fit
        part = FitPart(options, self.seed, out)
        run = open_run(out, "study celeba: fit", part, True, {"images": images.fingerprint})
        trainee = AutoencoderTrainee(images, options, self.seed, make_fabric(self.config.device))
        loop = Loop(f"seed {self.seed}: {name}", options.steps(images.pixels.shape[-1]), out, run)
        loop.train(trainee)
        model = trainee.model.eval()
        metadata = {
            "data_fingerprint": images.fingerprint,
            "images": len(images),
            "fit_seconds": round(loop.seconds, 2),
            "reconstruction_mse": reconstruction_mse(model, images[:ERROR_IMAGES], self.device),
        }
        save_autoencoder(out, model, metadata)
        loop.finish()

    def generator(self, name: str) -> tuple[Autoencoder, dict[str, Any]]:
        """A generator with its encoder, on the device, and what its file says."""
        model, metadata = load_autoencoder(self.folder / name)
        return model.to(self.device), metadata

    def generator_of(self, method: str) -> str | None:
        """Which generator a method is trained with."""
        return ALL if method in NEEDS_ALL else FEW if method == "advmix-small" else None

    def kit(self, method: str) -> Kit:
        """What the method's recipe is made of."""
        config, name = self.config, self.generator_of(method)
        model = None if name is None else self.generator(name)[0]
        return Kit(self.faces.labelled, model, config.search, config.baseline, self.seed)

    def do(self, method: str) -> None:
        """Train, unless that is done, and judge."""
        config, out = self.config, self.folder / method
        part = ClassifierPart(method, config.train, config.search, config.baseline, self.seed, out)
        name = self.generator_of(method)
        inputs = {
            "images": self.faces.labelled.fingerprint,
            "generator": None if name is None else self.generator(name)[1]["fingerprint"],
        }
        run = open_run(out, "study celeba: classifier", part, True, inputs)
        kit = self.kit(method)
        if (out / CLASSIFIER).is_file():
            network, seconds = self._load(kit, method)
        else:
            network, seconds = self._train(kit, method, run)
        self._judge(method, network.to(self.device), seconds)

    def _train(self, kit: Kit, method: str, run: str) -> tuple[nn.Module, float]:
        recipe, out, options = kit.recipe(method), self.folder / method, self.config.train
        fabric = make_fabric(self.config.device)
        trainee = ClassifierTrainee(recipe.network, recipe.objective, recipe.images, options, self.seed, fabric)
        loop = Loop(f"seed {self.seed}: {method}", options.steps(recipe.images), out, run)
        loop.train(trainee)
        seconds = round(loop.seconds, 2)
        metadata = {"method": method, "train_seconds": seconds}
        write_tensors(out / CLASSIFIER, "classifier", recipe.network.state_dict(), metadata)
        loop.finish()
        return recipe.network, seconds

    def _load(self, kit: Kit, method: str) -> tuple[nn.Module, float]:
        tensors, metadata = read_tensors(self.folder / method / CLASSIFIER, "classifier")
        network = kit.network(method)
        network.load_state_dict(tensors)
        return network, float(metadata["train_seconds"])

    def _judge(self, method: str, network: nn.Module, seconds: float) -> None:
        """Keep, for each judged image, whether it is right, and for those that are searched what becomes of it: under
        the generator of all training images, whatever the method was trained with.
        """
        images, rows, config = self.faces.judged, self.searched(), self.config
        model, _ = self.generator(ALL)
        pool, search = encoded(self.faces.labelled, model.encoder), config.evaluation().mixer(model, stop_early=True)
        tried = verdicts(
            network,
            search,
            model.encoder,
            images[rows],
            pool,
            residual=config.baseline.residual,
            seed=self.seed,
            title=f"seed {self.seed}: worst case",
        )
        right = predict(network, images, self.device).argmax(dim=1) == images.labels
        found = {**tried.tensors(), "right": right, "searched": rows}
        facts = {"images": images.fingerprint, "train_seconds": seconds}
        write_tensors(self.folder / method / f"{config.judge}-{FOUND}", "celeba", found, facts)

    def searched(self) -> Tensor:
        """Which of the judged images are searched, the same for every method."""
        order = torch.randperm(len(self.faces.judged), generator=generator(self.seed, "celeba", "searched"))
        return order[: self.config.worst_images].sort().values

    def found(self, method: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `do` kept."""
        return read_tensors(self.folder / method / f"{self.config.judge}-{FOUND}", "celeba")

    def summary(self) -> dict[str, Any]:
        """What `results.json` says about the generators."""
        names = [name for name in (ALL, FEW) if self.has_generator(name)]
        keys = ("fingerprint", "images", "fit_seconds", "reconstruction_mse")
        return {name: {key: self.generator(name)[1][key] for key in keys} for name in names}
