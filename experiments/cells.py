"""A cell of a study: one training set under one seed, with its generator and every classifier trained on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import experiments.paintings  # noqa: F401  its looks of digits
from advmix.classifiers.networks import FILE, load_classifier
from advmix.commands.demo import RunSettings
from advmix.commands.encode import run_encode
from advmix.commands.evaluate import EvaluateConfig, run_evaluate
from advmix.commands.fit import FitConfig, run_fit
from advmix.commands.train import TrainConfig, run_train
from advmix.data.colored import ColoredDigits
from advmix.data.datasets import open_data, painted_digits
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.optimize import OptimizeOptions
from advmix.generators.style import NetworkConfig
from advmix.mixing import FINEST, SearchOptions
from advmix.pools import FittedModel, load
from advmix.report.tables import RESULTS
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.encoding import EncodeConfig
from advmix.training.gan import GanOptions, InvertOptions, gan_config
from advmix.utils.device import open_device
from advmix.utils.errors import UserError, naming
from advmix.utils.progress import SECONDS_FILE, quietly, read_seconds
from experiments.controls import training
from experiments.jobs import Job


class Cell:
    """The parts, each made when asked for and kept in its folder; what is there already is not made again.

    >>> cell = Cell(Path("runs/cells/digits"), DataConfig(), seed=0, settings=RunSettings())
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
        settings: RunSettings,
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
        open_device(self.settings.device)
        digits = painted_digits(open_data(self.data, self.seed), "a study of painted digits")
        for images in (digits.train, digits.shuffled):
            self.settings.search.split(self.origin.network(images, self.settings.fit).layers)
        return digits

    def is_fitted(self) -> bool:
        """Whether generator and latents are there."""
        return (self.latents / SECONDS_FILE).is_file()

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
            run_train(training(method, config, self.data))

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
        results = run_evaluate(
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
        results["runs"][0]["method"] = method  # a control of equal compute is another method, to `train`
        return results

    def mixable(self, device: torch.device) -> FittedModel:
        """Generator, encoder and pool, made first where they are not there."""
        self.fit()
        return load(self.fitted, self.latents, device)

    def classifier(self, method: str, device: torch.device) -> nn.Module:
        """A trained classifier in eval mode, made first where it is not there."""
        self.fit()
        self.train(method)
        return load_classifier(self.place(method))[0].to(device)


SHARD_SIZE = 512

"""Images per file where each is optimised: what is lost at most when that is stopped."""


@dataclass(frozen=True)
class Origin:
    """The regime of `fit` and the encoder of `encode`, with the settings of these; the default is a cell's as ever.

    >>> Origin("gan", "refine", optimize=OptimizeOptions(optimize_steps=100))

    Args:
        regime: `autoencode` or `gan`.
        encoder: `network`, `mean` or `refine`: what encodes the training set, and test images after it.
        gan: how StyleGAN is trained.
        invert: how its encoder network is.
        optimize: settings of Algorithm 2.
        features: whether Algorithm 2 compares images by the features of StyleGAN's discriminator, too.
    """

    regime: str = "autoencode"
    encoder: str = "network"
    gan: GanOptions = field(default_factory=GanOptions)
    invert: InvertOptions = field(default_factory=InvertOptions)
    optimize: OptimizeOptions = field(default_factory=OptimizeOptions)
    features: bool = False

    @property
    def folder_tags(self) -> tuple[str, str]:
        """What tells it from the default in the names of folders: regime, encoder; empty where they are the default."""
        default = Origin()
        encoder = "" if self.encoder == default.encoder else self.encoder
        return "" if self.regime == default.regime else self.regime, f"{encoder}{'-features' if self.features else ''}"

    def network(self, images: ImageSet, fit: FitOptions) -> NetworkConfig:
        """The generator's shape for such images."""
        if self.regime == "gan":
            return gan_config(images, self.gan.gan_channels)
        return style_config(images, fit)

    def fitting(self, fit: FitOptions) -> dict[str, Any]:
        """The fields of `FitConfig` that matter: settings of the other regime are no part of what is made."""
        if self.regime == "gan":
            return {"regime": self.regime, "gan": self.gan, "invert": self.invert}
        return {"fit": fit}

    def encoding(self, fitted: Path) -> dict[str, Any]:
        """The fields of `EncodeConfig` that matter, for a generator's folder; a network has no settings."""
        if self.encoder == "network":
            return {}
        features = {"features": str(fitted)} if self.features else {}
        return {"encoder": self.encoder, "optimize": self.optimize, "shard_size": SHARD_SIZE, **features}


REFERENCE = "ceiling"

"""How the classifier was trained that says what an image shows: on unbiased colours."""


@dataclass(frozen=True)
class StudySettings(RunSettings):
    """Digits under a look, in cells.

    Args:
        data: `mnist`, `digits` (no download), `fashion-mnist` or `kmnist`.
        data_dir: folder in torchvision's layout.
        look: `colored`, `double-colored` or `wildlife`.
        train_images: default all 1,297 of `digits`, 12,000 of the others.
        test_images: default all.
        cells: folder of all that is trained; shared by the studies.
    """

    data: str = "mnist"
    data_dir: Path = Path("data")
    look: str = "colored"
    train_images: int | None = None
    test_images: int | None = None
    cells: Path = Path("runs/cells")

    def data_config(self, **others: Any) -> DataConfig:
        """The data set; `others` are the fields of `DataConfig` that a study varies."""
        ours = {
            "data": self.data,
            "data_dir": self.data_dir,
            "look": self.look,
            "train_images": self.train_images,
            "test_images": self.test_images,
        }
        return DataConfig(**{**ours, **others})

    def cell(self, seed: int, data: DataConfig, origin: Origin | None = None) -> Cell:
        """A data set under a seed, with generator and latents of some origin."""
        return make_cell(self.cells, data, seed, self, origin)


@dataclass(frozen=True)
class OneSpreadSettings(StudySettings):
    """The same, where one spread of the colours is enough.

    Args:
        color_std: standard deviation of the colours in training.
    """

    color_std: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data_config()

    def data_config(self, **others: Any) -> DataConfig:
        """The data set."""
        return super().data_config(color_std=self.color_std, **others)


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse an empty list, and a seed named twice.

    Raises:
        UserError: repeating the list.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {' '.join(map(str, seeds))}: name at least one, and none twice")


def make_cell(root: Path, data: DataConfig, seed: int, settings: RunSettings, origin: Origin | None = None) -> Cell:
    """The cell of a data set under a seed, in a folder that says which it is. Every study takes its cells from here.

    Another regime has a folder of its own. Another encoder or split shares the cell's generator, and has a subfolder
    for the rest.
    """
    origin = origin or Origin()
    regime, encoder = origin.folder_tags
    spread = f"std{data.color_std:g}" if data.color_variance is None else f"var{data.color_variance:g}"
    look = "" if data.look == "colored" else f"-{data.look}"
    target = "" if data.target == "digit" else f"-{data.target}"
    size = "" if data.train_images is None else f"-{data.train_images}"
    name = f"{data.data}{size}{look}-{spread}{target}{regime and '-'}{regime}-seed{seed}"
    subfolder = "-".join(filter(None, (encoder, _split_tag(settings.search))))
    return Cell(root / name, data, seed, settings, subfolder, origin=origin)


def _split_tag(search: SearchOptions) -> str:
    if (search.perp, search.perp_grid) == (FINEST.perp, FINEST.perp_grid):
        return ""
    return f"perp{'.'.join(map(str, search.perp))}{'grid' if search.perp_grid else ''}"
