"""`advmix train`: a classifier, by any of the methods; or one for each site, trained at all others and judged there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from advmix.calibration import score_probabilities
from advmix.classifiers.networks import FILE, load_classifier
from advmix.commands.encode import open_model
from advmix.data.datasets import Data, GivenImages, OwnImages, open_data, unlabelled_images
from advmix.data.images import ImageSet
from advmix.data.photos.sites import SiteImages
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import DEFAULT_GENERATOR, is_ready_made, load_autoencoder
from advmix.encoders.store import PHOTOS, LatentStore, PoolOptions
from advmix.intervals import balanced_share, share_of
from advmix.metrics import predict_in_turns
from advmix.mixing import SearchOptions, with_layers
from advmix.pools import PHOTO_CHANNELS, data_of, fingerprints_of, open_generator, pool_members, some_images
from advmix.report.tables import RESULTS, header, parts_table
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.consistency import UnlabelledOptions
from advmix.training.loop import Loop
from advmix.training.methods import NEEDS_LATENTS, BaselineOptions, Recipe, check_method, make_recipe
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import Settings, check_values, to_dict
from advmix.utils.device import MachineOptions, in_first_process, local_first, make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import read_json, write_json, write_tensors
from advmix.utils.progress import console, quietly, write_seconds
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import answers

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Train a classifier: randmix, advmix, nominal, mixup, linf, or a control (ceiling, jitter, grayscale, instnorm).

    Writes classifier.safetensors, log.jsonl and config.json. With --leave-one-site-out a folder with these for each
    site, and results.json.

    Args:
        method: how it is trained.
        generator: of randmix and advmix: a ready-made generator (`statistics`, `statistics:KIND`, `photo`), or a
            folder that fit wrote.
        latents: folder that encode wrote; by default the pool is encoded when training begins, into memory.
        data: the data set; where latents of training images are named, theirs is taken, and other flags must not
            contradict it.
        pool: whose z⊥ are borrowed.
        train: how every classifier is trained.
        search: Algorithm 1's settings, for advmix.
        baseline: settings of the other methods.
        unlabelled: images without labels, for any method.
        arithmetic: how networks are computed.
        leave_one_site_out: for each site (--site) a classifier that is trained at all others, and how right it is
            there; splits of the data's own are set aside, and --holdout is the share of the others' images that it is
            not trained on.
        seed: fixes first weights, order of images, donors; without latents also the data's colours.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        machines: how many processes share each batch.
        resume: go on with a run that was stopped; it ends in the same weights as one that was not.
        checkpoint_seconds: time between checkpoints.
    """

    method: str = "randmix"
    generator: Path = DEFAULT_GENERATOR
    latents: Path | None = None
    data: DataConfig = field(default_factory=DataConfig)
    pool: PoolOptions = field(default_factory=PoolOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    baseline: BaselineOptions = field(default_factory=BaselineOptions)
    unlabelled: UnlabelledOptions = field(default_factory=UnlabelledOptions)
    arithmetic: ArithmeticOptions = field(default_factory=ArithmeticOptions)
    leave_one_site_out: bool = False
    seed: int = 0
    out: Path = Path("runs/classifier")
    device: str = "auto"
    machines: MachineOptions = field(default_factory=MachineOptions)
    resume: bool = False
    checkpoint_seconds: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method(self.method)
        check_values(self, "checkpoint_seconds", least=0)


def run_train(config: TrainConfig) -> None:
    """Train, unless `out` holds the finished result already.

    Raises:
        UserError: bad input, or a loss that is not finite.
    """
    fabric = make_fabric(config.device, config.machines, config.arithmetic.precision)
    config = replace(config, arithmetic=config.arithmetic.on(fabric.device))
    with quietly(not fabric.is_global_zero):
        if config.leave_one_site_out:
            leave_sites_out(config, fabric)
            return
        with local_first(fabric):
            data = _data(config)
        train_images(config, data, fabric)


def train_images(config: TrainConfig, data: Data, fabric: Fabric) -> None:
    """The same, of images that are open already.

    Args:
        config: of the run; what it says of data plays no part.
        data: the images.
        fabric: the machine.

    Raises:
        UserError: as `run_train`.
    """
    with local_first(fabric):
        unlabelled = _unlabelled(config, data.config, some_images(data))
    mixes = config.method in NEEDS_LATENTS
    if mixes:
        config = replace(config, pool=_pool(config, data))
    named = config.generator, config.latents, config.pool, data, None, fabric.device
    mixable = open_model(*named) if mixes else None
    if mixable is not None:
        config = replace(config, search=with_layers(config.search, mixable.model.config))
    recipe = make_recipe(config.method, data, config.seed, config.search, config.baseline, mixable, config.arithmetic)
    made_with = fingerprints_of(mixable)
    generator, inputs = made_with["generator"], {"images": recipe.images.fingerprint, **made_with}
    if unlabelled is not None:
        _say_shared(config, unlabelled, data)
        recipe = _beside(recipe, config, unlabelled)
        inputs["unlabelled"] = unlabelled.fingerprint
    with open_run(config.out, "train", config, config.resume, inputs, fabric=fabric) as run:
        if in_first_process(fabric, (config.out / FILE).is_file):
            console.print(f"  done already: {config.out / FILE}")
            return
        options = config.train.times(1, recipe.images)
        parts = recipe.network, recipe.objective, recipe.images, options, config.seed, fabric
        trainee = ClassifierTrainee(*parts, compiled=config.arithmetic.compile)
        steps = options.steps(recipe.images)
        loop = Loop(f"train {config.method}", steps, config.out, run, config.checkpoint_seconds)
        loop.train(trainee)
        metadata = {
            "method": config.method,
            "seed": config.seed,
            "data": to_dict(data.config),
            "data_seed": data.seed,
            "data_fingerprint": data.train.fingerprint,
            "classes": list(recipe.images.classes),
            "image": list(recipe.images.shape),
            "setting": recipe.setting,
            "generator": generator,
            "encoder": mixable.index["encoder"] if mixable else None,
            "train": to_dict(options),
            "train_images": len(recipe.images),
        }
        if fabric.is_global_zero:
            write_seconds(config.out, train_seconds=loop.seconds)
            write_tensors(config.out / FILE, "classifier", recipe.network.state_dict(), metadata)
        fabric.barrier()
        console.print(f"  {config.method} classifier in {config.out / FILE}")


def _pool(config: TrainConfig, data: Data) -> PoolOptions:
    """Training images of one style have none to lend: where nothing is named, photographs do."""
    named = config.pool.pool is not None or config.latents is not None
    if named or not is_ready_made(config.generator) or some_images(data).shape[0] != PHOTO_CHANNELS:
        return config.pool
    return replace(config.pool, pool=PHOTOS)


def _unlabelled(config: TrainConfig, data: DataConfig, images: ImageSet) -> ImageSet | None:
    """All images without labels, where some are named.

    Args:
        config: names them.
        data: how the labelled images were read; where it names none, `config` says it.
        images: some of these, for their shape.
    """
    source, (channels, side, _) = config.unlabelled.unlabelled, images.shape
    if source is None:
        return None
    own = data if data.data else config.data
    read = replace(own.sized(channels, side).photo_options(), limit=None)
    return unlabelled_images("--unlabelled", source, read)[0]


def _say_shared(config: TrainConfig, unlabelled: ImageSet, data: Data) -> None:
    """A line where test images are among those without labels."""
    try:
        test = data.test
    except UserError:
        return
    shared = test.count_shared(unlabelled)
    if shared:
        words = f"{shared:,} of the {len(test):,} test images are in it; accuracy on these is not that on new images"
        console.print(f"  --unlabelled {config.unlabelled.unlabelled}: {words}", markup=False, style="yellow")


def _beside(recipe: Recipe, config: TrainConfig, unlabelled: ImageSet) -> Recipe:
    """The recipe with unlabelled images beside the labelled ones."""
    objective, setting = config.unlabelled.beside(recipe.objective, unlabelled, config.train.flip)
    return replace(recipe, objective=objective, setting={**recipe.setting, **setting})


def _data(config: TrainConfig) -> Data:
    """The data set of the latents; without any, the one that the flags describe, else the generator's own."""
    if config.latents is None:
        fitted = config.method in NEEDS_LATENTS and not is_ready_made(config.generator)
        own = load_autoencoder(config.generator)[1] if fitted and config.data.says_nothing else {}
        return data_of(own, config.generator) if "data" in own else open_data(config.data, config.seed)
    index = LatentStore.open(config.latents).index
    if "data" not in index:
        return open_data(config.data, config.seed)
    data = data_of(index, config.latents)
    if config.data not in (DataConfig(), data.config):
        raise UserError(f"{config.latents}: latents of {data.config}, but the flags say {config.data}; leave them out")
    return data


def leave_sites_out(config: TrainConfig, fabric: Fabric) -> dict[str, Any]:
    """A classifier for each site, trained at all others; returns what `results.json` holds, the worst site first.

    Raises:
        UserError: as `run_train`, or data without several sites.
    """
    with local_first(fabric):
        images = _site_images(config)
        unlabelled = _unlabelled(config, config.data, images.images)
        inputs = {
            "images": images.images.fingerprint,
            "pool": _pool_fingerprint(config, images.images),
            "unlabelled": None if unlabelled is None else unlabelled.fingerprint,
        }
    folders = images.folders()
    with open_run(config.out, "train", config, config.resume, inputs, fabric=fabric):
        if not in_first_process(fabric, (config.out / RESULTS).is_file):
            rows = []
            for site, name in enumerate(images.names):
                console.print(f"  without {name}", markup=False)
                rows.append(_left_out(config, images, site, config.out / folders[site], fabric))
            rows.sort(key=lambda row: float(row["accuracy_balanced"]["value"]))
            in_first_process(
                fabric, lambda: write_json(config.out / RESULTS, {**header("train", config), "parts": rows})
            )
        results: dict[str, Any] = read_json(config.out / RESULTS)
    console.print(parts_table(results["parts"], "sites"))
    console.print(f"  numbers in {config.out / RESULTS}", markup=False)
    return results


def _pool_fingerprint(config: TrainConfig, images: ImageSet) -> str | None:
    """Of the images of a pool that is named; those that are shipped do not change, and training images are known."""
    if config.method not in NEEDS_LATENTS or config.pool.is_train or config.pool.pool == PHOTOS:
        return None
    data = GivenImages(images, images, config.seed)
    model = open_generator(config.generator, data.config, config.pool, data)[0]
    return pool_members(config.pool, data.config, data, model.generator, config.seed).images.fingerprint


def _site_images(config: TrainConfig) -> SiteImages:
    """The images by site, where nothing has seen those of all sites already."""
    flag = "--leave-one-site-out"
    if config.data.is_painted or config.data.photos.site is None:
        raise UserError(f"{flag}: name images of your own with --data, and the column of their sites with --site")
    if config.latents is not None:
        raise UserError(f"{flag}: --latents are of images of all sites; leave it out")
    if config.method in NEEDS_LATENTS and not is_ready_made(config.generator):
        raise UserError(f"{flag}: --generator {config.generator} was fitted to images; name a ready-made one")
    data = open_data(config.data, config.seed)
    assert isinstance(data, OwnImages)
    return SiteImages.gather(data.photos, config.data.photos.holdout, config.data.photos.split_seed)


def _left_out(config: TrainConfig, images: SiteImages, site: int, out: Path, fabric: Fabric) -> dict[str, Any]:
    """What a classifier that was trained at all sites but one is worth there."""
    trained, held, there = images.divided(site)
    data = GivenImages(images.images[trained], images.images[there], config.seed)
    train_images(replace(config, out=out, resume=True), data, fabric)
    network = load_classifier(out)[0].to(fabric.device)
    found = _judged(network, images.images[there], images.units[there], fabric)
    others = _judged(network, images.images[held], images.units[held], fabric) if held.any() else {}
    return {
        "kind": "site",
        "name": images.names[site],
        "folder": out.name,
        "images": int(there.sum()),
        "train_images": int(trained.sum()),
        "other_images": int(held.sum()),
        **found,
        "accuracy_others": others.get("accuracy_balanced"),
    }


def _judged(
    network: torch.nn.Module, images: ImageSet, units: torch.Tensor, fabric: Fabric
) -> Mapping[str, Mapping[str, float] | None]:
    """Accuracies and what probabilities are worth, with intervals."""
    probabilities = predict_in_turns(fabric, network, images, fabric.device)
    right = answers(probabilities) == images.labels
    scores = {
        "accuracy_clean": share_of(right),
        "accuracy_balanced": balanced_share(right, images.labels),
        **score_probabilities(probabilities, images.labels, units),
    }
    return {key: None if score is None else score.to_dict() for key, score in scores.items()}
