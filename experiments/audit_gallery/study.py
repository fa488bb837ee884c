"""`python -m experiments gallery`: audits of small classifiers whose shortcuts are known: are they found?"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advmix.audit.inputs import AuditInputs
from advmix.audit.results import AuditResult
from advmix.audit.run import audit
from advmix.audit.settings import AuditConfig
from advmix.audit.words import headline
from advmix.classifiers.open import open_classifier
from advmix.cli import parse
from advmix.commands.changes import easiest_words
from advmix.commands.train import TrainConfig, run_train
from advmix.intervals import wilson
from advmix.metrics import predict
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import Settings
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder, write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import answers
from experiments.audit_gallery.figures import audit_picture
from experiments.audit_gallery.images import (
    COLOR_STD,
    TEXTURE_STD,
    GalleryImages,
    digits,
    gray_digits,
    lit_photographs,
)
from experiments.audit_gallery.networks import train_network

PACKAGE = "experiments.audit_gallery.networks"


@dataclass(frozen=True)
class AuditGalleryConfig(Settings):
    """Six audits of classifiers that are trained here, on images whose shortcuts are known: what each audit says, and
    whether it is true.

    Goes on where it was stopped.

    Args:
        photographs: folder of the photographs, which `python -m experiments photo-pictures` makes.
        entries: which audits.
        out: folder for images, classifiers, audits, numbers and pictures.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    photographs: Path = Path("runs/pictures")
    entries: tuple[str, ...] = ("colors", "colors-advmix", "place", "textures", "light", "robust")
    out: Path = Path("runs/gallery")
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.entries:
            if name not in ENTRIES:
                raise UserError(f"--entries {name}: unknown; choose from {' '.join(ENTRIES)}")


@dataclass(frozen=True)
class GalleryEntry:
    """One audit.

    Attributes:
        title: of its section.
        planted: what is known of images and classifier, in a sentence or two.
        shortcut: what the classifier may depend on.
        images: name of its images in `IMAGES`.
        train: words of the command that trains the classifier; a name of `NETWORKS` where that is done here.
    """

    title: str
    planted: str
    shortcut: str
    images: str
    train: tuple[str, ...] | str


IMAGES: dict[str, Callable[[Path], GalleryImages]] = {
    "colors": lambda _: digits("colored", COLOR_STD, "each digit in the colour of a class drawn at random"),
    "textures": lambda _: digits(
        "wildlife", TEXTURE_STD, "digit and background in textures of classes drawn at random"
    ),
    "gray": lambda _: gray_digits(),
    "light": lit_photographs,
}

ENTRIES = {
    "colors": GalleryEntry(
        "A colour for each digit",
        "In training and test every digit has the colour of its class. The test sees nothing of it.",
        "the colour",
        "colors",
        ("--method", "nominal", "--epochs", "15"),
    ),
    "colors-advmix": GalleryEntry(
        "The same digits, trained by AdvMix",
        "The same images and network. Each image is also shown with the colour that the search found to hurt most.",
        "the colour",
        "colors",
        ("--method", "advmix", "--pool", "train", "--epochs", "15"),
    ),
    "place": GalleryEntry(
        "A network that knows where digits are",
        "Grey digits in the middle of the image, and one hidden layer over all pixels. Training changed light and "
        "contrast, never the place.",
        "the place",
        "gray",
        "dense",
    ),
    "textures": GalleryEntry(
        "A texture for each digit, and one for its background",
        "Digit and background have the two textures of the class: a pattern in two colours each.",
        "the textures",
        "textures",
        ("--method", "nominal", "--epochs", "15"),
    ),
    "light": GalleryEntry(
        "The light of a photograph",
        "Tiles of three photographs; the class is the photograph. The stream is lit a stop bluer, the meadow a stop "
        "warmer. No pixel of the test was in the training.",
        "the light",
        "light",
        ("--method", "nominal", "--epochs", "15", "--flip"),
    ),
    "robust": GalleryEntry(
        "A classifier with little to find",
        "The grey digits again, and convolutions. Training changed light, contrast, sharpness, place, size and angle.",
        "the place",
        "gray",
        "robust",
    ),
}


