"""`advmix audit`: what flips a classifier: right on images as they are, and under changes that should not matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advmix.audit.attacks import open_attack
from advmix.audit.judge import Bench
from advmix.audit.swaps import swaps
from advmix.classifiers import OpenClassifier, open_classifier
from advmix.data import Data, DataConfig
from advmix.encoders import load_autoencoder
from advmix.engine import in_first_process, make_fabric
from advmix.files import read_json
from advmix.progress import console, quietly
from advmix.report.audit import audit_sentences, audit_table, swap_table
from advmix.results import RESULTS
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.stages.audit_case import Case, audited_data, batches, open_case, subject_of
from advmix.stages.audit_chunks import chosen_rows, search_all
from advmix.stages.audit_config import AuditConfig
from advmix.stages.audit_reference import Voter, named_reference, own_reference, train_reference
from advmix.stages.audit_results import REPORT, Clock, Made, write_audit
from advmix.stages.encode import EncodeConfig, run_encode
from advmix.stages.fit import FitConfig, run_fit

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def run_audit(config: AuditConfig) -> dict[str, Any]:
    """Audit, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device, config.devices)
    with quietly(not fabric.is_global_zero):
        with fabric.rank_zero_first(local=True):
            data, generator_print = audited_data(config)
            images = data.test
        channels, side = images.pixels.shape[1:3]
        image = (int(channels), int(side), int(side))
        opened = [open_classifier(options, images.classes, image) for options in config.subjects]
        open_attack(config.attack)  # what is wrong with it is said before anything is made
        named = named_reference(config.reference, data.train, fabric.device) if config.reference else None
        inputs: dict[str, str | None] = {
            "images": images.fingerprint,
            "generator": generator_print,
            "reference": named.fingerprint if named else None,
        }
        inputs |= {f"classifier {number}": one.fingerprint for number, one in enumerate(opened, start=1)}
        in_first_process(fabric, lambda: open_run(config.out, "audit", config, config.resume, inputs))
        if not (config.out / RESULTS).is_file():
            _audit(config, fabric, data, opened, named)
        results: dict[str, Any] = read_json(config.out / RESULTS)
        _show(config, results)
    return results


def _audit(
    config: AuditConfig, fabric: Fabric, data: Data, opened: Sequence[OpenClassifier], named: Voter | None
) -> None:
    """Everything up to the files."""
    clock = Clock()
    folders = in_first_process(fabric, lambda: _generator(config, clock))
    case = open_case(data, *folders, fabric.device)
    voter = named or _own_voter(config, fabric, case, clock)
    options = case.search(config.search, all(one.differentiable for one in opened))
    subjects = [subject_of(one, case, fabric.device) for one in opened]
    bench = Bench(
        search=options.mixer(case.model, stop_early=True),
        pool=case.pool,
        swaps=swaps(case.model.config, options.split(case.model.generator.layers)),
        reference=voter.network,
        residual=config.residual,
        seed=config.seed,
        attack=open_attack(config.attack),
    )
    rows = chosen_rows(len(data.test), config.images, generator(config.seed, "audit", "images"))
    made = Made(config, case, bench, options, opened, subjects, voter)
    with batches(case, subjects) as images:
        with clock("search"):
            found = search_all(config.out, fabric, bench, subjects, images, rows, made.metadata(), config.chunk)
        in_first_process(fabric, lambda: write_audit(made, images, found, clock))


def _generator(config: AuditConfig, clock: Clock) -> tuple[Path, Path]:
    """The folders of generator and latents; what is not named is made here."""
    fitted, latents = config.generator, config.latents
    if fitted is None:
        fitted = config.out / "generator"
        with clock("fit"):
            run_fit(
                FitConfig(config.data, fit=config.fit, seed=config.seed, out=fitted, device=config.device, resume=True)
            )
    if latents is None:
        latents = config.out / "latents"
        with clock("encode"):
            run_encode(EncodeConfig(fitted, _pooled(config), out=latents, device=config.device, resume=True))
    return fitted, latents


def _pooled(config: AuditConfig) -> DataConfig:
    """Whose training images become the pool: the generator's own, or the named ones for an imported generator."""
    imported = config.generator is not None and "data" not in load_autoencoder(config.generator)[1]
    return config.data if imported else DataConfig()


def _own_voter(config: AuditConfig, fabric: Fabric, case: Case, clock: Clock) -> Voter:
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
    console.print(f"Report: {config.out / REPORT}, numbers: {config.out / RESULTS}", markup=False)
