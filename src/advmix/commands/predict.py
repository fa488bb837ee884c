"""The images that `advmix predict` is asked about: labelled or not, of any data set."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.commands.encode import open_model
from advmix.commands.evaluate import generator_summary
from advmix.data.colored import ColoredDigits
from advmix.data.datasets import Data, GivenImages, OwnImages, open_data
from advmix.data.images import ImageSet, slices
from advmix.data.photos.decode import Broken, PhotoShape
from advmix.data.photos.load import load_pictures
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import DEFAULT_GENERATOR
from advmix.encoders.store import PoolOptions
from advmix.marginalized import Marginalized
from advmix.mixing import usual_split
from advmix.pools import FittedModel, fingerprints_of, load, own_data, remembered
from advmix.report.tables import RESULTS, header
from advmix.utils.config import check_values
from advmix.utils.device import MachineOptions, in_first_process, is_first, local_first, open_processes, own_turns
from advmix.utils.errors import UserError
from advmix.utils.files import atomic_write, hexdigest, read_json, read_tensors, write_json, write_tensors
from advmix.utils.memory import RowBudget
from advmix.utils.progress import PhaseTimer, console, quietly, track
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import answers, eval_mode, probabilities

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PAINTED = ("train", "test", "biased", "shuffled", "uniform")

PARTS = ("train", "val", "test", "biased", "shuffled", "uniform")


@dataclass(frozen=True)
class PictureOptions:
    """Which images.

    Args:
        data: the images; by default those of the classifier's folder or of the generator, as other flags change them.
            Own images are read in the size that the classifier wants, unless one is given.
        part: `train`, `val` or `test`; of painted digits also `biased`, `shuffled` (which is `test`) or `uniform`.
        unlabelled: all images of the folder or .zip archive, or the part of a library's, whatever is said about them
            there.
    """

    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    part: str = "test"
    unlabelled: bool = False

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """`(C, H, W)` of own images, as the flags say it; None for painted digits, and where none are named."""
        photos = self.data.photos
        return None if self.data.is_painted or not self.data.data else (photos.channels, photos.size, photos.size)

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise UserError(f"--part {self.part}: unknown; choose from {' '.join(PARTS)}")
        if self.unlabelled and (self.data.is_painted or not self.data.data):
            unlike = f", not {self.data.data}" if self.data.data else ""
            raise UserError(f"--unlabelled: name a folder or .zip archive with --data{unlike}")


@dataclass(frozen=True, eq=False)
class NamedImages:
    """N images.

    Attributes:
        pixels: `(N, C, H, W)`, uint8.
        names: how a person finds each one again.
        labels: `(N,)`, class indices; None where unknown.
        classes: their names; None where unknown.
        broken: images that could not be read and were left out.
        data: the data set that they are of; None where it has no other images.
    """

    pixels: Tensor
    names: tuple[str, ...]
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    broken: tuple[Broken, ...] = ()
    data: Data | None = None

    @property
    def donors(self) -> Data:
        """Whose z⊥ are drawn by default: the training images of the same data set, else these."""
        if self.data is not None:
            return self.data
        images = ImageSet(self.pixels, torch.zeros(len(self.pixels), dtype=torch.int64), ("",))
        return GivenImages(images, images)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any pixel, name or label."""
        labels = () if self.labels is None else (self.labels,)
        return hexdigest(repr((tuple(self.pixels.shape), self.names, self.classes)), self.pixels, *labels)


