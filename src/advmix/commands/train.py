"""`advmix train`: a classifier, by any of the methods."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from advmix.classifiers.networks import FILE
from advmix.commands.encode import open_model
from advmix.data.datasets import Data, open_data
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import DEFAULT_GENERATOR, is_ready_made, load_autoencoder
from advmix.encoders.store import LatentStore, PoolOptions
from advmix.mixing import SearchOptions, with_layers
from advmix.pools import data_of, fingerprints_of
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.methods import NEEDS_LATENTS, BaselineOptions, check_method, make_recipe
from advmix.utils.config import Settings, check_values, to_dict
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import write_tensors
from advmix.utils.progress import console, write_seconds
from advmix.utils.runs import open_run


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Train a classifier: nominal, mixup, linf, randmix, advmix, or a control (ceiling, jitter, grayscale, instnorm).

    Writes classifier.safetensors, log.jsonl and config.json.

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
        seed: fixes first weights, order of images, donors; without latents also the data's colours.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped; it ends in the same weights as one that was not.
        checkpoint_seconds: time between checkpoints.
    """

    method: str = "advmix"
    generator: Path = DEFAULT_GENERATOR
    latents: Path | None = None
    data: DataConfig = field(default_factory=DataConfig)
    pool: PoolOptions = field(default_factory=PoolOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    baseline: BaselineOptions = field(default_factory=BaselineOptions)
    seed: int = 0
    out: Path = Path("runs/classifier")
    device: str = "auto"
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
    fabric, mixes = make_fabric(config.device), config.method in NEEDS_LATENTS
    data = _data(config)
    parts = config.generator, config.latents, config.pool, data, None, fabric.device
    mixable = open_model(*parts) if mixes else None
    if mixable is not None:
        config = replace(config, search=with_layers(config.search, mixable.model.config))
    recipe = make_recipe(config.method, data, config.seed, config.search, config.baseline, mixable)
    made_with = fingerprints_of(mixable)
    generator, inputs = made_with["generator"], {"images": recipe.images.fingerprint, **made_with}
    with open_run(config.out, "train", config, config.resume, inputs) as run:
        if (config.out / FILE).is_file():
            console.print(f"  done already: {config.out / FILE}")
            return
        options = config.train.times(1, recipe.images)
        trainee = ClassifierTrainee(recipe.network, recipe.objective, recipe.images, options, config.seed, fabric)
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
        write_seconds(config.out, train_seconds=loop.seconds)
        write_tensors(config.out / FILE, "classifier", recipe.network.state_dict(), metadata)
        console.print(f"  {config.method} classifier in {config.out / FILE}")


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
