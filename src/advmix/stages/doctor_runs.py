"""Which of the named folders is what, and what they say of the search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from advmix import config as configs
from advmix.errors import UserError
from advmix.files import read_json
from advmix.progress import quietly
from advmix.stages.audit import AuditConfig
from advmix.stages.encode import EncodeConfig
from advmix.stages.evaluate import EvaluateConfig
from advmix.stages.fit import FitConfig
from advmix.stages.train import TrainConfig
from advmix.training.methods import NEEDS_LATENTS, SearchOptions

KINDS: Mapping[str, type[Any]] = {
    "fit": FitConfig,
    "encode": EncodeConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "audit": AuditConfig,
}
SOURCES = {"generator": "fit", "latents": "encode", "classifier": "train"}
"""Fields of a config that name another run's folder, and what made it."""
AUDIT = SearchOptions(restarts=5, steps=5)
"""What audits search with by default."""


@dataclass(frozen=True)
class Runs:
    """What is examined.

    Attributes:
        generator: the fit folder.
        latents: the encode folder, if there is one.
        classifiers: train folders, in the order in which they were named.
        search: the search of the audit, else of the evaluation, else that of audits by default with the training's
            layers, box and steps.
        residual: whether mixes keep what the generator cannot draw.
    """

    generator: Path
    latents: Path | None
    classifiers: tuple[Path, ...]
    search: SearchOptions
    residual: bool


def find_runs(folders: Iterable[Path]) -> Runs:
    """Sort folders by the command that wrote them; what a run was made from is looked up where it says it was.

    Raises:
        UserError: a folder that none of our commands wrote, no generator, or more than one.
    """
    found = [run for folder in folders for run in _runs_in(folder)]
    named = _by_kind(found)
    with quietly():
        loaded = [(kind, configs.load(folder / "config.json", kind, KINDS[kind])) for kind, folder in found]
    everything = {kind: _unique([*named[kind], *_mentioned(loaded, kind)]) for kind in ("fit", "encode", "train")}
    generators = named["fit"] or everything["fit"]
    latents = named["encode"] or everything["encode"]
    _only_one("fit", generators, needed=True)
    _only_one("encode", latents, needed=False)
    search, residual = _settings(loaded)
    return Runs(generators[0], latents[0] if latents else None, tuple(everything["train"]), search, residual)


def _runs_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """The run in a folder, or those in its subfolders: what `advmix demo` writes, or simply `runs`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name what fit, encode, train, evaluate or audit wrote")
    kind = _kind(folder)
    inner = [(theirs, part) for part in sorted(folder.iterdir()) if part.is_dir() and (theirs := _kind(part))]
    if kind is None and not inner:
        raise UserError(f"{folder}: not written by {', '.join(KINDS)}, and neither is any folder in it")
    yield from [(kind, folder)] if kind else inner


def _kind(folder: Path) -> str | None:
    """The command that wrote a folder, if it is one that the doctor knows."""
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else None
    command = config.get("command") if isinstance(config, dict) else None
    return command if command in KINDS else None


def _by_kind(found: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    folders: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for kind, folder in found:
        folders[kind].append(folder)
    return folders


def _mentioned(loaded: Iterable[tuple[str, Any]], kind: str) -> Iterator[Path]:
    """Folders of a kind that the configs name, as far as they are there."""
    for _, config in loaded:
        for field, theirs in SOURCES.items():
            folder = getattr(config, field, None)
            if theirs == kind and folder is not None and (folder / "config.json").is_file():
                yield folder


def _unique(folders: Iterable[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _only_one(kind: str, folders: list[Path], needed: bool) -> None:
    if needed and not folders:
        raise UserError(f"no {kind} folder among these, and none of them says where one is; name it as well")
    if len(folders) > 1:
        listed = " ".join(map(str, folders))
        raise UserError(f"several {kind} folders ({listed}): name the runs of one of them")


def _settings(loaded: Iterable[tuple[str, Any]]) -> tuple[SearchOptions, bool]:
    """The search and the residual of the run that comes nearest to the worst case that a person reads."""
    runs = {kind: config for kind, config in loaded if kind != "train" or config.method in NEEDS_LATENTS}
    if "audit" in runs:
        return runs["audit"].search, runs["audit"].residual
    if "evaluate" in runs:
        return runs["evaluate"].search, False
    if "train" in runs:
        search = replace(runs["train"].search, restarts=AUDIT.restarts, steps=AUDIT.steps)
        return search, runs["train"].baseline.residual
    return AUDIT, False