@dataclass(frozen=True, eq=False)
class Sources:
    """What knows of images: the classifier, and the generator where there is one.

    Attributes:
        opened: the classifier.
        folder: where `train` wrote it, if it did.
        mixable: the generator with its latents.
        generator: where `fit` wrote it.
    """

    opened: OpenClassifier
    folder: Path | None = None
    mixable: FittedModel | None = None
    generator: Path | None = None

    def data(self, flags: DataConfig) -> Data | None:
        """The data set of the classifier, else of the generator, with what flags without --data say laid over it."""
        if self.folder is not None:
            return own_data(self.opened.metadata, self.folder, flags)
        if self.mixable is not None and self.generator is not None:
            return own_data(self.mixable.metadata, self.generator, flags)
        return None

    def shaped(self, shape: PhotoShape) -> PhotoShape:
        """With the size and channels that the classifier wants, else the generator's, where nothing else is said."""
        dec = None if self.mixable is None else self.mixable.generator
        channels, side = (None, self.opened.input_size) if self.opened.image is None else self.opened.image[:2]
        if dec is not None:
            channels, side = channels or dec.channels, side or dec.resolution
        usual = PhotoShape()
        if side is not None and shape.size == usual.size:
            shape = replace(shape, size=side)
        if channels is not None and shape.channels == usual.channels:
            shape = replace(shape, channels=channels)
        return shape


def find_pictures(options: PictureOptions, sources: Sources, seed: int) -> NamedImages:
    """The images that the options name, else those of the classifier's or the generator's data set.

    Args:
        options: which.
        sources: what has a data set of its own.
        seed: fixes what is drawn at random.

    Raises:
        UserError: there are none, or no such part of them.
    """
    data = options.data
    if data.data and not data.is_painted:
        data = replace(data, photos=sources.shaped(data.photos))
    if options.unlabelled:
        pixels, names, broken = load_pictures(data.data, data.photo_options(), options.part)
        return NamedImages(pixels, names, broken=broken)
    own = sources.data(data) if data.says_nothing or not data.data else None
    data_set = own or open_data(data, seed)
    return replace(_part(data_set, options.part), data=data_set)


def _part(data: Data, name: str) -> NamedImages:
    if isinstance(data, OwnImages):
        splits = data.photos.splits
        if name not in splits:
            raise UserError(f"--part {name}: {data.config.data} has {' '.join(splits)}")
        return _labelled(splits[name].images, splits[name].names, data.photos.broken)
    assert isinstance(data, ColoredDigits)
    if name not in PAINTED:
        raise UserError(f"--part {name}: painted digits have {' '.join(PAINTED)}")
    images: ImageSet = getattr(data, name)
    return _labelled(images, tuple(str(index) for index in range(len(images))))


def _labelled(images: ImageSet, names: tuple[str, ...], broken: tuple[Broken, ...] = ()) -> NamedImages:
    return NamedImages(images.pixels, names, images.labels, images.classes, broken)


PREDICTIONS = "predictions.csv"


def write_predictions(
    path: Path, probabilities: Tensor, pictures: NamedImages, classes: tuple[str, ...] | None
) -> None:
    """A row for each image: `image`, `label` where known, `prediction`, and the probability of each class; empty cells
    where the answer is not a number.

    Args:
        path: of the file.
        probabilities: `(N, K)`.
        pictures: N images.
        classes: K names; numbers where None.
    """
    names = classes or tuple(str(index) for index in range(probabilities.shape[1]))
    file = io.StringIO(newline="")
    split = "\r" in "".join([*pictures.names, *names])
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if split else csv.QUOTE_MINIMAL)
    known = [] if pictures.labels is None else ["label"]
    writer.writerow(["image", *known, "prediction", *(f"p {name}" for name in names)])
    labels = [[]] * len(pictures.names) if pictures.labels is None else [[names[i]] for i in pictures.labels.tolist()]
    seen = ["" if answer < 0 else names[answer] for answer in answers(probabilities).tolist()]
    for name, label, answer, row in zip(pictures.names, labels, seen, probabilities.tolist(), strict=True):
        writer.writerow([name, *label, answer, *(f"{value:.6f}" if answer else "" for value in row)])
    atomic_write(path, file.getvalue().encode())


