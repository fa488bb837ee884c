"""The variations that an audit found, drawn again from its `found.safetensors`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.audit.inputs import CALIBRATION_IMAGES, AuditInputs, audit_parts
from advmix.audit.model_card import model_card
from advmix.audit.records import AuditRecords
from advmix.audit.statistics import is_trusted
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.commands.encode import open_model
from advmix.data.datasets import Data, OwnImages, names_of, open_data
from advmix.data.images import ImageSet, slices, to_float
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import DEFAULT_GENERATOR
from advmix.encoders.network import start_latents
from advmix.encoders.store import PoolOptions
from advmix.export.fiftyone import fiftyone_files
from advmix.export.variations import (
    TABLE,
    Finder,
    Item,
    SourceImages,
    VariationFolder,
    compared,
    kept_words,
    read_table,
)
from advmix.mixing import WORST_CASE, Mixer, RandMix, SearchOptions, calibrated, with_layers
from advmix.pools import FittedModel, data_for, load, open_generator
from advmix.report.tables import RESULTS
from advmix.training.reference import check_independent, open_reference
from advmix.utils.config import Settings, check_values, from_dict
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import atomic_write, json_digest, read_json
from advmix.utils.progress import console, track
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import generator

WORST = "worst"
MIXES = (WORST, "smallest")


@dataclass(frozen=True, eq=False)
class AuditVariations:
    """What an audit found, for each of its classifiers.

    Args:
        found: what it kept.
        data: the images that were audited.
        sources: those of them, with their names.
        lenders: names of the pool's images.
        model: draws the variations, on its device.
        mix: `worst`, what hurt a classifier most, or `smallest`, the least change that flips its answer.
    """

    found: AuditRecords
    data: Data
    sources: SourceImages
    lenders: Sequence[str]
    model: FittedModel
    mix: str = WORST

    def find(self, part: slice) -> Iterator[Item]:
        """A variation of each image of a part, classifier by classifier; no smallest one where nothing flips."""
        for number, about in enumerate(self.found.metadata["classifiers"]):
            judged, sources = self.found.classifiers[number], self.sources[part]
            kept = [""] * len(sources.images.labels)
            if is_trusted(self.found):
                seen = self.found.images.reference_before[part]
                told = judged.reference_after if self.mix == WORST else judged.reference_flip
                kept = kept_words(seen, told[part], sources.images.labels)
            donors = [self.lenders[donor] for donor in judged.donors[part].tolist()]
            after = (judged.after if self.mix == WORST else judged.flip_answers)[part]
            variant = f"{self.mix}-{number + 1}"
            rows = compared(sources, about["name"], variant, donors, judged.before[part], after, kept)
            items = zip(sources.places.tolist(), rows, self._drawn(part, number, about["side"]), strict=True)
            there = judged.flip_strength[part].isfinite() & (judged.flip_strength[part] > 0)
            yield from (item for item, flips in zip(items, there.tolist(), strict=True) if flips or self.mix == WORST)

    @torch.no_grad()
    def _drawn(self, part: slice, number: int, side: int) -> Tensor:
        dec, device = self.model.generator, self.model.pool.styles.device
        shown, own = self.originals(part, side).to(device), self.found.images.latents[part].to(device)
        latents = start_latents(dec, self.model.encoder, shown, own, self.found.metadata["residual"])
        judged = self.found.classifiers[number]
        perp = (judged.perp if self.mix == WORST else judged.flip_perp)[part].to(device)
        return dec(self.found.split.with_perp(latents, perp)).cpu()  # type: ignore[no-any-return]

    def originals(self, part: slice, side: int | None = None) -> Tensor:
        """The images as a classifier was shown them, `(B, C, S, S)` in [0, 1]; default the first classifier."""
        side = side or self.found.metadata["classifiers"][0]["side"]
        sources = self.sources[part]
        pixels = sources.images.pixels
        if side > pixels.shape[-1] and isinstance(self.data, OwnImages):
            with self.data.native() as native:
                pixels = native.pixels(sources.names, side)
        return to_float(pixels)


def open_audit(
    audit: Path, generator: Path | None, latents: Path | None, device: torch.device
) -> tuple[AuditVariations, dict[str, str]]:
    """What an audit found, and the fingerprints of what it is drawn from.

    Args:
        audit: folder of the audit.
        generator: where its generator lies now; default where it lay.
        latents: likewise its latents.
        device: for the generator.

    Raises:
        UserError: no audit there, or images or generator are not the same any more.
    """
    found = AuditRecords.load(audit)
    place, data = audit if audit.is_dir() else audit.parent, _audited(found.metadata, audit)
    return _variations_of(found, data, _found_with(found.metadata, place, generator, latents, data, device))


def _variations_of(found: AuditRecords, data: Data, parts: FittedModel) -> tuple[AuditVariations, dict[str, str]]:
    metadata, rows, names = found.metadata, found.images.rows, names_of(data, "test")
    sources = SourceImages(data.test[rows], [names[row] for row in rows.tolist()], rows)
    inputs = {"generator": metadata["generator_fingerprint"], "images": sources.images.fingerprint}
    judges = [about["fingerprint"] for about in metadata["classifiers"]]
    found_by = {"classifier": " ".join(judges), "search": f"{metadata['search']} {metadata['seed']}"}
    return AuditVariations(found, data, sources, parts.member_names(data), parts), {**inputs, **found_by}


def _found_with(
    metadata: Mapping[str, Any],
    folder: Path,
    generator: Path | None,
    latents: Path | None,
    data: Data,
    device: torch.device,
) -> FittedModel:
    """Generator and pool of an audit in `folder`."""
    options = from_dict(PoolOptions, metadata["pool_options"], str(folder))
    named = Path(metadata["latents"]) if metadata["latents"] else None
    made, lent = audit_parts(folder, Path(metadata["generator"]), named, options)
    parts = load(generator or made, latents or lent, device, data=data, options=options)
    if parts.metadata["fingerprint"] != metadata["generator_fingerprint"]:
        raise UserError(f"{folder}: found with another generator than the one in {parts.folder}")
    return parts


def _audited(metadata: Mapping[str, Any], audit: Path) -> Data:
    """The data set that was audited."""
    config, seed = from_dict(DataConfig, metadata["data"], str(audit)), int(metadata["data_seed"])
    data = open_data(config, seed, download=False)
    if data.test.fingerprint != metadata["images"]:
        raise UserError(f"{audit}: found in other images than those in {data.config.data} now; audit again")
    return data


WRITTEN_TOGETHER = 100
"""Images whose variations are drawn, and written, together."""

METHODS = ("advmix", "randmix")

SPLITS = ("test", "train")

WHICH = ("all", "fooled")

FIFTYONE, MODEL_CARD = "fiftyone", "model-card"

TO = ("images", FIFTYONE, MODEL_CARD)

WITH_AUDIT = ("audit", "to", "mix", "only", "generator", "latents", "which", "originals", "out", "device", "resume")


@dataclass(frozen=True)
class ExportConfig(Settings):
    """Write variations of a generator's images as PNG files in a folder for each class, with a table: to be looked at,
    relabelled, or used elsewhere.

    Writes CLASS/NAME__variant.png, variations.csv, variations.sha256 and config.json. `advmix data OUT` and
    torchvision's ImageFolder read it.

    With --audit they are those that an audit found; else name a classifier, and images, for a search.

    Args:
        audit: folder that audit wrote; of the other settings, only the next three, `which` and `originals` are then
            used.
        mix: of an audit: the `worst` mix that was found of each image, or the `smallest` change that flips.
        only: name of the one image of an audit that is drawn; default all.
        to: `images`; `fiftyone`, the same with the originals and with the files that FiftyOne reads; or `model-card`,
            what an audit found as a part of a model card, without images (the extra `hub`).
        classifier: which one is asked, and searched against.
        data: the images that are varied; by default those that a generator was fitted to.
        generator: a ready-made generator (`statistics`, `statistics:KIND`, `photo`; default `statistics`), or a folder
            that fit wrote. With --audit: where it lies now.
        latents: folder that encode wrote, the pool whose z⊥ are borrowed; by default it is encoded. With --audit: where
            they lie now.
        pool: whose z⊥ are borrowed.
        method: how variations are found: `advmix`, by the search, or `randmix`, at random.
        search: the search, for advmix; its layers of z⊥ for both.
        variants: of every image, each from other donors.
        which: `all`, or `fooled`, those that the classifier gets wrong while it is right on the image.
        split: `test` images or `train` images, which are the pool's own.
        images: at most so many, drawn at random; default all.
        residual: whether variations keep what the generator cannot draw of an image.
        originals: whether each image is written beside its variations.
        reference: a classifier, named as `--classifier` is, that says whether a variation still shows its label.
        seed: fixes images and donors.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    audit: Path | None = None
    mix: str = WORST
    only: str | None = None
    to: str = "images"
    classifier: ClassifierOptions = field(default_factory=lambda: ClassifierOptions(""))
    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    generator: Path | None = None
    latents: Path | None = None
    pool: PoolOptions = field(default_factory=PoolOptions)
    method: str = "advmix"
    search: SearchOptions = WORST_CASE
    variants: int = 1
    which: str = "all"
    split: str = "test"
    images: int | None = None
    residual: bool = True
    originals: bool = False
    reference: str | None = None
    seed: int = 0
    out: Path = Path("runs/export")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("method", METHODS), ("which", WHICH), ("split", SPLITS), ("to", TO), ("mix", MIXES)):
            if getattr(self, name) not in known:
                raise UserError(f"--{name} {getattr(self, name)}: unknown; choose from {' '.join(known)}")
        check_values(self, "variants images", least=1)
        if self.to == MODEL_CARD and self.audit is None:
            raise UserError("--to model-card: name the --audit that it is of")
        if self.audit is None and (self.mix != WORST or self.only is not None):
            raise UserError("--mix and --only: of an --audit; name one")
        if self.audit is not None:
            self._check_audit()
        elif not self.classifier.classifier:
            raise UserError("export: name --audit, or --classifier")

    def _check_audit(self) -> None:
        """Refuse what an audit has decided already."""
        for part in fields(self):
            default = part.default_factory() if callable(part.default_factory) else part.default
            if part.name not in WITH_AUDIT and getattr(self, part.name) != default:
                raise UserError(f"--{part.name}: not together with --audit, which has its own")


