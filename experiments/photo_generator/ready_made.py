"""`python -m experiments ready-made`: which ready-made generator should be the default?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torchvision.transforms.v2 import ColorJitter
from torchvision.transforms.v2 import functional as F

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.network import encoded, start_latents
from advmix.latents import Latents, Split
from advmix.metrics import accuracy, predict_pixels, share
from advmix.mixing import AdvMix, RandMix, calibrated
from advmix.pools import photo_pool
from advmix.report.tables import RESULTS, header
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Augment, Mixing, Nominal, Objective
from advmix.utils.config import Settings, check_values, expanded
from advmix.utils.device import make_fabric
from advmix.utils.files import make_folder, read_json, write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import answers, eval_mode, generator, global_seed
from experiments.photo_generator.domains import DOMAINS, Domain, Kind, open_domain
from experiments.photo_generator.measure import WIDTHS, PhotoMeasureConfig, Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Record = dict[str, Any]

COMPARED = ("faces", "photographs", "sketches", "blood cells, sites", "digits on photographs")
"""Kinds of images."""

NAMED_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness x 0.5": lambda x: F.adjust_brightness(x, 0.5),
    "brightness x 1.6": lambda x: F.adjust_brightness(x, 1.6),
    "contrast x 0.5": lambda x: F.adjust_contrast(x, 0.5),
    "contrast x 1.6": lambda x: F.adjust_contrast(x, 1.6),
    "gamma 0.6": lambda x: F.adjust_gamma(x, 0.6),
    "gamma 1.6": lambda x: F.adjust_gamma(x, 1.6),
    "saturation x 0.3": lambda x: F.adjust_saturation(x, 0.3),
    "saturation x 1.8": lambda x: F.adjust_saturation(x, 1.8),
    "warmer": lambda x: _gains(x, 1.2, 1.0, 0.8),
    "cooler": lambda x: _gains(x, 0.8, 1.0, 1.2),
    "green": lambda x: _gains(x, 0.9, 1.15, 0.9),
    "magenta": lambda x: _gains(x, 1.1, 0.85, 1.1),
}
"""Changes of light and camera that nobody learned: what a search flips should be flipped by some of them, too."""

SITES: dict[str, Callable[[Tensor], Tensor]] = {
    "yellow lamp": lambda x: _gains((0.75 * x + 0.1) ** 1.2, 1.15, 1.05, 0.7),
    "dark room": lambda x: F.adjust_contrast(0.45 * x, 0.8),
    "faded print": lambda x: F.adjust_saturation(0.5 * x + 0.4, 0.5),
}
"""Made shifts, on which training is tested: no method sees them."""


def _gains(images: Tensor, *gains: float) -> Tensor:
    return (images * images.new_tensor(gains)[:, None, None]).clamp(0, 1)


@dataclass(frozen=True)
class ReadyMadeConfig(Settings):
    """Compare ready-made generators on kinds of images that none was made for: how many right answers each flips, at
    random and by the search; how many of these flips a named change of light confirms; how many labels an independent
    reference still sees; how far images are changed; how much training with its mixes helps under a made shift; and
    what a candidate of the search costs.

    Args:
        generators: what is compared.
        data: as of photo-measure.
        split: `val` to choose a default, `test` to report.
        images: judged images of each kind, at most.
        train_images: of each kind for the classifiers, at most.
        train_size: side in pixels of the images that are trained on under a made shift; 0 leaves this out.
        epochs: of the classifiers.
        restarts: of the search.
        steps: of the search.
        seeds: of the trainings under a made shift.
        seed: of judged classifiers and donors.
        classifiers: folder of the judged classifiers.
        out: folder for results.json.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    generators: tuple[str, ...] = (
        "statistics:moments",
        "statistics:covariance",
        "statistics:pyramid",
        "statistics:local",
        "statistics:fourier",
        "photo",
    )
    data: Path = Path("data")
    split: str = "val"
    images: int = 200
    train_images: int = 2000
    train_size: int = 32
    epochs: int = 8
    restarts: int = 3
    steps: int = 3
    seeds: tuple[int, ...] = (0, 1)
    seed: int = 0
    classifiers: Path = Path("runs/study/photo-classifiers")
    out: Path = Path("runs/study/ready-made")
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "images train_images", least=2)
        check_values(self, "epochs restarts", least=1)
        check_values(self, "steps train_size", least=0)

    def measured(self, domain: Domain, size: int) -> PhotoMeasureConfig:
        """The same as settings of `photo-measure`, whose classifiers are judged."""
        return PhotoMeasureConfig(
            data=self.data,
            split=self.split,
            images=self.images,
            train_images=self.train_images,
            epochs=self.epochs,
            seed=self.seed,
            classifiers=self.classifiers,
        )