@dataclass(frozen=True)
class PredictConfig(ClassifierOptions):
    """What a classifier says about every image. Writes predictions.csv, results.json and config.json.

    With --marginalize N it answers with its mean probabilities over N random z⊥: robust without retraining, as far as
    the generator separates z∥ from z⊥.

    Args:
        generator: to marginalize: a ready-made generator (`statistics`, `statistics:KIND`, `photo`; default
            `statistics`), or a folder that fit wrote.
        latents: folder that encode wrote, the pool of z⊥; by default it is encoded, from the training images or, where
            there are none, from the images themselves.
        pool: whose z⊥ are drawn.
        marginalize: number of z⊥ for each image; 0 asks the classifier about the image itself.
        perp: layers that are z⊥; negative ones count from the finest. By default all styles beside a spatial grid, else
            the two finest.
        perp_grid: whether a spatial grid is z⊥ too.
        residual: whether the averaged images keep what the generator cannot draw, in their own size: for photographs.
            With a ready-made generator they always do.
        pictures: which images.
        shard_size: images after which what was found is kept, to go on from there; several processes take turns with
            so many.
        seed: fixes the z⊥, and what data are drawn at random.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        machines: how many processes take turns with the images.
        resume: go on with a run that was stopped.
    """

    generator: Path | None = None
    latents: Path | None = None
    pool: PoolOptions = field(default_factory=PoolOptions)
    marginalize: int = 0
    perp: tuple[int, ...] = ()
    perp_grid: bool = False
    residual: bool = False
    pictures: PictureOptions = field(default_factory=PictureOptions)
    shard_size: int = 1000
    seed: int = 0
    out: Path = Path("runs/predictions")
    device: str = "auto"
    machines: MachineOptions = field(default_factory=MachineOptions)
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "shard_size", least=1)
        check_values(self, "marginalize", least=0)
        if self.residual and not self.marginalize:
            raise UserError("--residual: goes together with --marginalize N")


