"""Which of the named folders is what, and what they say of the search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.audit.inputs import audited_data
from advmix.audit.settings import NO_REFERENCE, AuditConfig
from advmix.classifiers.settings import ClassifierOptions
from advmix.commands.evaluate import EvaluateConfig
from advmix.commands.fit import FitConfig
from advmix.commands.sample import ImportConfig
from advmix.commands.train import TrainConfig
from advmix.data.datasets import Data
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder, is_ready_made, load_autoencoder
from advmix.encoders.network import Encoder, encoded
from advmix.encoders.store import PoolOptions
from advmix.latents import Latents, Split
from advmix.mixing import WORST_CASE, SearchOptions, with_layers
from advmix.pools import data_for, data_of, in_size, load, open_generator
from advmix.training.encoding import EncodeConfig
from advmix.training.methods import NEEDS_LATENTS
from advmix.training.reference import OWN
from advmix.utils import config as configs
from advmix.utils.errors import UserError
from advmix.utils.files import read_json
from advmix.utils.progress import quietly
from advmix.utils.torch_tools import generator
from advmix.utils.trust import check_trusted, code_in

KINDS: Mapping[str, type[Any]] = {
    "fit": FitConfig,
    "import": ImportConfig,
    "encode": EncodeConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "audit": AuditConfig,
}

SOURCES = {"generator": ("fit", "import"), "latents": ("encode",)}

"""Fields of a config that name a folder, and the commands that write such a one."""

MADE_INSIDE = ("generator", "latents")

"""Folders that an audit makes in its own where none is named."""

ASKED = ("classifier", "compare", "reference")

"""Settings that name what the doctor asks."""

REFERENCE = "reference"

"""The folder of an audit's own reference in its own."""


"""What audits search with by default; no layers stand for those that fit the generator."""

Loaded = tuple[str, Path, Any]

"""A command, the folder that it wrote, and its config."""


@dataclass(frozen=True)
class Runs:
    """What is examined.

    Attributes:
        generator: the fit folder.
        latents: the encode folder, if there is one.
        classifiers: what train wrote, and what was evaluated and audited.
        reference: of an audit, if it has one: who says whether mixes keep their label.
        search: the search of the audit, else of the evaluation, else that of audits by default with the training's
            layers, box and steps.
        residual: whether mixes keep what the generator cannot draw.
        audited: what the audits' flags said of their data, each with its seed; of runs with a ready-made generator, the
            data themselves.
    """

    generator: Path
    latents: Path | None
    classifiers: tuple[ClassifierOptions, ...]
    reference: str | None
    search: SearchOptions
    residual: bool
    audited: tuple[tuple[DataConfig, int], ...]


def find_runs(folders: Iterable[Path], trust_code: bool = False) -> Runs:
    """Sort folders by the command that wrote them; what a run was made from is looked up where it says it was.

    Args:
        folders: what the commands wrote.
        trust_code: whether a function that their configs name as a classifier may be called.

    Raises:
        UserError: a config that names one otherwise, a folder that none of our commands wrote, no generator, or more
            than one.
    """
    found = [run for folder in folders for run in _runs_in(folder)]
    with quietly():
        loaded = [(kind, folder, configs.load(folder / "config.json", kind, KINDS[kind])) for kind, folder in found]
    for kind, folder, config in loaded:
        for name in code_in(configs.to_dict(config), ASKED) if kind in ("audit", "evaluate") else ():
            check_trusted(name, str(folder / "config.json"), trust_code)
    generators, latents = (_sources(loaded, field) for field in SOURCES)
    if not generators:
        raise UserError("no fit folder among these, and none of them says where one is; name it as well")
    search, residual = _settings(loaded)
    classifiers = tuple(dict.fromkeys(named for run in loaded for named in _classifiers(*run)))
    references = [named for run in loaded if (named := _reference(*run[1:])) is not None]
    return Runs(
        generators[0],
        latents[0] if latents else None,
        classifiers,
        references[0] if references else None,
        search,
        residual,
        tuple(dict.fromkeys(_looked_at(loaded, generators[0]))),
    )


def _looked_at(loaded: Iterable[Loaded], generator: Path) -> Iterator[tuple[DataConfig, int]]:
    """The images that are looked at, as flags: those of audits. Of a ready-made generator, which has none of its own,
    those that its runs read.
    """
    for kind, _, config in loaded:
        if kind == "audit" and is_ready_made(generator) and not config.data.data:
            data, _ = audited_data(config)
            yield data.config, data.seed
        elif kind == "audit" or (kind == "train" and is_ready_made(generator)):
            yield config.data, config.seed


