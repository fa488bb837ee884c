"""`python -m experiments photo-measure`: what `photo` does to kinds of images that it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net, patch_net
from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.encoders.network import encoded
from advmix.inspect.survival import mixes
from advmix.intervals import wilson
from advmix.latents import Split
from advmix.report.tables import RESULTS, header
from advmix.training.autoencode import reconstruction_mse
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Nominal
from advmix.utils.config import Settings, check_values, expanded
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder, read_tensors, write_json, write_tensors
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import answers, eval_mode, generator, global_seed, rebuilt
from experiments.photo_generator.domains import Domain, open_domain, tasks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SPLITS = ("val", "test")
BATCH = 100
Record = dict[str, Any]


@dataclass(frozen=True)
class PhotoMeasureConfig(Settings):
    """Measure a generator on kinds of images that it never saw: pixel error, accuracy lost on reconstructions, labels
    that random mixes keep, and how much these change.

    A nominal classifier and a reference are trained on each kind, at one size, and kept, so that several generators
    share them. The errors go into the generator's file, too.

    Args:
        generator: folder that `photo-generator` wrote.
        data: folder with the folders faces, faces-native, pacs, wbc-sites, wbc-lamp and mnist-m, each with its images
            and a labels.csv, and MNIST in torchvision's layout.
        split: `val` to choose settings, `test` to report.
        images: judged images of each kind, at most; of those larger than 64 pixels as many times fewer as their side
            is longer.
        train_images: of each kind for the classifiers, at most.
        epochs: of the classifiers.
        donors: random mixes of every image.
        seed: of the classifiers and donors.
        classifiers: folder of the classifiers.
        out: folder for results.json.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    generator: Path = Path("runs/study/photo-generator")
    data: Path = Path("data")
    split: str = "val"
    images: int = 300
    train_images: int = 2000
    epochs: int = 6
    donors: int = 2
    seed: int = 0
    classifiers: Path = Path("runs/study/photo-classifiers")
    out: Path = Path("runs/study/photo-measure")
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "images train_images", least=2)
        check_values(self, "epochs donors", least=1)
        if self.split not in SPLITS:
            raise UserError(f"--split {self.split}: unknown; choose from {' '.join(SPLITS)}")


def run_photo_measure(config: PhotoMeasureConfig) -> Record:
    """Measure all kinds at all sizes; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    model, metadata = load_autoencoder(config.generator)
    model.resize(max(size for _, size in tasks()))  # every image in its own size
    claim_run(config.out, "study photo-measure", config, resume=True, inputs={"generator": metadata["fingerprint"]})
    model.to(fabric.device)
    rows = [_row(config, domain, size, model, fabric) for domain, size in tasks()]
    errors = [{key: row[key] for key in ("domain", "size", "mse")} for row in rows]
    stated = {**metadata, "errors_split": config.split, "errors": errors}
    save_autoencoder(config.generator, load_autoencoder(config.generator)[0], stated)
    results = {**header("study photo-measure", config), "generator": metadata, "kinds": rows}
    write_json(config.out / RESULTS, results)
    console.print(kinds_table(rows))
    return results


def _row(config: PhotoMeasureConfig, domain: Domain, size: int, model: Autoencoder, fabric: Fabric) -> Record:
    images = config.images * 64 // max(size, 64)
    found = open_domain(domain, size, expanded(config.data, "data"), config.split, config.train_images, images)
    row: Record = {"domain": domain.name, "size": size, "images": len(found.judged)}
    row["mse"] = reconstruction_mse(model, found.judged, fabric.device)
    donors = _donors(len(found.judged), config)
    if found.train is None:
        return {**row, "change": Mixed.of(model, found.judged, donors, {}).change}
    trained = Training(config, domain, size, found.train, fabric)
    judges = {name: trained.network(name) for name in NETWORKS}
    mixed = Mixed.of(model, found.judged, donors, judges)
    return {**row, **mixed.numbers(found.judged.labels)}


def _donors(count: int, config: PhotoMeasureConfig) -> Tensor:
    """`(D, N)`, another image for each."""
    rng = generator(config.seed, "photo", "donors")
    return (torch.arange(count) + torch.randint(1, count, (config.donors, count), generator=rng)) % count


NETWORKS = ("nominal", "reference")
WIDTHS = (16, 32, 64)
"""Of the nominal classifier: half of the studies' own, to be trained in a minute on one core."""
REFERENCE_SIZE = 32
"""Side in pixels at which the reference sees an image."""


