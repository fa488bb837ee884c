"""An audit in chunks: each on disk as soon as it is done, by any number of processes, to the same result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advmix.attacks import Attack, open_attack, still_right
from advmix.audit.inputs import (
    AuditImages,
    AuditInputs,
    audited_classifier,
    audited_data,
    batches,
    check_fit,
    open_audit_inputs,
)
from advmix.audit.measure import AuditBatch, AuditedClassifier, AuditSetup, measure_classifier, measure_images, swaps
from advmix.audit.records import RECORDS_FILE, AuditRecords
from advmix.audit.results import REPORT, AuditRun, write_audit
from advmix.audit.settings import AuditConfig
from advmix.audit.words import audit_sentences, audit_table, swap_table
from advmix.classifiers import OpenClassifier, open_classifier
from advmix.classifiers.wrapper import with_size
from advmix.commands.encode import run_encode
from advmix.commands.fit import FitConfig, run_fit
from advmix.data import Data, DataConfig, ImageSet, slices
from advmix.pools import EncodeConfig, remembered
from advmix.report.tables import RESULTS
from advmix.training.reference import (
    ReferenceClassifier,
    check_independent,
    named_reference,
    own_reference,
    train_reference,
)
from advmix.utils.device import in_first_process, make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder, read_json
from advmix.utils.progress import Advance, PhaseTimer, console, quietly, track
from advmix.utils.runs import CHUNKS, open_run
from advmix.utils.torch_tools import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def search_all(
    out: Path,
    fabric: Fabric,
    bench: AuditSetup,
    subjects: Sequence[AuditedClassifier],
    images: AuditImages,
    rows: Tensor,
    metadata: dict[str, Any],
    chunk: int,
) -> AuditRecords:
    """Everything that is asked of every image; what is on disk already is not asked again.

    Args:
        out: the audit's folder.
        fabric: the machine; its processes take turns with the chunks.
        bench: what stays the same.
        subjects: the classifiers.
        images: the test images.
        rows: `(N,)`, those that are audited.
        metadata: of the file.
        chunk: images between two savings.
    """
    if not (out / RECORDS_FILE).is_file():
        places = list(slices(len(rows), chunk))
        folder = in_first_process(fabric, lambda: make_folder(out / CHUNKS))
        paths = [folder / f"{place.start:08d}.safetensors" for place in places]
        turns = range(fabric.global_rank, len(places), fabric.world_size)
        mine = [i for i in turns if not _is_done(paths[i], metadata)]
        with track("audit", sum(places[i].stop - places[i].start for i in mine)) as advance:
            for i in mine:
                batch = images.read(places[i].start, rows[places[i]])
                _found(bench, subjects, batch, metadata, advance).save(paths[i])
        fabric.barrier()
        in_first_process(fabric, lambda: _join(out, paths))
    return AuditRecords.load(out)


def _found(
    bench: AuditSetup,
    subjects: Sequence[AuditedClassifier],
    batch: AuditBatch,
    metadata: dict[str, Any],
    advance: Advance,
) -> AuditRecords:
    parts = []
    for part in batch.parts(bench.batch_size(subjects)):
        parts.append(
            AuditRecords(
                measure_images(bench, part),
                tuple(measure_classifier(bench, subject, part) for subject in subjects),
                metadata,
            )
        )
        advance(len(part.labels), "")
    return AuditRecords.cat(parts)


def _is_done(path: Path, metadata: dict[str, Any]) -> bool:
    """Whether a chunk is there, whole, and of this audit."""
    try:
        return path.is_file() and AuditRecords.load(path).metadata == metadata
    except UserError:
        return False


def _join(out: Path, paths: Sequence[Path]) -> None:
    AuditRecords.cat([AuditRecords.load(path) for path in paths]).save(out / RECORDS_FILE)


def chosen_rows(count: int, images: int, rng: torch.Generator) -> Tensor:
    """At most `images` of `count` test images, drawn at random, in order: `(N,)`."""
    return torch.randperm(count, generator=rng)[:images].sort().values


TRIED = 4

"""Images on which an attack is tried before anything is made."""


def run_audit(config: AuditConfig) -> dict[str, Any]:
    """Audit, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device, config.devices)
    with quietly(not fabric.is_global_zero):
        with fabric.rank_zero_first(local=True):
            data, metadata = audited_data(config)
            images = data.test
        if metadata is not None:
            config = replace(config, data=remembered(config.data))
        opened = [open_classifier(options, images.classes, images.shape) for options in config.subjects]
        attack, done = open_attack(config.attack), (config.out / RESULTS).is_file()
        if attack is not None and not done:
            _try_attack(attack, opened, images[:TRIED], fabric.device)
        check_fit(config, data, metadata, opened)
        named = None
        if config.reference:
            named = named_reference(config.reference, data.train, fabric.device, config.trust_code)
            check_independent(config.reference, named.network, opened, images, fabric.device)
        inputs: dict[str, str | None] = {
            "images": images.fingerprint,
            "generator": metadata["fingerprint"] if metadata else None,
            "reference": named.fingerprint if named else None,
        }
        inputs |= {f"classifier {number}": one.fingerprint for number, one in enumerate(opened, start=1)}
        case: AuditInputs | None = None
        if config.generator is not None and config.latents is not None and not done:
            case = open_audit_inputs(data, config.generator, config.latents, fabric.device)
        with open_run(config.out, "audit", config, config.resume, inputs, fabric=fabric):
            if not done:
                clock = PhaseTimer(config.out if fabric.is_global_zero else None)
                if case is None:
                    pooled = config.data if metadata and "data" not in metadata else DataConfig()
                    folders = in_first_process(fabric, lambda: _generator(config, data, pooled, clock))
                    case = open_audit_inputs(data, *folders, fabric.device)
                _audit(config, fabric, case, opened, named, attack, clock)
            results: dict[str, Any] = read_json(config.out / RESULTS)
            _show(config, results)
    return results