@dataclass(frozen=True, eq=False)
class Exports:
    """What is written.

    Attributes:
        sources: the images that are varied.
        find: the variations of some of them.
        originals: these images themselves, `(B, C, H, W)` in [0, 1].
        inputs: fingerprints of all that they come from.
    """

    sources: SourceImages
    find: Callable[[slice], Iterable[Item]]
    originals: Callable[[slice], Tensor]
    inputs: dict[str, str | None]


def run_export(config: ExportConfig) -> None:
    """Find and write what is not written yet.

    Raises:
        UserError: bad input.
    """
    if config.to == MODEL_CARD and config.audit is not None:
        _write_cards(config, config.audit)
        return
    device = open_device(config.device)
    _export(config, _of_search(config, device) if config.audit is None else _of_audit(config, config.audit, device))


def export_result(folder: Path, inputs: AuditInputs, out: Path) -> None:
    """What an audit found as a data set of FiftyOne, where its images need not be on disk.

    Args:
        folder: of the audit.
        inputs: all that it was made of.
        out: a new folder.

    Raises:
        UserError: there is something in it already.
    """
    found, known = _variations_of(AuditRecords.load(folder), inputs.data, inputs.fitted)
    config = ExportConfig(audit=folder, to="fiftyone", out=out)
    _export(config, Exports(found.sources, found.find, found.originals, {**known}))


