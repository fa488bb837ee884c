"""A cell of a study: one training set under one seed, with its generator and every classifier trained on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advmix.classifiers import load_classifier
from advmix.classifiers.trained import FILE
from advmix.clock import KEPT, read_seconds
from advmix.data import ColoredDigits, DataConfig, open_data, painted_digits
from advmix.engine import make_fabric
from advmix.errors import naming
from advmix.options import require
from advmix.progress import quietly
from advmix.results import RESULTS
from advmix.stages.encode import EncodeConfig, run_encode
from advmix.stages.evaluate import EvaluateConfig, run_evaluate
from advmix.stages.fit import FitConfig, run_fit
from advmix.stages.sources import Mixable, load_mixable
from advmix.stages.train import TrainConfig, run_train
from advmix.studies.origin import Origin
from advmix.studies.share import Job
from advmix.training.autoencode import FitOptions
from advmix.training.classify import TrainOptions
from advmix.training.methods import BaselineOptions, SearchOptions


@dataclass(frozen=True)
class CellSettings:
    """How the parts of a cell are made.

    Args:
        fit: how generator and encoder are trained.
        train: how every classifier is trained.
        search: Algorithm 1's settings in training.
        baseline: settings of the other methods.
        worst_restarts: restarts of the search for the worst case; its step and radius are the training's.
        worst_steps: its gradient steps per restart.
        worst_images: worst cases are looked for on at most so many test images.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    fit: FitOptions = field(default_factory=FitOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    baseline: BaselineOptions = field(default_factory=BaselineOptions)
    worst_restarts: int = 5
    worst_steps: int = 5
    worst_images: int = 1000
    device: str = "auto"

    def __post_init__(self) -> None:
        require(self, "worst_restarts worst_images", least=1)
        require(self, "worst_steps", least=0)

    def evaluation(self) -> SearchOptions:
        """The search for the worst case."""
        return replace(self.search, restarts=self.worst_restarts, steps=self.worst_steps)


class Cell:
    """The parts, each made when asked for and kept in its folder; what is there already is not made again.

    >>> cell = Cell(Path("runs/cells/digits"), DataConfig(), seed=0, settings=CellSettings())
    >>> cell.fit()                                  # generator, encoder, latents
    >>> cell.train("advmix"), cell.evaluate("advmix")
    >>> cell.mixable(device), cell.classifier("advmix", device)

    Args:
        folder: where everything is kept.
        data: the data set.
        seed: fixes everything.
        settings: how the parts are made; a part that was made otherwise is refused.
        subfolder: for all but the generator, where several splits or encoders share one.
        flag: the option that says where cells are kept.
        origin: where generator and latents come from.
    """

    def __init__(
        self,
        folder: Path,
        data: DataConfig,
        seed: int,
        settings: CellSettings,
        subfolder: str = "",
        flag: str = "--cells",
        origin: Origin | None = None,
    ) -> None:
        self.folder, self.data, self.seed, self.settings = folder, data, seed, settings
        self.subfolder, self.flag, self.origin = subfolder, flag, origin or Origin()
        self.fitted, self.latents = folder / "fit", self.place("latents")

    @property
    def name(self) -> str:
        """Of the folder."""
        return " ".join([self.folder.name, self.subfolder]).rstrip()

    def place(self, part: str) -> Path:
        """The folder of the latents or of a classifier."""
        return self.folder / self.subfolder / part

    def check(self) -> ColoredDigits:
        """Whatever is wrong with device, data or split is said before anything is written."""
        make_fabric(self.settings.device)
        digits = painted_digits(open_data(self.data, self.seed), "a study of painted digits")
        for images in (digits.train, digits.shuffled):
            self.settings.search.split(self.origin.network(images, self.settings.fit).layers)
        return digits

    def is_fitted(self) -> bool:
        """Whether generator and latents are there."""
        return (self.latents / KEPT).is_file()

    def is_trained(self, method: str) -> bool:
        """Whether a classifier is there."""
        return (self.place(method) / FILE).is_file()

    def is_evaluated(self, method: str) -> bool:
        """Whether the evaluation of a classifier is there."""
        return (self.place(method) / "evaluation" / RESULTS).is_file()

    def fit(self) -> None:
        """Generator and encoder from the biased images alone, and the latents of these."""
        settings, search, origin = self.settings, self.settings.search, self.origin
        common: dict[str, Any] = {"device": settings.device, "resume": True}
        split: dict[str, Any] = {"perp": search.perp, "perp_grid": search.perp_grid}
        with self._making(self.is_fitted()):
            fitting = origin.fitting(settings.fit)
            run_fit(FitConfig(data=self.data, **fitting, seed=self.seed, out=self.fitted, **common))
            encoding = origin.encoding(self.fitted)
            run_encode(EncodeConfig(generator=self.fitted, out=self.latents, **encoding, **split, **common))

    def fit_job(self) -> Job:
        """`fit`, once among all processes; cells that share a generator take turns."""
        return Job(f"{self.name}: generator", self.folder / ".fit.lock", lambda: True, self.is_fitted, self.fit)

    @contextmanager
    def _making(self, is_done: bool) -> Iterator[None]:
        """Say nothing where there is nothing to do, and name the right option where the folder is another run's."""
        with naming(self.flag), quietly(is_done):
            yield

    def encode_seconds(self) -> float:
        """What encoding the training set took."""
        return read_seconds(self.latents).get("encode_seconds", 0.0)

    def train(self, method: str) -> None:
        """A classifier."""
        settings = self.settings
        config = TrainConfig(
            method=method,
            generator=self.fitted,
            latents=self.latents,
            train=settings.train,
            search=settings.search,
            baseline=settings.baseline,
            seed=self.seed,
            out=self.place(method),
            device=settings.device,
            resume=True,
        )
        with self._making(self.is_trained(method)):
            run_train(config)

    def train_job(self, method: str) -> Job:
        """`train`, once among all processes."""
        done, do = partial(self.is_trained, method), partial(self.train, method)
        return Job(f"{self.name}: {method}", self.place(f".{method}.lock"), self.is_fitted, done, do)

    def evaluate(self, method: str, home: Cell | None = None) -> dict[str, Any]:
        """Its accuracies, and worst cases under this cell's generator: what `results.json` of its evaluation holds.

        Args:
            method: how the classifier was trained.
            home: the cell where it was, if not here.
        """
        settings = self.settings
        return run_evaluate(
            EvaluateConfig(
                classifier=str((home or self).place(method)),
                generator=self.fitted,
                latents=self.latents,
                search=settings.evaluation(),
                worst_images=settings.worst_images,
                seed=self.seed,
                out=self.place(method) / "evaluation",
                device=settings.device,
                resume=True,
            ),
            show=False,
        )

    def mixable(self, device: torch.device) -> Mixable:
        """Generator, encoder and pool, made first where they are not there."""
        self.fit()
        mixable = load_mixable(self.fitted, self.latents, device)
        assert mixable is not None
        return mixable

    def classifier(self, method: str, device: torch.device) -> nn.Module:
        """A trained classifier in eval mode, made first where it is not there."""
        self.fit()
        self.train(method)
        return load_classifier(self.place(method))[0].to(device)