def _try_attack(attack: Attack, opened: Sequence[OpenClassifier], images: ImageSet, device: torch.device) -> None:
    """What an attack raises it shall raise before anything is made."""
    pixels, labels = (tensor.to(device) for tensor in images.batch(slice(None)))
    for one in opened:
        try:
            still_right(one.network.to(device), attack, with_size(pixels, one.side), labels, seed=0)
        except UserError as error:
            doubt = "" if one.differentiable else f"; {one.name} gives no gradients, name an attack that needs none"
            raise UserError(f"{error}{doubt}") from error


def _audit(
    config: AuditConfig,
    fabric: Fabric,
    case: AuditInputs,
    opened: Sequence[OpenClassifier],
    named: ReferenceClassifier | None,
    attack: Attack | None,
    clock: PhaseTimer,
) -> None:
    """Everything up to the files."""
    voter = named or _own_voter(config, fabric, case, clock)
    options = case.search(config.search, all(one.differentiable for one in opened))
    subjects = [audited_classifier(one, case, fabric.device) for one in opened]
    bench = AuditSetup(
        mixer=options.mixer(case.model, stop_early=True),
        pool=case.pool,
        swaps=swaps(case.model.config, options.split(case.model.generator.layers)),
        reference=voter.network,
        residual=config.residual,
        seed=config.seed,
        attack=attack,
    )
    rows = chosen_rows(len(case.data.test), config.images, generator(config.seed, "audit", "images"))
    made = AuditRun(config, case, bench, options, opened, subjects, voter)
    with batches(case, subjects) as images:
        with clock("search"):
            found = search_all(config.out, fabric, bench, subjects, images, rows, made.metadata(), config.chunk)
        in_first_process(fabric, lambda: write_audit(made, images, found, clock))


def _generator(config: AuditConfig, data: Data, pooled: DataConfig, clock: PhaseTimer) -> tuple[Path, Path]:
    """The folders of generator and latents; what is not named is made here: a generator of the audited `data`, the pool
    of `pooled`: by default of the generator's own images, which an imported one does not have.
    """
    fitted, latents = config.generator, config.latents
    if fitted is None:
        fitted = config.out / "generator"
        with clock("fit"):
            run_fit(
                FitConfig(data.config, fit=config.fit, seed=data.seed, out=fitted, device=config.device, resume=True)
            )
    if latents is None:
        latents = config.out / "latents"
        with clock("encode"):
            run_encode(EncodeConfig(fitted, pooled, out=latents, device=config.device, resume=True))
    return fitted, latents


def _own_voter(config: AuditConfig, fabric: Fabric, case: AuditInputs, clock: PhaseTimer) -> ReferenceClassifier:
    """A reference of our own, trained where it is not there yet."""
    images, folder, alone = case.data.train, config.out / "reference", make_fabric(config.device)
    with clock("reference"):
        in_first_process(fabric, lambda: train_reference(folder, images, config.seed, alone))
    return own_reference(folder, images, fabric.device)


def _show(config: AuditConfig, results: dict[str, Any]) -> None:
    for entry in results["classifiers"]:
        console.print(f"\n{entry['name']}", markup=False, style="bold")
        console.print(audit_table(entry["parts"]))
        console.print(swap_table(entry["swaps"]))
    for sentence in audit_sentences(results):
        console.print(sentence, markup=False)
    known = results["generator"].get("fitted_on_audited")
    if known:
        words = (
            f"The generator was fitted on {known:,} of these {results['images']:,} images, and may draw them too well"
        )
        console.print(f"{words}; audit others: --data, or its own --split-seed", markup=False, style="yellow")
    console.print(f"Report: {config.out / REPORT}, numbers: {config.out / RESULTS}", markup=False)