def _write_cards(config: ExportConfig, audit: Path) -> None:
    """A file for each classifier."""
    results = read_json(audit / RESULTS)
    with open_run(config.out, "export", config, config.resume, {"audit": json_digest(results)}):
        several = len(results["classifiers"]) > 1
        for number in range(len(results["classifiers"])):
            path = config.out / (f"model_card_{number + 1}.md" if several else "model_card.md")
            atomic_write(path, model_card(results, number).encode())
            console.print(f"  {path}", markup=False)


def _export(config: ExportConfig, exports: Exports) -> None:
    with open_run(config.out, "export", config, config.resume, exports.inputs):
        sources = exports.sources
        names = dict(zip(sources.places.tolist(), sources.names, strict=True))
        folder = VariationFolder(config.out, sources.images.classes, names)
        _write(config, folder, exports)
        console.print(summary(folder), markup=False)


def _write(config: ExportConfig, folder: VariationFolder, exports: Exports) -> None:
    """A part of the folder for each batch of images."""
    parts = _parts(config.only, exports.sources.names)
    with track("export", sum(part.stop - part.start for part in parts)) as advance:
        for number, part in enumerate(parts):
            if not folder.has(number):
                found = [item for item in exports.find(part) if config.which == "all" or item[1].fooled]
                originals = config.originals or config.to == FIFTYONE
                folder.write(number, found, _originals(exports, part) if originals else None)
            advance(part.stop - part.start, "")
    if config.to == FIFTYONE:
        folder.finish(len(parts), partial(fiftyone_files, classes=exports.sources.images.classes))
    else:
        folder.finish(len(parts))