def run_ready_made(config: ReadyMadeConfig) -> Record:
    """Compare; what is done already is kept. Returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    models = {name: load_autoencoder(Path(name)) for name in config.generators}
    inputs = {name: metadata["fingerprint"] for name, (_, metadata) in models.items()}
    claim_run(config.out, "study ready-made", config, resume=True, inputs=inputs)
    rows, trained = [], []
    for domain in (domain for domain in DOMAINS if domain.name in COMPARED):
        bench = Bench(config, domain, fabric)
        rows += [bench.once(f"found {name}", partial(bench.found, name, models[name][0])) for name in models]
        if config.train_size:
            for method, seed in product(("nominal", "colour jitter", *models), config.seeds):
                make = partial(bench.trained, method, seed, models.get(method))
                trained.append(bench.once(f"trained {method} {seed}", make))
    results = {**header("study ready-made", config), "found": rows, "trained": trained}
    write_json(config.out / RESULTS, results)
    console.print(found_table(rows))
    if trained:
        console.print(trained_table(trained))
    return results


@dataclass(frozen=True, eq=False)
class Bench:
    """One kind of images."""

    config: ReadyMadeConfig
    domain: Domain
    fabric: Fabric

    def once(self, name: str, make: Callable[[], Record]) -> Record:
        """A row, from its file where it is done already."""
        kind = self.domain.name.replace(", ", "-").replace(" ", "-")
        path = make_folder(self.config.out / "rows") / f"{kind}-{name.replace(' ', '-').replace(':', '-')}.json"
        if not path.is_file():
            write_json(path, {"kind": self.domain.name, **make()})
        row: Record = read_json(path)
        return row

    def images(self, size: int) -> Kind:
        """Training and judged images, at a side of so many pixels."""
        config, domain = self.config, replace(self.domain, classified=size)
        place = expanded(config.data, "data")
        return open_domain(domain, size, place, config.split, config.train_images, config.images)

    def found(self, name: str, model: Autoencoder) -> Record:
        """What a search through a generator finds in the kind's nominal classifier."""
        size = self.domain.classified or 64
        kind = self.images(size)
        assert kind.train is not None
        made = Training(self.config.measured(self.domain, size), self.domain, size, kind.train, self.fabric)
        nominal, reference = made.network("nominal"), made.network("reference")
        found = search_images(self.config, nominal, model, kind)
        return {"generator": name, "size": size, **numbers(found, nominal, reference, kind.judged)}

    def trained(self, method: str, seed: int, generator: tuple[Autoencoder, Record] | None) -> Record:
        """A classifier that is trained with a method, at home and at sites that it never saw."""
        kind, begun = self.images(self.config.train_size), time.process_time()
        assert kind.train is not None
        with global_seed(seed):
            network = conv_net(len(kind.train.classes), widths=WIDTHS)
        options = TrainOptions(epochs=self.config.epochs, flip=self.domain.flip)
        loop = Loop(f"{self.domain.name}: {method} {seed}", options.steps(kind.train))
        loop.train(
            ClassifierTrainee(
                network, _objective(method, generator, len(kind.train)), kind.train, options, seed, self.fabric
            )
        )
        spent, shown = time.process_time() - begun, kind.judged
        sites = {name: accuracy(network, _changed(shown, change), self.fabric.device) for name, change in SITES.items()}
        home = accuracy(network, shown, self.fabric.device)
        return {"method": method, "seed": seed, "home": home, "sites": sites, "cpu_seconds": round(spent, 1)}


def _objective(method: str, generator: tuple[Autoencoder, Record] | None, images: int) -> Objective:
    """What a method trains with on so many images; the donors of mixes are the shipped photographs."""
    if method == "nominal":
        return Nominal()
    if generator is None:
        return Augment(ColorJitter(0.5, 0.5, 0.5, 0.5))
    model, metadata = generator
    split = Split(model.generator.layers, tuple(range(model.generator.layers)))
    pool = photo_pool(Path(method), metadata)
    return Mixing(RandMix(model.generator, split), pool, 0.5, model.encoder, True, torch.full((images,), -1))


@torch.no_grad()
def _changed(images: ImageSet, change: Callable[[Tensor], Tensor]) -> ImageSet:
    pixels = change(images.pixels.float() / 255).clamp(0, 1)
    return ImageSet((pixels * 255).round().to(torch.uint8), images.labels, images.classes)


