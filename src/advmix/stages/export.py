"""`advmix export`: variations of images as an ImageFolder with a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from advmix.audit.variation_folder import TABLE, VariationFolder, read_table
from advmix.audit.variations import Finder, Found, Sources
from advmix.classifiers import ClassifierOptions, open_classifier
from advmix.data import Data, ImageSet, slices
from advmix.data.sources import OwnImages
from advmix.encoders import fingerprint
from advmix.engine import make_fabric
from advmix.errors import UserError
from advmix.mixing import Mixer, RandMix
from advmix.options import require
from advmix.progress import console, track
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.stages.reference import open_reference
from advmix.stages.sources import Mixable, load
from advmix.training.methods import SearchOptions

BATCH = 100
METHODS = ("advmix", "randmix")
SPLITS = ("test", "train")
WHICH = ("all", "fooled")


@dataclass(frozen=True)
class ExportConfig:
    """Write variations of a generator's images as PNG files in a folder for each class, with a table: to be looked at,
    relabelled, or used elsewhere.

    Writes CLASS/NAME__variant.png, variations.csv and config.json. `advmix data OUT` and torchvision's ImageFolder
    read it.

    Args:
        classifier: which one is asked, and searched against.
        generator: folder that fit wrote; its data set's images are varied.
        latents: folder that encode wrote, the pool whose z⊥ are borrowed.
        method: how variations are found: `advmix`, by the search, or `randmix`, at random.
        search: the search, for advmix; its layers of z⊥ for both.
        variants: of every image, each from other donors.
        which: `all`, or `fooled`, those that the classifier gets wrong while it is right on the image.
        split: `test` images or `train` images, which are the pool's own.
        images: at most so many, drawn at random; default all.
        residual: whether variations keep what the generator cannot draw of an image.
        originals: whether each image is written beside its variations.
        reference: folder that train wrote, whose classifier says whether a variation still shows its label.
        seed: fixes images and donors.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    classifier: ClassifierOptions
    generator: Path
    latents: Path
    method: str = "advmix"
    search: SearchOptions = field(default_factory=lambda: SearchOptions(restarts=5, steps=5))
    variants: int = 1
    which: str = "all"
    split: str = "test"
    images: int | None = None
    residual: bool = True
    originals: bool = False
    reference: Path | None = None
    seed: int = 0
    out: Path = Path("runs/export")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("which", WHICH), ("split", SPLITS)):
            if getattr(self, name) not in known:
                raise UserError(f"--{name} {getattr(self, name)}: unknown; choose from {' '.join(known)}")
        require(self, "variants images", least=1)


def run_export(config: ExportConfig) -> VariationFolder:
    """Find and write what is not written yet.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    mixable = load(config.generator, config.latents, fabric.device)
    sources = chosen(mixable.data, config)
    search = make_finder(config, mixable, sources.images)
    inputs = {
        "classifier": fingerprint(search.classifier),
        "generator": mixable.metadata["fingerprint"],
        "images": sources.images.fingerprint,
        "reference": None if search.reference is None else fingerprint(search.reference),
    }
    open_run(config.out, "export", config, config.resume, inputs)
    names = dict(zip(sources.places.tolist(), sources.names, strict=True))
    folder = VariationFolder(config.out, sources.images.classes, names)
    _write(config, folder, sources, search)
    console.print(summary(folder), markup=False)
    return folder


def chosen(data: Data, config: ExportConfig) -> Sources:
    """The images that are varied, with their names."""
    images = data.train if config.split == "train" else data.test
    everything = Sources(images, names_of(data, config.split), torch.arange(len(images)), config.split == "train")
    order = torch.randperm(len(images), generator=generator(config.seed, "export", "images"))
    return everything[order[: config.images].sort().values]


def names_of(data: Data, split: str) -> Sequence[str]:
    """What the images of a split are called; painted digits have numbers only."""
    if isinstance(data, OwnImages):
        return (data.photos.train if split == "train" else data.photos.test).names
    return [f"{split}/{place:06d}" for place in range(len(data.train if split == "train" else data.test))]


def make_finder(config: ExportConfig, mixable: Mixable, images: ImageSet) -> Finder:
    """What looks for variations, its networks on their device.

    Raises:
        UserError: a classifier of other images or classes, or one without gradients for a search.
    """
    device, (channels, height, width) = mixable.pool.styles.device, images.pixels.shape[1:]
    opened = open_classifier(config.classifier, images.classes, (channels, height, width))
    mixer: Mixer = RandMix(mixable.generator, config.search.split(mixable.generator.layers))
    if config.method == "advmix":
        opened.check_search(config.search.steps)
        mixer = config.search.mixer(mixable.model)
    return Finder(
        opened.network.to(device),
        mixer,
        mixable.encoder,
        mixable.pool,
        names_of(mixable.data, "train"),
        None if config.reference is None else open_reference(config.reference, images)[0].to(device),
        config.residual,
        config.seed,
    )


def _write(config: ExportConfig, folder: VariationFolder, sources: Sources, search: Finder) -> None:
    """A part of the folder for each batch of images."""
    parts = list(slices(len(sources.names), BATCH))
    with track("export", len(sources.names)) as advance:
        for number, part in enumerate(parts):
            if not folder.has(number):
                found = [row for row in _vary(config, sources[part], search) if config.which == "all" or row[1].fooled]
                folder.write(number, found, _originals(sources[part]) if config.originals else None)
            advance(part.stop - part.start, "")
    folder.finish(len(parts))


def _vary(config: ExportConfig, sources: Sources, search: Finder) -> Iterator[Found]:
    for number in range(1, config.variants + 1):
        yield from search.find(sources, config.method, number)


def _originals(sources: Sources) -> dict[int, Tensor]:
    return dict(zip(sources.places.tolist(), sources.images.batch(slice(None))[0], strict=True))


def summary(folder: VariationFolder) -> str:
    """How many there are, in a sentence."""
    rows = read_table(folder.out)
    fooled = [row for row in rows if row["fooled"] == "yes"]
    said = f"  {len(rows):,} variations in {folder.out}, {len(fooled):,} of which flip the classifier"
    asked = [row["label_kept"] for row in fooled if row["label_kept"]]
    if asked:
        said += f"; the reference still sees the label in {asked.count('yes'):,} of the {len(asked):,} it can judge"
    return f"{said}; table in {folder.out / TABLE}"
