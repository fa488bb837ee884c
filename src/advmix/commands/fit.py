"""`advmix fit`: train a generator and its encoder on a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from advmix.classifiers.open import OpenClassifier
from advmix.commands.encode import encode_images
from advmix.commands.sample import sample_grid
from advmix.data.datasets import Images, open_data, open_images
from advmix.data.images import ImageSet, slices
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import FILE, Autoencoder, fingerprint, load_autoencoder, save_autoencoder
from advmix.generators.stylegan import MappedGenerator
from advmix.latents import Latents, Split
from advmix.pools import LATENTS, FittedModel, check_size, in_size, load
from advmix.report.figures import mixing_grid
from advmix.report.page import save_figures
from advmix.training.autoencode import AutoencoderTrainee, FitOptions, reconstruction_mse, style_shape
from advmix.training.discriminator import Discriminator, save_discriminator
from advmix.training.encoding import EncodeConfig
from advmix.training.features import (
    Features,
    PenultimateFeatures,
    activations,
    class_shares,
    features_input,
    frechet_distance,
    open_features,
)
from advmix.training.gan import FLAT, GanOptions, GanTrainee, InvertOptions, InvertTrainee
from advmix.training.loop import Loop
from advmix.training.reference import open_judge
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import Settings, check_values, to_dict
from advmix.utils.device import MachineOptions, local_first, make_fabric, open_device
from advmix.utils.errors import UserError
from advmix.utils.files import folder_for, with_folder
from advmix.utils.memory import in_parts
from advmix.utils.progress import console, quietly
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric


REGIMES = ("autoencode", "gan", "invert")
Fitted = tuple[Autoencoder, list[Loop], dict[str, Any], Discriminator | None]
"""What was trained, the loops that did it, what the file says of how, and the discriminator, if there was one."""


@dataclass(frozen=True)
class FitConfig(Settings):
    """Train a style generator and its encoder on the (biased) training images alone.

    Writes generator.safetensors, log.jsonl and config.json; with the regime gan also discriminator.safetensors,
    samples.png and mixing.png, and the logs of its two trainings in gan and encoder.

    Args:
        data: the data set.
        regime: `autoencode` (generator and encoder together, by reconstruction), `gan` (StyleGAN, then its encoder) or
            `invert` (an encoder for a generator that is finished).
        generator: folder that import wrote (regime invert); your own images are read in its size.
        fit: how they are trained together.
        gan: how StyleGAN is trained.
        invert: how its encoder is trained.
        arithmetic: how networks are computed; --compile in the regime autoencode alone.
        features: what compares images: in training (autoencode, with --perceptual-weight) a classifier as --classifier
            names one, or a folder with the discriminator that the regime gan kept; of generated ones at the end (gan) a
            classifier, which also counts their classes if it tells these apart.
        trust_code: whether a function that a file names (a .json, a saved config) may be called, too.
        seed: fixes the data's colours, the first weights and every batch.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        machines: how many processes share each batch.
        resume: go on with a run that was stopped; it ends in the same weights as one that was not.
        checkpoint_seconds: time between checkpoints.
    """

    data: DataConfig = field(default_factory=DataConfig)
    regime: str = "autoencode"
    generator: Path | None = None
    fit: FitOptions = field(default_factory=FitOptions)
    gan: GanOptions = field(default_factory=GanOptions)
    invert: InvertOptions = field(default_factory=InvertOptions)
    arithmetic: ArithmeticOptions = field(default_factory=ArithmeticOptions)
    features: str | None = None
    trust_code: bool = False
    seed: int = 0
    out: Path = Path("runs/fit")
    device: str = "auto"
    machines: MachineOptions = field(default_factory=MachineOptions)
    resume: bool = False
    checkpoint_seconds: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "checkpoint_seconds", least=0)
        if self.regime not in REGIMES:
            raise UserError(f"--regime {self.regime}: unknown; choose from {' '.join(REGIMES)}")
        if self.regime == "autoencode" and (self.features is None) == (self.fit.perceptual_weight > 0):
            raise UserError(f"--perceptual-weight {self.fit.perceptual_weight}: goes together with --features")
        if (self.regime == "invert") != (self.generator is not None):
            raise UserError("--regime invert and --generator go together: name what import wrote")
        self._check_size()
        if self.regime != "autoencode" and self.arithmetic.compile:
            raise UserError("--compile: only with --regime autoencode; a GAN's penalty is differentiated twice")

    def _check_size(self) -> None:
        """Refuse own images of a size that the network cannot draw before any is read."""
        shape = self.data.photos
        if not self.data.is_painted and self.regime != "invert":
            style_shape(shape.channels, shape.size, self.fit if self.regime == "autoencode" else FLAT)


def run_fit(config: FitConfig) -> None:
    """Fit, unless `out` holds the finished result already.

    Raises:
        UserError: bad input, or a loss that is not finite.
    """
    fit_images(config, None)


def fit(
    images: Images,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    precision: str = "32",
    compile: bool = False,
    **settings: Any,
) -> FittedModel:
    """A generator of images and its encoder, trained together by reconstruction, with the pool of the training images.

    >>> model = advmix.fit(advmix.open_images("photos", size=64), fit_steps=2000)
    >>> model.generator, model.encoder, model.split, model.pool
    >>> model.save("runs/model")

    Args:
        images: what `open_images` returned, or anything that it takes; labels are not looked at.
        seed: fixes the first weights and every batch.
        out: folder for everything; by default a temporary one, which goes with the model: see `FittedModel.save`.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped, in `out`.
        precision, compile: how networks are computed: see `advmix.utils.arithmetic.ArithmeticOptions`.
        settings: fields of `FitOptions`, such as `fit_steps` and `grid_channels`.

    Raises:
        UserError: bad input, or a loss that is not finite.
    """
    data = open_images(images, seed=seed)
    with folder_for(out) as folder:
        options, how = FitOptions(**settings), ArithmeticOptions(precision, compile)
        config = FitConfig(
            data.config, fit=options, arithmetic=how, seed=seed, out=folder, device=device, resume=resume
        )
        fit_images(config, data.train)
        pool = EncodeConfig(folder, data.config, out=folder / LATENTS, seed=seed, device=device, resume=True)
        place = open_device(device)
        encode_images(pool, data, place)
        model = load(folder, device=place)
    return model if out is not None else with_folder(model, folder)


def fit_images(config: FitConfig, images: ImageSet | None) -> None:
    """The same, with the training images, where they are there already.

    Raises:
        UserError: bad input, or a loss that is not finite.
    """
    fabric = make_fabric(config.device, config.machines, config.arithmetic.precision)
    config = replace(config, arithmetic=config.arithmetic.on(fabric.device))
    with quietly(not fabric.is_global_zero):
        finished = None if config.generator is None else FinishedGenerator.open(config.generator)
        if finished is not None:
            config = replace(config, data=in_size(config.data, finished.dec))
        if images is None:
            with local_first(fabric):
                images = open_data(config.data, config.seed).train
        features, judge = _open_features(config, images), _open_judge(config, images)
        inputs, judges = _inputs(config, images, finished, features, fabric), features_input(judge)
        with open_run(config.out, "fit", config, config.resume, inputs, judges, fabric=fabric) as run:
            if (config.out / FILE).is_file():
                console.print(f"  done already: {config.out / FILE}")
            else:
                fitted = _trained(config, images, finished, features, fabric, run)
                if fabric.is_global_zero:
                    _keep(config, images, *fitted)
            if fabric.is_global_zero and judge is not None:
                _judge(config, images, judge, fabric)


def _open_features(config: FitConfig, images: ImageSet) -> Features | None:
    """What compares images in training."""
    if config.features is None or config.regime != "autoencode":
        return None
    return open_features(config.features, images.shape, config.trust_code)


def _open_judge(config: FitConfig, images: ImageSet) -> OpenClassifier | None:
    """What judges generated images. What it is not fit for is said before hours of training."""
    if config.features is None or config.regime == "autoencode":
        return None
    judge = open_judge(config.features, images, config.trust_code)
    activations(judge)
    if judge.classes != images.classes:
        console.print(
            f"  {judge.name}: of other classes; samples are compared by its features, and not counted by class"
        )
    return judge


def _inputs(
    config: FitConfig, images: ImageSet, finished: FinishedGenerator | None, features: Features | None, fabric: Fabric
) -> dict[str, str | None]:
    """What training reads, by its fingerprint. Of StyleGAN's noise each process draws its own, so that their number
    counts, too.
    """
    inputs: dict[str, str | None] = {"images": images.fingerprint, **features_input(features)}
    if config.regime == "gan":
        inputs["number of devices"] = str(fabric.world_size)
    if finished is not None:
        check_size(images, finished.dec)
        inputs["generator"] = finished.metadata["fingerprint"]
    return inputs


def _trained(
    config: FitConfig,
    images: ImageSet,
    finished: FinishedGenerator | None,
    features: Features | None,
    fabric: Fabric,
    run: str,
) -> Fitted:
    if finished is not None:
        return _invert(finished, config, images, fabric, run)
    if config.regime == "gan":
        return _gan(config, images, fabric, run)
    return _autoencode(config, images, features, fabric, run)


def _autoencode(config: FitConfig, images: ImageSet, features: Features | None, fabric: Fabric, run: str) -> Fitted:
    compared = None if features is None else features.network.requires_grad_(False).to(fabric.device)
    parts = images, config.fit, config.seed, fabric
    trainee = AutoencoderTrainee(*parts, features=compared, compiled=config.arithmetic.compile)
    steps = trainee.options.steps(images.pixels.shape[-1])
    loop = Loop("fit generator and encoder", steps, config.out, run, config.checkpoint_seconds)
    loop.train(trainee)
    return trainee.model, [loop], {"fit": to_dict(config.fit)}, None


def _gan(config: FitConfig, images: ImageSet, fabric: Fabric, run: str) -> Fitted:
    fit = GanFit(images, config.gan, config.invert, config.seed, config.out, run, config.checkpoint_seconds)
    model, loops, discriminator = fit.train(fabric)
    return model, loops, fit.settings(), discriminator


def _invert(finished: FinishedGenerator, config: FitConfig, images: ImageSet, fabric: Fabric, run: str) -> Fitted:
    steps = config.invert.steps(finished.dec.resolution)
    loop = Loop("fit encoder", steps, config.out, run, config.checkpoint_seconds)
    model = finished.train(images, config.invert, config.seed, fabric, loop)
    return model, [loop], finished.settings(config.invert), None


def _keep(
    config: FitConfig,
    images: ImageSet,
    model: Autoencoder,
    loops: list[Loop],
    settings: dict[str, Any],
    discriminator: Discriminator | None,
) -> None:
    """Write the result, the generator last, and say how good it is."""
    mse = reconstruction_mse(model.eval(), images, next(model.parameters()).device)
    metadata = {
        **({"data": to_dict(config.data)} if config.data.data else {}),
        "data_seed": config.seed,
        "data_fingerprint": images.fingerprint,
        **settings,
        "log_sha256": [loop.log_digest for loop in loops],
        "fit_seconds": round(sum(loop.seconds for loop in loops), 2),
        "reconstruction_mse": mse,
    }
    if discriminator is not None:
        save_discriminator(config.out, discriminator)
    save_autoencoder(config.out, model, metadata)
    console.print(
        f"  generator in {config.out / FILE}: reconstruction error {mse:.4f} (mean square, images in [-1, 1])"
    )


def _judge(config: FitConfig, images: ImageSet, judge: OpenClassifier, fabric: Fabric) -> None:
    """Add to the file how good what is made up is, unless that is there. Whatever goes wrong, the file stays."""
    model, metadata = load_autoencoder(config.out)
    if "frechet_distance" in metadata:
        return
    dec = model.to(fabric.device).generator
    assert isinstance(dec, MappedGenerator)  # all that is trained otherwise than by reconstruction
    metadata |= measure_samples(dec, images, judge.network, config.seed, judge.classes == images.classes)
    save_autoencoder(config.out, model, metadata)
    said = f"  Fréchet distance {metadata['frechet_distance']:.2f} under the features of {config.features}"
    if "class_shares" in metadata:
        shares = metadata["class_shares"].values()
        said += (
            f"; {min(shares):.1%} to {max(shares):.1%} of each class among {metadata['class_shares_samples']:,} samples"
        )
    console.print(said)


SAMPLES, GRID_ROWS, GRID_COLUMNS, AT_ONCE = 128, 7, 9, 256

CLASS_SAMPLES = 1000

"""Samples whose classes are counted."""


@dataclass(frozen=True)
class GanFit:
    """The two trainings of one run, one after the other; both go on where they were stopped.

    Args:
        images: what is imitated.
        gan: how the generator is trained.
        invert: how its encoder is.
        seed: fixes everything.
        out: folder; checkpoints and logs go to `gan` and `encoder` in it.
        run: identifies the run.
        checkpoint_seconds: time between checkpoints.
    """

    images: ImageSet
    gan: GanOptions
    invert: InvertOptions
    seed: int
    out: Path
    run: str
    checkpoint_seconds: float

    def train(self, fabric: Fabric) -> tuple[Autoencoder, list[Loop], Discriminator]:
        """Generator with encoder, the loops that made them, and the discriminator."""
        side = self.images.pixels.shape[-1]
        gan = GanTrainee(self.images, self.gan, self.seed, fabric)
        first = self._loop("fit StyleGAN", "gan", self.gan.steps(side))
        first.watch = lambda done: self._preview(gan.average, done, first.steps)
        first.train(gan)
        encoder = InvertTrainee(gan.average, self.images, self.invert, self.seed, fabric, self.gan.style_mixing)
        second = self._loop("fit encoder", "encoder", self.invert.steps(side))
        second.train(encoder)
        return encoder.model, [first, second], gan.discriminator

    def _loop(self, title: str, folder: str, steps: int) -> Loop:
        return Loop(title, steps, self.out / folder, self.run, self.checkpoint_seconds)

    def _preview(self, dec: MappedGenerator, done: int, steps: int) -> None:
        if done % self.gan.preview_every == 0 or done == steps:
            save_figures(draw_preview(dec, self.seed), self.out)

    def settings(self) -> dict[str, Any]:
        """What the file says about how it was made."""
        return {"regime": "gan", "gan": to_dict(self.gan), "invert": to_dict(self.invert)}


def draw_preview(dec: MappedGenerator, seed: int) -> dict[str, Figure]:
    """Samples and mixes of them, always of the same draws, so that pictures of one run can be compared."""
    latents = dec.sample(SAMPLES, generator(seed, "preview"), mixing=0)
    return {"samples": sample_grid(_rgb(dec, latents)), "mixing": mixing_figure(dec, latents)}


@torch.no_grad()
def _rgb(dec: MappedGenerator, latents: Latents) -> Tensor:
    images: Tensor = dec(latents)
    return images.expand(-1, 3, -1, -1)


def mixing_figure(dec: MappedGenerator, latents: Latents) -> Figure:
    """Rows: the first samples, without their two finest layers. Columns: the samples that lend these two."""
    split = Split.fine(dec.layers, 2)
    device = latents.styles.device
    rows = torch.arange(GRID_ROWS, device=device).repeat_interleave(GRID_COLUMNS)
    columns = torch.arange(GRID_COLUMNS, device=device).repeat(GRID_ROWS) + GRID_ROWS
    mixes = _rgb(dec, split.combine(latents[rows], latents[columns]))
    lent = latents[GRID_ROWS : GRID_ROWS + GRID_COLUMNS]
    return mixing_grid(_rgb(dec, latents[:GRID_ROWS]), _rgb(dec, lent), mixes, "its coarse layers", "its two finest")


def measure_samples(
    dec: MappedGenerator, images: ImageSet, classifier: nn.Module, seed: int, counted: bool = True
) -> dict[str, Any]:
    """Fréchet distance between training images and as many samples under the features of a classifier; if `counted`,
    the share of each class that it sees among `CLASS_SAMPLES` samples, beside its share of the training set's labels.

    Args:
        dec: makes the samples up.
        images: of the training set.
        classifier: images in [0, 1] to logits.
        seed: of the samples.
        counted: whether the logits are of the classes of the images.
    """
    device = dec.mean_style.device
    network = classifier.to(device)
    counts = _class_shares(dec, images, network, seed) if counted else {}
    real = (images.batch(part)[0].to(device) for part in slices(len(images), AT_ONCE))
    fake = _samples(dec, len(images), seed)
    return {
        "frechet_distance": frechet_distance(real, fake, PenultimateFeatures(network)),
        "frechet_features": fingerprint(network),
        **counts,
    }


def _class_shares(dec: MappedGenerator, images: ImageSet, network: nn.Module, seed: int) -> dict[str, Any]:
    shares = class_shares(_samples(dec, CLASS_SAMPLES, seed), network)
    return {
        "class_shares": dict(zip(images.classes, shares.tolist(), strict=True)),
        "class_shares_samples": CLASS_SAMPLES,
        "class_shares_real": dict(zip(images.classes, _real_shares(images).tolist(), strict=True)),
    }


def _real_shares(images: ImageSet) -> Tensor:
    return images.labels.bincount(minlength=len(images.classes)).double() / len(images)


@torch.no_grad()
def _samples(dec: MappedGenerator, count: int, seed: int) -> Iterator[Tensor]:
    rng = generator(seed, "judged")
    for part in slices(count, AT_ONCE):
        latents = dec.sample(part.stop - part.start, rng, mixing=0)
        yield from in_parts(partial(_decoded, dec, latents), len(latents), latents.styles.device)


def _decoded(dec: MappedGenerator, latents: Latents, rows: slice) -> Tensor:
    images: Tensor = dec(latents[rows])
    return images


@dataclass(frozen=True, eq=False)
class FinishedGenerator:
    """A generator that an encoder is wanted for, and what its file says of it."""

    dec: MappedGenerator
    metadata: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> FinishedGenerator:
        """The generator of an `import` folder, or of a GAN's `fit`.

        Raises:
            UserError: one that makes nothing up, so that there is nothing to learn from.
        """
        model, metadata = load_autoencoder(folder)
        if not isinstance(model.generator, MappedGenerator):
            raise UserError(f"--generator {folder}: trained together with its encoder; this is for GANs and imports")
        return cls(model.generator, metadata)

    def train(self, images: ImageSet, options: InvertOptions, seed: int, fabric: Fabric, loop: Loop) -> Autoencoder:
        """The generator with an encoder network."""
        trainee = InvertTrainee(self.dec.to(fabric.device), images, options, seed, fabric, from_mean=True)
        loop.train(trainee)
        return trainee.model

    def settings(self, options: InvertOptions) -> dict[str, Any]:
        """What the file says about how it was made."""
        origin = {"imported": self.metadata["imported"]} if "imported" in self.metadata else {}
        return {"regime": "invert", "invert": to_dict(options), **origin}