def _parts(only: str | None, names: Sequence[str]) -> list[slice]:
    """Images that are drawn together.

    Raises:
        UserError: no image is called `only`.
    """
    if only is None:
        return list(slices(len(names), WRITTEN_TOGETHER))
    if only not in names:
        raise UserError(f"--only {only}: not among the {len(names):,} images of this audit, such as {names[0]}")
    place = list(names).index(only)
    return [slice(place, place + 1)]


def _originals(exports: Exports, part: slice) -> dict[int, Tensor]:
    return dict(zip(exports.sources.places[part].tolist(), exports.originals(part), strict=True))


def _of_audit(config: ExportConfig, audit: Path, device: torch.device) -> Exports:
    found, inputs = open_audit(audit, config.generator, config.latents, device)
    found = replace(found, mix=config.mix)
    return Exports(found.sources, found.find, found.originals, {**inputs})


def _of_search(config: ExportConfig, device: torch.device) -> Exports:
    named = config.generator or DEFAULT_GENERATOR
    model, metadata = open_generator(named, config.data, config.pool)
    data = data_for(metadata, named, config.data, config.seed, model.generator)
    mixable = open_model(named, config.latents, config.pool, data, None, device)
    config = replace(config, search=with_layers(config.search, mixable.model.config))
    sources = chosen(data, config)
    opened = _open(config, sources.images)
    trust, votes = config.classifier.trust_code, config.reference
    reference = None if votes is None else open_reference(votes, sources.images, trust)
    if reference is not None and votes is not None:
        check_independent(votes, reference.network.to(device), [opened], sources.images, device)
    search = make_finder(config, mixable, data, opened, reference, sources.images)

    def find(part: slice) -> Iterator[Item]:
        for number in range(1, config.variants + 1):
            yield from search.find(sources[part], config.method, number)

    inputs = {
        "classifier": opened.fingerprint,
        **mixable.fingerprints,
        "images": sources.images.fingerprint,
        "reference": None if reference is None else reference.fingerprint,
    }
    return Exports(sources, find, lambda part: sources.images.batch(part)[0], inputs)


def _open(config: ExportConfig, images: ImageSet) -> OpenClassifier:
    """The classifier, able to do what is asked of it.

    Raises:
        UserError: of other images or classes, or without gradients for a search.
    """
    opened = open_classifier(config.classifier, images.classes, images.shape)
    if config.method == "advmix":
        opened.check_search(config.search.steps)
    return opened


def chosen(data: Data, config: ExportConfig) -> SourceImages:
    """The images that are varied, with their names."""
    images = data.train if config.split == "train" else data.test
    everything = SourceImages(images, names_of(data, config.split), torch.arange(len(images)), config.split == "train")
    order = torch.randperm(len(images), generator=generator(config.seed, "export", "images"))
    return everything[order[: config.images].sort().values]


def make_finder(
    config: ExportConfig,
    mixable: FittedModel,
    data: Data,
    opened: OpenClassifier,
    reference: OpenClassifier | None,
    images: ImageSet,
) -> Finder:
    """What looks for variations of images, its networks on their device."""
    device, split = mixable.pool.styles.device, config.search.split(mixable.generator.layers)
    mixer: Mixer = config.search.mixer(mixable.generator)
    if config.method == "randmix":
        mixer = RandMix(mixable.generator, split, config.search.strength)
    network, sample = opened.network.to(device), images[:CALIBRATION_IMAGES].batch(slice(None))[0].to(device)
    return Finder(
        network,
        opened.name,
        mixer,
        mixable.encoder,
        mixable.pool,
        mixable.member_names(data),
        None if reference is None else reference.network.to(device),
        config.residual,
        config.seed,
        calibrated(network, sample),
        mixable.places(len(data.train)),
    )


def summary(folder: VariationFolder) -> str:
    """How many there are, in a sentence."""
    rows = read_table(folder.out)
    fooled = [row for row in rows if row["fooled"] == "yes"]
    said = f"  {len(rows):,} variations in {folder.out}, {len(fooled):,} of which flip the classifier"
    asked = [row["label_kept"] for row in fooled if row["label_kept"]]
    if asked:
        said += f"; the reference still sees the label in {asked.count('yes'):,} of the {len(asked):,} it can judge"
    return f"{said}; table in {folder.out / TABLE}"