@dataclass(frozen=True, eq=False)
class Training:
    """The classifiers of one kind at one size, each trained once."""

    config: PhotoMeasureConfig
    domain: Domain
    size: int
    images: ImageSet
    fabric: Fabric

    def _fresh(self, name: str) -> nn.Module:
        classes, seed = len(self.images.classes), self.config.seed
        with global_seed(seed + NETWORKS.index(name)):
            if name == "nominal":
                return conv_net(classes, widths=WIDTHS)
            return nn.Sequential(nn.AdaptiveAvgPool2d(REFERENCE_SIZE), patch_net(classes, 3, REFERENCE_SIZE))

    def network(self, name: str) -> nn.Module:
        """In eval mode: `nominal`, the studies' classifier but narrower, or `reference`, a small ConvMixer that sees
        `REFERENCE_SIZE` pixels.

        Raises:
            UserError: a file of another run lies there.
        """
        options = TrainOptions(epochs=self.config.epochs, flip=self.domain.flip)
        folder = make_folder(self.config.classifiers, parents=True)
        path = folder / f"{self.domain.name.replace(', ', '-').replace(' ', '-')}-{self.size}-{name}.safetensors"
        made = {"images": self.images.fingerprint, "epochs": self.config.epochs, "seed": self.config.seed}
        if not path.is_file():
            network = self._fresh(name)
            loop = Loop(f"{self.domain.name} {self.size}: {name}", options.steps(self.images))
            loop.train(ClassifierTrainee(network, Nominal(), self.images, options, self.config.seed, self.fabric))
            write_tensors(path, "classifier", network.state_dict(), made)
        tensors, metadata = read_tensors(path, "classifier")
        if metadata != made:
            raise UserError(f"{path}: trained otherwise; choose another folder with --classifiers")
        return rebuilt(lambda: self._fresh(name), tensors, path, name).to(self.fabric.device)


@dataclass(frozen=True, eq=False)
class Mixed:
    """What classifiers answer to N images, their reconstructions, and D random mixes of each, which keep the residual.

    Attributes:
        answers: by classifier, `(2 + D, N)`: image, reconstruction, mixes.
        change: root of the mean squared change of pixels that a random mix makes, images in [0, 1].
    """

    answers: dict[str, Tensor]
    change: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: Autoencoder, images: ImageSet, donors: Tensor, judges: dict[str, nn.Module]) -> Mixed:
        """Ask."""
        dec, enc = model.generator, model.encoder
        split = Split(dec.layers, tuple(range(dec.layers)))
        found: dict[str, list[Tensor]] = {name: [] for name in judges}
        squares = 0.0
        with eval_mode(dec, enc, *judges.values()):
            pool = encoded(images, enc)
            for part in slices(len(images), BATCH):
                pixels = images.batch(part)[0]
                latents = enc(pixels)
                whole = dec.complete(latents, pixels)
                mixed = list(mixes(dec, split, whole, pool, donors[:, part]))
                squares += sum(float((mix - pixels).square().mean(dim=(1, 2, 3)).sum()) for mix in mixed)
                for name, judge in judges.items():
                    shown = [pixels, dec(latents), *mixed]
                    found[name].append(torch.stack([answers(judge(one)).cpu() for one in shown]))
        change = (squares / donors.numel()) ** 0.5
        return cls({name: torch.cat(parts, dim=1) for name, parts in found.items()}, change)

    def numbers(self, labels: Tensor) -> Record:
        """Accuracies in [0, 1] of the nominal classifier, and of the mixes of images that the reference reads rightly
        the share that keep their label, with its 95 % interval.
        """
        right = self.answers["nominal"] == labels
        reference = self.answers["reference"] == labels
        kept = reference[2:, reference[0]].double().mean(dim=0)
        clean, reconstruction, *mixed = right.double().mean(dim=1).tolist()
        return {
            "accuracy_clean": clean,
            "accuracy_reconstruction": reconstruction,
            "accuracy_random_mix": sum(mixed) / len(mixed),
            "reference_accuracy": float(reference[0].double().mean()),
            "labels_kept": wilson(float(kept.sum()), len(kept)).to_dict(),
            "change": self.change,
        }


def kinds_table(rows: list[Record]) -> Table:
    """As a person reads it."""
    view = Table("kind", "pixels", "error", "as it is", "reconstr.", "random mix", "labels kept", "change")
    for row in rows:
        cells = [row["domain"], str(row["size"]), f"{row['mse']:.4f}"]
        for key in ("accuracy_clean", "accuracy_reconstruction", "accuracy_random_mix"):
            cells.append(f"{100 * row[key]:.1f}" if key in row else "")
        kept = row.get("labels_kept")
        view.add_row(*cells, f"{100 * kept['value']:.1f}" if kept else "", f"{row['change']:.3f}")
    return view