def _runs_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """The run in a folder, or those in its subfolders: what `advmix demo` writes, or simply `runs`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name what fit, encode, train, evaluate or audit wrote")
    kind = _kind(folder)
    inner = [(theirs, part) for part in sorted(folder.iterdir()) if part.is_dir() and (theirs := _kind(part))]
    if kind is None and not inner:
        raise UserError(f"{folder}: not written by {', '.join(KINDS)}, and neither is any folder in it")
    if kind == "audit":
        inner = [run for run in inner if run[1].name in MADE_INSIDE]
    elif kind is not None:
        inner = []
    yield from [(kind, folder), *inner] if kind else inner


def _kind(folder: Path) -> str | None:
    """The command that wrote a folder, if it is one that the doctor knows."""
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else None
    command = config.get("command") if isinstance(config, dict) else None
    return command if command in KINDS else None


def _sources(loaded: Iterable[Loaded], field: str) -> list[Path]:
    """The folder of generator or latents: the one that is named, else the one that the configs name, if it is there.

    Raises:
        UserError: several.
    """
    named = [folder for kind, folder, _ in loaded if kind in SOURCES[field]]
    mentioned = [getattr(config, field, None) for _, _, config in loaded]
    there = [folder for folder in mentioned if folder is not None and _is_there(folder)]
    found = {folder.resolve(): folder for folder in named or there}
    if len(found) > 1:
        listed = " ".join(map(str, found.values()))
        raise UserError(f"several {SOURCES[field][0]} folders ({listed}): name the runs of one of them")
    return list(found.values())


def _is_there(folder: Path) -> bool:
    return is_ready_made(folder) or (folder / "config.json").is_file()


def _classifiers(kind: str, folder: Path, config: Any) -> tuple[ClassifierOptions, ...]:
    """What a run trained or judged; an audit may have had several subjects."""
    if kind == "train":
        return (ClassifierOptions(str(folder)),)
    if isinstance(config, AuditConfig):
        return config.named_classifiers
    if isinstance(config, EvaluateConfig):
        return (ClassifierOptions(**{field.name: getattr(config, field.name) for field in fields(ClassifierOptions)}),)
    return ()


def _reference(folder: Path, config: Any) -> str | None:
    """Whom an audit asked about labels: a named one, or its own."""
    if not isinstance(config, AuditConfig):
        return None
    own = folder / REFERENCE
    if config.reference == NO_REFERENCE:
        return None
    return config.reference or (str(own) if (own / OWN).is_file() else None)


def _settings(loaded: Iterable[Loaded]) -> tuple[SearchOptions, bool]:
    """The search and the residual of the run that comes nearest to the worst case that a person reads."""
    runs = {kind: config for kind, _, config in loaded if kind != "train" or config.method in NEEDS_LATENTS}
    if "audit" in runs:
        return runs["audit"].search, runs["audit"].residual
    if "evaluate" in runs:
        return runs["evaluate"].search, False
    if "train" in runs:
        search = replace(runs["train"].search, restarts=WORST_CASE.restarts, steps=WORST_CASE.steps)
        return search, runs["train"].baseline.residual
    return WORST_CASE, False


PROBED = 1000

"""Codes that the linear probe learns from; also the pool, where none was stored."""

SLOW_IMAGES = 64

"""Unseen images that are encoded where the encoder is an optimisation."""


@dataclass(frozen=True, eq=False)
class DoctorInputs:
    """A generator with all that is needed to examine it.

    Attributes:
        model: generator and encoder, on their device.
        fingerprint: of the generator.
        data: what it was fitted on; where an audit is examined, what was audited.
        search: how a worst case is looked for.
        residual: whether mixes keep what the generator cannot draw.
        pool: latents of training images.
        rows: `(P,)`, which training images these are.
        images: N unseen ones.
        latents: theirs.
        stored: whether the pool comes from a file; otherwise it is a sample, encoded by the network.
        seed: of whatever is drawn.
        ready_made: whether the generator was fitted to nothing.
    """

    model: Autoencoder
    fingerprint: str
    data: Data
    search: SearchOptions
    residual: bool
    pool: Latents
    rows: Tensor
    images: ImageSet
    latents: Latents
    stored: bool
    seed: int
    ready_made: bool = False

    @property
    def split(self) -> Split:
        """Which layers are z⊥."""
        return self.search.split(self.model.generator.layers)

    def sample(self, count: int) -> Tensor:
        """Places of at most so many members of the pool, drawn at random."""
        return torch.randperm(len(self.pool), generator=generator(self.seed, "doctor", "pool"))[:count]

    @property
    def kept_latents(self) -> Latents:
        """The latents of the unseen images as they are mixed: with their residual where mixes keep it."""
        if not self.residual:
            return self.latents
        pixels = self.images.batch(slice(None))[0].to(self.pool.styles.device)
        return self.model.generator.complete(self.latents, pixels)


def open_doctor_inputs(runs: Runs, images: int, seed: int, device: torch.device) -> DoctorInputs:
    """Load everything, and encode a sample of unseen images as the pool was encoded.

    Raises:
        UserError: bad input.
    """
    if is_ready_made(runs.generator):
        return _open_ready_made(runs, images, seed, device)
    parts = (
        _sampled(runs.generator, seed, device)
        if runs.latents is None
        else _stored(runs.generator, runs.latents, device)
    )
    model, metadata, ours, encoder, pool, rows = parts
    search = with_layers(runs.search, model.config)
    search.split(model.generator.layers)
    data, stored = _examined(runs, ours, metadata, model), runs.latents is not None
    if data is not ours:  # other images, or other labels: nothing is known of the pool's
        rows, pool = _sample(data.train, encoder, seed, PROBED if encoder is model.encoder else SLOW_IMAGES)
        stored = False
    count = images if encoder is model.encoder else min(images, SLOW_IMAGES)
    test = data.test[torch.randperm(len(data.test), generator=generator(seed, "doctor", "images"))[:count]]
    latents = _encode(encoder, test, device)
    fingerprint = metadata["fingerprint"]
    return DoctorInputs(model, fingerprint, data, search, runs.residual, pool, rows, test, latents, stored, seed)


def _open_ready_made(runs: Runs, images: int, seed: int, device: torch.device) -> DoctorInputs:
    """The same with a generator that was fitted to nothing; its pool is a sample of the training images."""
    flags, data_seed = runs.audited[0]
    model, metadata = open_generator(runs.generator, flags, PoolOptions())
    data = data_for(metadata, runs.generator, flags, data_seed, model.generator)
    model, search = model.to(device), with_layers(runs.search, model.config)
    search.split(model.generator.layers)
    for other, other_seed in runs.audited[1:]:
        _check_same(data, data_for(metadata, runs.generator, other, other_seed, model.generator))
    rows, pool = _sample(data.train, model.encoder, seed, PROBED)
    test = data.test[torch.randperm(len(data.test), generator=generator(seed, "doctor", "images"))[:images]]
    latents, mark = encoded(test, model.encoder), metadata["fingerprint"]
    return DoctorInputs(model, mark, data, search, runs.residual, pool, rows, test, latents, False, seed, True)


Parts = tuple[Autoencoder, dict[str, Any], Data, Encoder, Latents, Tensor]

"""Model, what its file says, data, encoder, pool, and which training images the pool is of."""


def _stored(folder: Path, latents: Path, device: torch.device) -> Parts:
    """With the pool that encode wrote, and the encoder that made it."""
    found = load(folder, latents, device)
    return found.model, found.metadata, found.data, found.encoder, found.pool, torch.arange(len(found.pool))


def _sampled(folder: Path, seed: int, device: torch.device) -> Parts:
    """With a sample of the training images, encoded now."""
    model, metadata = load_autoencoder(folder)
    data, model = data_of(metadata, folder), model.to(device)
    rows, pool = _sample(data.train, model.encoder, seed, PROBED)
    return model, metadata, data, model.encoder, pool, rows


def _sample(images: ImageSet, encoder: Encoder, seed: int, count: int) -> tuple[Tensor, Latents]:
    rows = torch.randperm(len(images), generator=generator(seed, "doctor", "train"))[:count]
    return rows, encoded(images[rows], encoder)


def _examined(runs: Runs, ours: Data, metadata: dict[str, Any], model: Autoencoder) -> Data:
    """What was audited, in the generator's size: classifiers and reference are of these labels. `ours`, the pool's
    own, where no audit says otherwise.

    Raises:
        UserError: audits of different images or labels.
    """
    dec, found = model.generator, [] if runs.audited else [ours]
    for flags, seed in runs.audited:
        same = flags.says_nothing or in_size(flags, dec) == ours.config
        found.append(ours if same else data_for(metadata, runs.generator, flags, seed, dec))
    for data in found[1:]:
        _check_same(found[0], data)
    return ours if found[0].train.fingerprint == ours.train.fingerprint else found[0]


def _check_same(first: Data, other: Data) -> None:
    """Refuse runs of different images.

    Raises:
        UserError: naming both.
    """
    if first.test.fingerprint != other.test.fingerprint:
        named = " and ".join(f"{data.config.data} for {data.config.target}" for data in (first, other))
        raise UserError(f"audits of different images or labels ({named}): name the runs of one of them")


def _encode(encoder: Encoder, images: ImageSet, device: torch.device) -> Latents:
    """As `encoded`, for encoders without weights, too."""
    latents: Latents = encoder(images.batch(slice(None))[0].to(device))
    return latents.detach()
