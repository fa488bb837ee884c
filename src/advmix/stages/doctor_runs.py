"""Which of the named folders is what, and what they say of the search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from advmix import config as configs
from advmix.classifiers import ClassifierOptions
from advmix.data import DataConfig
from advmix.errors import UserError
from advmix.files import read_json
from advmix.progress import quietly
from advmix.stages.audit_config import AuditConfig
from advmix.stages.encode import EncodeConfig
from advmix.stages.evaluate import EvaluateConfig
from advmix.stages.fit import FitConfig
from advmix.stages.importing import ImportConfig
from advmix.stages.reference import OWN
from advmix.stages.train import TrainConfig
from advmix.training.methods import NEEDS_LATENTS, SearchOptions
from advmix.trust import check_trusted, code_in

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
AUDIT = SearchOptions(perp=(), restarts=5, steps=5)
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
        audited: what the audits' flags said of their data, each with its seed.
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
        tuple(dict.fromkeys((config.data, config.seed) for kind, _, config in loaded if kind == "audit")),
    )


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
    there = [folder for folder in mentioned if folder is not None and (folder / "config.json").is_file()]
    found = {folder.resolve(): folder for folder in named or there}
    if len(found) > 1:
        listed = " ".join(map(str, found.values()))
        raise UserError(f"several {SOURCES[field][0]} folders ({listed}): name the runs of one of them")
    return list(found.values())


def _classifiers(kind: str, folder: Path, config: Any) -> tuple[ClassifierOptions, ...]:
    """What a run trained or judged; an audit may have had several subjects."""
    if kind == "train":
        return (ClassifierOptions(str(folder)),)
    if isinstance(config, AuditConfig):
        return config.subjects
    if isinstance(config, EvaluateConfig):
        return (ClassifierOptions(**{field.name: getattr(config, field.name) for field in fields(ClassifierOptions)}),)
    return ()


def _reference(folder: Path, config: Any) -> str | None:
    """Whom an audit asked about labels: a named one, or its own."""
    if not isinstance(config, AuditConfig):
        return None
    own = folder / REFERENCE
    return config.reference or (str(own) if (own / OWN).is_file() else None)


def _settings(loaded: Iterable[Loaded]) -> tuple[SearchOptions, bool]:
    """The search and the residual of the run that comes nearest to the worst case that a person reads."""
    runs = {kind: config for kind, _, config in loaded if kind != "train" or config.method in NEEDS_LATENTS}
    if "audit" in runs:
        return runs["audit"].search, runs["audit"].residual
    if "evaluate" in runs:
        return runs["evaluate"].search, False
    if "train" in runs:
        search = replace(runs["train"].search, restarts=AUDIT.restarts, steps=AUDIT.steps)
        return search, runs["train"].baseline.residual
    return AUDIT, False
