"""The settings of `advmix audit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from advmix.attacks import AttackOptions
from advmix.audit.thresholds import check_known, read_thresholds
from advmix.classifiers.settings import ClassifierOptions
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import DEFAULT_GENERATOR
from advmix.encoders.store import PoolOptions
from advmix.mixing import WORST_CASE, SearchOptions
from advmix.training.autoencode import FitOptions
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import check_values
from advmix.utils.device import MachineOptions
from advmix.utils.errors import UserError

NO_REFERENCE = "none"
"""In the place of a reference: labels are not checked."""

FORMATS = ("text", "json", "markdown")

QUICK_READ = 1000
"""Images of every split that `--quick` reads."""

FIT = Path("fit")
"""In the place of a generator: fit one."""


@dataclass(frozen=True)
class AuditConfig(ClassifierOptions):
    """What flips a classifier? How right it is on test images as they are, as the generator draws them, mixed at random
    and in the worst case; by class, by group and by layer; with pictures of the strongest failures and a check of the
    labels.

    Writes report.html, results.json, found.safetensors (all that was found, image by image) and config.json.

    Args:
        name: what the classifiers are called, in their order; by default as their files are.
        compare: classifiers side by side, under one search: folders that train wrote, files, or .json files with the
            options of one. `--classifier`, where it is named too, is the first of them; flags like `--mean` describe
            that one alone.
        data: images of your own, or painted digits; the test images are audited. By default those of the generator or,
            where none is named, of the classifier's folder, as other flags change them. Own images are read in the size
            of a generator that is named.
        generator: what varies the images: a ready-made generator (`statistics`, `statistics:KIND`, `photo`); `fit`,
            which fits one on the training images, into OUT/generator; or a folder that fit wrote.
        latents: folder that encode wrote, the pool of the search; by default the pool is encoded into OUT/latents.
        pool: whose z⊥ are borrowed.
        reference: a classifier that votes whether a mix still shows its label, named as `--classifier` is; by default
            one of another architecture and seed is trained on the training images, into OUT/reference. `none`: labels
            are not checked.
        fit: how a generator is fitted, with `--generator fit`.
        search: the search for the worst case. Without --perp, z⊥ are all styles beside a spatial grid, else the two
            finest layers.
        arithmetic: how the search computes, and a generator that is fitted here.
        attack: another's attack on the images as they are, beside the search.
        residual: whether mixes keep what the generator cannot draw of an image.
        votes: answers of a person to the sheet of the page, as it saved them: of a finished audit, in the same folder.
        quick: an answer in half a minute: at most 100 test images, of 1,000 that are read of every split, a search of
            3 x 3, 6 pictures of each kind, labels are not checked, and there is no page to explore.
        explore: draw every image on its way to what flips it, for the page to explore.
        images: at most so many test images, drawn at random.
        pictures: at most so many of each kind in the report.
        resamples: of the bootstrap.
        chunk: images between two savings.
        seed: fixes images, donors, resamples, and what is fitted or trained here.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        machines: how many processes take turns with the images; more than one fit no generator.
        resume: go on with a run that was stopped; a finished one is said again.
        fail_under: what must be reached, such as "worst_case=0.6, random_mix=0.9, worst_group=0.5": exit code 1 where
            the lower end of the 95 % interval is below.
        format: of what is printed: `text`; `json`, the results alone on the standard output; or `markdown`, a table and
            sentences for a pull request.
    """

    classifier: str = ""
    name: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    generator: Path = DEFAULT_GENERATOR
    latents: Path | None = None
    pool: PoolOptions = field(default_factory=PoolOptions)
    reference: str | None = None
    fit: FitOptions = field(default_factory=lambda: FitOptions(start="auto"))
    search: SearchOptions = WORST_CASE
    arithmetic: ArithmeticOptions = field(default_factory=ArithmeticOptions)
    attack: AttackOptions = field(default_factory=AttackOptions)
    residual: bool = True
    votes: Path | None = None
    quick: bool = False
    explore: bool = True
    images: int = 500
    pictures: int = 12
    resamples: int = 2000
    chunk: int = 100
    seed: int = 0
    out: Path = Path("runs/audit")
    device: str = "auto"
    machines: MachineOptions = field(default_factory=MachineOptions)
    resume: bool = False
    fail_under: str = ""
    format: str = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "images resamples", least=2)
        check_values(self, "chunk", least=1)
        check_values(self, "pictures", least=0)
        if not self.named_classifiers:
            raise UserError("audit: name a classifier with --classifier, or several with --compare")
        if self.format not in FORMATS:
            raise UserError(f"--format {self.format}: unknown; choose from {' '.join(FORMATS)}")
        check_known(read_thresholds(self.fail_under), self._unmeasured)
        if self.flags and not self.classifier:
            raise UserError(
                f"{' '.join(self.flags)}: would describe --classifier alone, and there is none; put what belongs to a "
                "classifier of --compare into a .json file of its own, and name that"
            )
        if self.name and (len(set(self.name)) < len(self.name) or len(self.name) != len(self.named_classifiers)):
            raise UserError(
                f"--name {' '.join(self.name)}: give {len(self.named_classifiers)} names, one for each classifier, "
                "no two alike"
            )
        if self.latents is not None and self.fits:
            raise UserError("--latents: goes together with a --generator that is there already; name what fit wrote")
        if self.machines.processes > 1 and self.fits:
            raise UserError(
                f"--devices {self.machines.devices}: name a --generator that is there already; while one process "
                "fitted it the others would wait, and torch gives up after half an hour"
            )

    @property
    def _unmeasured(self) -> set[str]:
        """Names of thresholds of which these settings let no figure be measured."""
        unchecked = self.as_run.reference == NO_REFERENCE
        return ({"checked"} if unchecked else set()) | (set() if self.attack.attack else {"attacked"})

    @property
    def as_run(self) -> AuditConfig:
        """What `--quick` stands for, in full."""
        if not self.quick:
            return self
        limit = min(self.data.photos.limit or QUICK_READ, QUICK_READ)
        data = replace(self.data, photos=replace(self.data.photos, limit=limit)) if self.data.data else self.data
        return replace(
            self,
            quick=False,
            explore=False,
            data=self.data if self.data.is_painted else data,
            reference=self.reference or NO_REFERENCE,
            search=replace(self.search, restarts=min(self.search.restarts, 3), steps=min(self.search.steps, 3)),
            images=min(self.images, 100),
            pictures=min(self.pictures, 6),
        )

    @property
    def fits(self) -> bool:
        """Whether a generator is fitted on the training images."""
        return self.generator == FIT

    @property
    def named_classifiers(self) -> tuple[ClassifierOptions, ...]:
        """The classifiers, in order."""
        own = {field.name: getattr(self, field.name) for field in fields(ClassifierOptions)}
        first = (ClassifierOptions(**own),) if self.classifier else ()
        return (*first, *(ClassifierOptions(name, trust_code=self.trust_code) for name in self.compare))

    @property
    def classifier_names(self) -> tuple[str, ...]:
        """What the classifiers are called, no two alike: as `name` says, or as their files or folders are."""
        if self.name:
            return self.name
        paths = [Path(one.weights or one.classifier) for one in self.named_classifiers]
        if len(paths) == 1:
            return (file_name(paths[0]),)
        names = told_apart([file_name(path) for path in paths], [path.resolve().parent.name for path in paths])
        return tuple(told_apart(names, [str(place) for place in range(1, len(names) + 1)]))


def file_name(path: Path) -> str:
    """`r18` of `nets/r18.pt`; what is no file, `timm:resnet18`, is called by its whole name."""
    return path.stem if path.suffix in NETWORK_FILES else path.name or str(path)


def told_apart(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """The same names, with its word before each that occurs more than once."""
    return [f"{word}/{name}" if names.count(name) > 1 else name for name, word in zip(names, words, strict=True)]


NETWORK_FILES = (".pt", ".pth", ".pt2", ".onnx", ".json", ".safetensors", ".ckpt", ".bin", ".tar")
"""Endings that are no part of a classifier's name."""