@dataclass(frozen=True, eq=False)
class Search:
    """The worst mix `(N, C, H, W)` of each image and a random one, whether the classifier is right under all that was
    tried, and CPU seconds of a candidate.
    """

    worst: Tensor
    random: Tensor
    right: Tensor
    seconds: float


def search_images(config: ReadyMadeConfig, network: nn.Module, model: Autoencoder, kind: Kind) -> Search:
    """Search all judged images, with donors of the kind's training images."""
    assert kind.train is not None
    dec, enc, images = model.generator, model.encoder, kind.judged
    split = Split(dec.layers, tuple(range(dec.layers)))
    donors = kind.train[torch.randperm(len(kind.train), generator=generator(config.seed, "ready-made"))[:1000]]
    pool = Latents(encoded(donors, enc).styles)
    pixels, labels = images.batch(slice(None))
    loss = calibrated(network, pixels)
    search = AdvMix(dec, split, restarts=config.restarts, steps=config.steps)
    worst, random, right, begun = [], [], [], time.process_time()
    for rows in torch.arange(len(images)).split(50):
        latents = start_latents(dec, enc, pixels[rows], None, residual=True)
        rng = generator(config.seed, "ready-made search", int(rows[0]))
        mix = search(network, latents, labels[rows], pool, loss=loss, rng=rng)
        worst.append(mix.images)
        right.append(mix.withstood)
        random.append(RandMix(dec, split)(None, latents, labels[rows], pool, rng=rng).images)
    spent = time.process_time() - begun
    candidates = len(images) * config.restarts * (config.steps + 1)
    return Search(torch.cat(worst), torch.cat(random), torch.cat(right), spent / candidates)


@torch.no_grad()
def numbers(found: Search, nominal: nn.Module, reference: nn.Module, images: ImageSet) -> Record:
    """Shares of the judged images.

    Args:
        found: what the search made.
        nominal: the classifier that was searched.
        reference: an independent one, which votes where it is right on the image.
        images: the images.
    """
    pixels, labels = images.batch(slice(None))
    with eval_mode(nominal, reference):
        clean = answers(predict_pixels(nominal, pixels)) == labels
        mixed = answers(predict_pixels(nominal, found.random)) == labels
        votes = answers(predict_pixels(reference, pixels)) == labels
        kept = {
            name: answers(predict_pixels(reference, mix)) == labels
            for name, mix in (("random", found.random), ("worst", found.worst))
        }
        changed = [change(pixels).clamp(0, 1) for change in NAMED_CHANGES.values()]
        named = torch.stack([answers(predict_pixels(nominal, one)) != labels for one in changed]).any(dim=0)
    flipped = clean & ~found.right
    return {
        "images": len(images),
        "accuracy_clean": _share(clean),
        "accuracy_random_mix": _share(mixed),
        "accuracy_worst_case": _share(clean & found.right),
        "flips": int(flipped.sum()),
        "confirmed": _share(named[flipped]),
        "named_flips": _share(named[clean]),
        "labels_kept_random": _share(kept["random"][votes]),
        "labels_kept_worst": _share(kept["worst"][votes]),
        "change_random": _rms(found.random - pixels),
        "change_worst": _rms(found.worst - pixels),
        "clipped": float(((found.random <= 0) | (found.random >= 1)).double().mean()),
        "cpu_ms_per_candidate": round(1000 * found.seconds, 2),
    }


def _share(mask: Tensor) -> float | None:
    return share(mask) if len(mask) else None


def _rms(change: Tensor) -> float:
    return float(change.square().mean().sqrt())


def found_table(rows: list[Record]) -> Table:
    """As a person reads it."""
    keys = [
        "accuracy_clean",
        "accuracy_random_mix",
        "accuracy_worst_case",
        "confirmed",
        "labels_kept_random",
        "labels_kept_worst",
    ]
    titles = [key.removeprefix("accuracy_").replace("_", " ") for key in keys]
    view = Table("kind", "generator", *titles, "change", "ms")
    for row in rows:
        cells = ["" if row[key] is None else f"{100 * row[key]:.1f}" for key in keys]
        cells += [f"{row['change_random']:.3f}", str(row["cpu_ms_per_candidate"])]
        view.add_row(row["kind"], row["generator"], *cells)
    return view


def trained_table(rows: list[Record]) -> Table:
    """Accuracy at home and in the mean of the sites, a row for each method and seed."""
    view = Table("kind", "method", "seed", "home", *SITES, "mean")
    for row in rows:
        sites = [row["sites"][name] for name in SITES]
        shown = [f"{100 * value:.1f}" for value in (row["home"], *sites, sum(sites) / len(sites))]
        view.add_row(row["kind"], row["method"], str(row["seed"]), *shown)
    return view