def run_predict(config: PredictConfig) -> dict[str, Any]:
    """Predict, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    device, fabric = open_processes(config.device, config.machines)
    with quietly(not is_first(fabric)):
        return _run(config, device, fabric)


def _run(config: PredictConfig, device: torch.device, fabric: Fabric | None) -> dict[str, Any]:
    ready = config.latents is None
    if ready and config.generator is not None and not config.marginalize:
        raise UserError(f"--generator {config.generator}: goes together with --marginalize N")
    mixable = None if ready else load(config.generator or DEFAULT_GENERATOR, config.latents, device)
    opened = open_classifier(config, image=config.pictures.shape)
    sources = Sources(opened, config.folder, mixable, config.generator)
    with local_first(fabric):
        pictures = find_pictures(config.pictures, sources, config.seed)
    if ready and config.marginalize:
        named = config.generator or DEFAULT_GENERATOR
        mixable = open_model(named, None, config.pool, pictures.donors, None, device)
    opened = opened if pictures.classes is None else opened.named(pictures.classes)
    inputs = {
        "classifier": opened.fingerprint,
        "images": pictures.fingerprint,
        **fingerprints_of(mixable),
    }
    config = replace(config, pictures=replace(config.pictures, data=remembered(config.pictures.data)))
    network = opened.network.to(device)
    if config.marginalize:
        assert mixable is not None
        network = _marginalized(config, network, mixable)
    with open_run(config.out, "predict", config, config.resume, inputs, fabric=fabric) as run:
        if not in_first_process(fabric, (config.out / RESULTS).is_file):
            _predict(config, opened, network, pictures, mixable, run, device, fabric)
        results: dict[str, Any] = in_first_process(fabric, lambda: read_json(config.out / RESULTS))
        for sentence in _sentences(results):
            console.print(f"  {sentence}", markup=False)
        console.print(f"  {config.out / PREDICTIONS}, {config.out / RESULTS}", markup=False)
        return results


def _predict(
    config: PredictConfig,
    opened: OpenClassifier,
    network: nn.Module,
    pictures: NamedImages,
    mixable: FittedModel | None,
    run: str,
    device: torch.device,
    fabric: Fabric | None,
) -> None:
    clock = PhaseTimer(config.out if is_first(fabric) else None)
    with clock("predict"):
        _make_shards(config, network, pictures.pixels, run, device, fabric)
    if is_first(fabric):
        _write(config, opened, pictures, mixable, _joined(config, len(pictures.pixels), run), clock)


def _write(
    config: PredictConfig,
    opened: OpenClassifier,
    pictures: NamedImages,
    mixable: FittedModel | None,
    probabilities: Tensor,
    clock: PhaseTimer,
) -> None:
    """Table and numbers."""
    seen = answers(probabilities)
    right = None if pictures.labels is None else seen == pictures.labels
    write_predictions(config.out / PREDICTIONS, probabilities, pictures, opened.classes)
    results = {
        **header("predict", config),
        "classifier": {"name": opened.name, "method": opened.method, "fingerprint": opened.fingerprint},
        "generator": None if mixable is None else generator_summary(mixable.metadata),
        "marginalize": config.marginalize,
        "images": len(pictures.pixels),
        "broken": [image.to_dict() for image in pictures.broken],
        "unanswered": int((seen < 0).sum()),
        "accuracy": None if right is None else float(right.double().mean()),
        "phases": clock.seconds,
    }
    write_json(config.out / RESULTS, results)


def _marginalized(config: PredictConfig, network: nn.Module, mixable: FittedModel) -> Marginalized:
    dec, samples = mixable.generator, config.marginalize
    split = usual_split(config.perp, config.perp_grid, mixable.model.config)
    seed, residual = config.seed, config.residual or dec.any_size
    return Marginalized(network, dec, mixable.encoder, split, mixable.pool, samples, seed, residual)


def _shards(config: PredictConfig, count: int) -> list[tuple[Path, slice]]:
    """The files of class probabilities, and the images of each."""
    parts = enumerate(slices(count, config.shard_size))
    return [(config.out / f"shard-{number:05d}.safetensors", rows) for number, rows in parts]


def _make_shards(
    config: PredictConfig, network: nn.Module, pixels: Tensor, run: str, device: torch.device, fabric: Fabric | None
) -> None:
    """Write them all; those that are there already are not made again."""
    mine, budget = own_turns(fabric, _shards(config, len(pixels))), RowBudget()
    with track("predict", sum(rows.stop - rows.start for _, rows in mine)) as advance:
        for path, rows in mine:
            if _kept(path, run) is not None:
                advance(rows.stop - rows.start, "")
                continue
            ask = partial(_probabilities_of, network, pixels[rows], device)
            found = torch.cat(budget.parts(ask, rows.stop - rows.start, device, advance))
            write_tensors(path, "predictions", {"probabilities": found}, {"run": run})
    if fabric is not None:
        fabric.barrier()


def _joined(config: PredictConfig, count: int, run: str) -> Tensor:
    """Class probabilities `(N, K)` of all shards, which are there."""
    parts = []
    for path, _ in _shards(config, count):
        part = _kept(path, run)
        if part is None:
            raise UserError(f"{path}: missing or damaged; go on with --resume")
        parts.append(part)
    return torch.cat(parts)


def _kept(path: Path, run: str) -> Tensor | None:
    """A shard of this run; None where it is missing or damaged."""
    try:
        tensors, metadata = read_tensors(path, "predictions")
    except UserError:
        return None
    if metadata != {"run": run}:
        raise UserError(f"{path}: of another run; delete it and go on with --resume")
    return tensors["probabilities"]


@torch.no_grad()
def _probabilities_of(network: nn.Module, pixels: Tensor, device: torch.device, rows: slice) -> Tensor:
    """Of some of the images `(N, C, H, W)` uint8: `(B, K)` in float64, on the CPU."""
    images = (pixels[rows].to(device).float() / 255).contiguous(memory_format=torch.channels_last)
    with eval_mode(network) as (model,):
        return probabilities(model(images))


def _sentences(results: dict[str, Any]) -> list[str]:
    over = f", mean over {results['marginalize']} z⊥" if results["marginalize"] else ""
    right = "labels unknown" if results["accuracy"] is None else f"right on {results['accuracy']:.1%}"
    said = [f"{results['classifier']['name']}{over}: {results['images']:,} images, {right}"]
    if results["unanswered"]:
        said.append(
            f"{results['unanswered']:,} answers are no numbers (NaN or infinite): empty in the table, never right"
        )
    return said