def run_audit_gallery(config: AuditGalleryConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    entries = {name: ENTRIES[name] for name in config.entries}
    made = {name: IMAGES[name](config.photographs) for name in dict.fromkeys(one.images for one in entries.values())}
    inputs = {name: images.test.fingerprint for name, images in made.items()}
    claim_run(config.out, "study gallery", config, resume=True, inputs=inputs)
    rows = []
    for name, images in made.items():
        images.write(config.out / name / "images")
    for name, entry in entries.items():
        done = _audited(config, name, entry, made[entry.images])
        rows.append(_row(name, entry, done, made[entry.images]))
        save_figures({name: audit_picture(done.result)}, config.out / "figures")
    results = {**header("study gallery", config), "entries": rows}
    write_json(config.out / RESULTS, results)
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


@dataclass(frozen=True, eq=False)
class FinishedAudit:
    """An audit with its settings, and the commands that make classifier and audit."""

    settings: AuditConfig
    result: AuditResult
    commands: list[str]


def _audited(config: AuditGalleryConfig, name: str, entry: GalleryEntry, images: GalleryImages) -> FinishedAudit:
    folder, data = config.out / name, str(config.out / entry.images / "images")
    commands, shape = [], ["--size", str(images.test.shape[-1]), "--channels", str(images.test.shape[0])]
    if isinstance(entry.train, str):
        weights = folder / "classifier.safetensors"
        make_folder(folder, parents=True)
        train_network(entry.train, images.train, weights)
        named = ["--classifier", f"{PACKAGE}:{entry.train}_net", "--weights", str(weights), "--data", data, *shape]
    else:
        commands.append(["train", "--data", data, *shape, *entry.train, "--out", str(folder / "classifier")])
        training: TrainConfig = _parsed(commands[-1], config)
        run_train(training)
        named = ["--classifier", str(folder / "classifier")]
    commands.append(["audit", *named, "--reference", "none", "--out", str(folder / "audit")])
    settings: AuditConfig = _parsed(commands[-1], config)
    fabric = make_fabric(config.device)
    result = audit(settings, AuditInputs.open(settings, fabric), fabric)
    return FinishedAudit(settings, result, [shlex.join(["advmix", *words]) for words in commands])


def _parsed(words: Sequence[str], config: AuditGalleryConfig) -> Any:
    """The settings of a command that goes on where it was stopped."""
    return parse([*words, "--device", config.device, "--resume"])


def _row(name: str, entry: GalleryEntry, done: FinishedAudit, images: GalleryImages) -> dict[str, Any]:
    """What the audit says, and how right the classifier is without the shortcut."""
    results, found = done.result.results, done.result.results["classifiers"][0]
    opened = open_classifier(done.settings.named_classifiers[0], images.test.classes, images.test.shape)
    right = answers(predict(opened.network, images.check, torch.device("cpu"))) == images.check.labels
    without_shortcut = wilson(int(right.sum()), len(right))
    part = found["parts"][0]
    return {
        "name": name,
        "title": entry.title,
        "planted": entry.planted,
        "shortcut": entry.shortcut,
        "commands": done.commands,
        "images": results["images"],
        **{key: part[key] for key in ("accuracy_clean", "accuracy_random_mix", "accuracy_worst_case")},
        "headline": headline(found, results),
        "flips": found["smallest"]["flips"],
        "kinds": [{key: kind[key] for key in ("sentence", "name", "count", "share")} for kind in found["kinds"]],
        "corroboration": found["corroboration"],
        "named_changes": easiest_words(found["named_changes"]),
        "checked": images.checked,
        "accuracy_without_shortcut": without_shortcut.to_dict(),
        "phases": results["phases"],
    }
