"""Independently trained generators of one data set: what a classifier was trained with, and what else it is searched
with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from advmix.classifiers.networks import FILE as CLASSIFIER
from advmix.commands.encode import run_encode
from advmix.commands.evaluate import generator_summary
from advmix.commands.train import TrainConfig, run_train
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import FILE, load_autoencoder, save_autoencoder
from advmix.generators.style import NetworkConfig, StyleConfig
from advmix.training.autoencode import AutoencoderTrainee, FitOptions, reconstruction_mse, style_config
from advmix.training.encoding import EncodeConfig
from advmix.training.gan import gan_config
from advmix.training.loop import Loop
from advmix.utils.config import to_dict
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.progress import SECONDS_FILE
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import derive
from experiments.cells import Cell, make_cell

OWN, GAN = "own", "gan"


def with_grid(images: ImageSet, options: FitOptions) -> StyleConfig:
    """`z∥` is a spatial grid of a quarter of the image's side, as for photographs."""
    channels, side = int(images.pixels.shape[1]), int(images.pixels.shape[2])
    widths = style_config(images, replace(options, grid_channels=0)).widths[-3:]
    return StyleConfig(resolution=side, channels=channels, widths=widths, start=side // 4, grid_channels=8)


@dataclass(frozen=True)
class Regime:
    """A way of making a generator. Another one that learns by reconstruction is one more entry of `REGIMES`.

    Attributes:
        label: as a table calls it.
        meaning: a sentence.
        shape: images and options to the shape of the network.
    """

    label: str
    meaning: str
    shape: Callable[[ImageSet, FitOptions], NetworkConfig] = style_config


REGIMES = {
    OWN: Regime("own", "The generator that the cell's classifiers were trained with."),
    "seed": Regime("other seed", "The same network, trained on the same images from other weights in other batches."),
    "grid": Regime("grid z∥", "Another network: z∥ is a spatial grid; trained on the same images.", with_grid),
    GAN: Regime(
        "StyleGAN",
        "Another training: StyleGAN against a discriminator, then an encoder network for it; on the same images.",
        lambda images, _: gan_config(images),
    ),
}


def check_regimes(names: tuple[str, ...]) -> None:
    """Refuse a list that does not begin with the own generator, or names an unknown one, or one twice.

    Raises:
        UserError: saying which.
    """
    unknown = [name for name in names if name not in REGIMES]
    if unknown:
        raise UserError(f"--generators {unknown[0]}: unknown; choose from {' '.join(REGIMES)}")
    if names[:1] != (OWN,) or len(set(names)) < len(names):
        raise UserError(f"--generators {' '.join(names)}: begin with {OWN}, and name none twice")


@dataclass(frozen=True)
class OtherFit:
    """What made a generator that is not the cell's own: kept beside it, so that another one is refused.

    Args:
        data: the data set.
        data_seed: of its colours.
        fit: how it is trained.
        regime: one of `REGIMES`.
        seed: fixes the first weights and every batch.
        out: folder.
        device: as everywhere.
    """

    data: DataConfig
    data_seed: int
    fit: FitOptions
    regime: str
    seed: int
    out: Path
    device: str


def check_split(cell: Cell, names: tuple[str, ...], images: ImageSet) -> None:
    """Refuse a split that one of the generators does not have.

    Raises:
        UserError: naming the layer.
    """
    for name in names:
        cell.settings.search.split(REGIMES[name].shape(images, cell.settings.fit).layers)


def _home(cell: Cell, regime: str) -> tuple[Cell, str]:
    """The cell that keeps what is made with a generator, and what its folders' names end in: nothing where the
    generator is that cell's own. A StyleGAN is the one of `study pipeline`, of the same images.
    """
    if regime == GAN:
        origin = replace(cell.origin, regime=GAN)
        return make_cell(cell.folder.parent, cell.data, cell.seed, cell.settings, origin), ""
    return cell, "" if regime == OWN else f"-{regime}"


def fit_folder(cell: Cell, regime: str) -> Path:
    """Where a generator is kept."""
    home, end = _home(cell, regime)
    return home.folder / f"fit{end}"


def fit_lock(cell: Cell, regime: str) -> Path:
    """Held by the process that makes it."""
    home, end = _home(cell, regime)
    return home.folder / f".fit{end}.lock"


def latents_folder(cell: Cell, regime: str) -> Path:
    """Where the latents of the training set under a generator are kept."""
    home, end = _home(cell, regime)
    return home.place(f"latents{end}")


def classifier_name(method: str, trained_with: str = OWN) -> str:
    """What a classifier is called, trained with a generator that may not be the cell's own."""
    return method if trained_with == OWN else f"{method}-{trained_with}"


def classifier_folder(cell: Cell, method: str, trained_with: str = OWN) -> Path:
    """Where it is kept."""
    home, end = _home(cell, trained_with)
    return home.place(f"{method}{end}")


def is_fitted(cell: Cell, regime: str) -> bool:
    """Whether a generator and its latents are there."""
    return (latents_folder(cell, regime) / SECONDS_FILE).is_file()


def is_trained(cell: Cell, method: str, trained_with: str = OWN) -> bool:
    """Whether a classifier is there."""
    return (classifier_folder(cell, method, trained_with) / CLASSIFIER).is_file()


def fit(cell: Cell, regime: str) -> None:
    """Generator and latents, unless they are there."""
    home, end = _home(cell, regime)
    if not end:
        home.fit()
        return
    settings, out = cell.settings, fit_folder(cell, regime)
    seed = derive(cell.seed, "search", regime) % 2**31
    _fit_other(OtherFit(cell.data, cell.seed, settings.fit, regime, seed, out, settings.device), cell)
    run_encode(
        EncodeConfig(
            generator=out,
            perp=settings.search.perp,
            perp_grid=settings.search.perp_grid,
            out=latents_folder(cell, regime),
            device=settings.device,
            resume=True,
        )
    )


def _fit_other(config: OtherFit, cell: Cell) -> None:
    fabric, images = make_fabric(config.device), cell.check().train
    run = claim_run(config.out, "fit other", config, True, {"images": images.fingerprint})
    if (config.out / FILE).is_file():
        return
    shape = REGIMES[config.regime].shape(images, config.fit)
    assert isinstance(shape, StyleConfig)
    trainee = AutoencoderTrainee(images, config.fit, config.seed, fabric, shape)
    loop = Loop(f"fit generator: {config.regime}", config.fit.steps(images.pixels.shape[-1]), config.out, run)
    loop.train(trainee)
    model = trainee.model.eval()
    metadata = {
        "data": to_dict(config.data),
        "data_seed": config.data_seed,
        "data_fingerprint": images.fingerprint,
        "fit": to_dict(config.fit),
        "fit_seconds": round(loop.seconds, 2),
        "reconstruction_mse": reconstruction_mse(model, images, fabric.device),
    }
    save_autoencoder(config.out, model, metadata)
    loop.finish()


def summary(cell: Cell, regime: str) -> dict[str, Any]:
    """What `results.json` says about a generator."""
    metadata = load_autoencoder(fit_folder(cell, regime))[1]
    return {"seed": cell.seed, "regime": regime, **generator_summary(metadata)}


def train(cell: Cell, method: str, trained_with: str = OWN) -> None:
    """A classifier, unless it is there; alike but for the generator that it mixes with."""
    home, end = _home(cell, trained_with)
    if not end:
        home.train(method)
        return
    settings = cell.settings
    run_train(
        TrainConfig(
            method=method,
            generator=fit_folder(cell, trained_with),
            latents=latents_folder(cell, trained_with),
            train=settings.train,
            search=settings.search,
            baseline=settings.baseline,
            seed=cell.seed,
            out=classifier_folder(cell, method, trained_with),
            device=settings.device,
            resume=True,
        )
    )
