"""What the doctor found, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich import box
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from advmix.audit.inputs import is_native
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.data.images import ImageSet
from advmix.doctor import checks as diagnose
from advmix.doctor.checks import Finding, Verdict
from advmix.doctor.inputs import PROBED, DoctorInputs, find_runs, open_doctor_inputs
from advmix.doctor.measure import (
    Nested,
    compare_searches,
    describe_pool,
    leakage,
    moves,
    nested_search,
    survival,
)
from advmix.inspect.scores import other_label
from advmix.latents import Latents
from advmix.metrics import accuracy, answer_latents, predict, predict_pixels, share, unexplained
from advmix.mixing import SearchOptions
from advmix.training.reference import check_independent, open_reference
from advmix.utils.config import Settings, check_values, to_dict
from advmix.utils.device import environment, open_device
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import answers, generator

COLORS = {"ok": "green", "doubtful": "yellow", "bad": "red", "not known": "dim"}


def doctor_table(findings: Sequence[Finding]) -> Table:
    """A row per question: verdict, reason and, below it, remedy; the generator's first, then each classifier's."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    view.add_column("check", no_wrap=True)
    view.add_column("verdict", no_wrap=True)
    view.add_column("why, and what to do")
    subject = ""
    for found in findings:
        if found.subject != subject:
            subject = found.subject
            view.add_section()
            view.add_row("", "", f"[bold]{escape(subject)}[/]")
        color = COLORS[found.verdict]
        remedy = f"\n[bold]→[/] {escape(found.remedy)}" if found.remedy else ""
        view.add_row(found.check, f"[{color}]{found.verdict}[/]", f"{escape(found.why)}{remedy}")
    return view


FILE = "doctor.json"

MIXES = 3

"""Donors of each image whose label survival is asked about."""


@dataclass(frozen=True)
class DoctorConfig(Settings):
    """Are generator, split, pool and search fit for what they are used for? Verdicts, reasons, remedies.

    Writes doctor.json and config.json; an older one in the same folder gives way. Exit code 0 whatever the verdicts.

    Args:
        runs: folders that fit, encode, train, evaluate or audit wrote, or a folder of such; what they were made from is
            looked up.
        reference: the classifier that says whether mixes keep their label, named as `--classifier` of audit is; by
            default that of the audit, where one is among the runs. It must not share a bias of the images.
        perp: layers that are z⊥; by default those of the runs.
        images: unseen images that are looked at, drawn at random.
        search_images: of these, how many are searched for a worst case, with twice the restarts and steps.
        trust_code: whether a function that a file names (a .json, the config of a run) may be called, too.
        seed: fixes images and donors.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    reference: str | None = None
    perp: tuple[int, ...] = ()
    images: int = 300
    search_images: int = 60
    trust_code: bool = False
    seed: int = 0
    out: Path = Path("runs/doctor")
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "images search_images", least=2)


def run_doctor(config: DoctorConfig) -> dict[str, Any]:
    """Examine; returns what `doctor.json` holds.

    Raises:
        UserError: bad input.
    """
    device = open_device(config.device)
    runs = find_runs(config.runs, config.trust_code)
    if config.perp:
        runs = replace(runs, search=replace(runs.search, perp=config.perp))
    patient = open_doctor_inputs(runs, config.images, config.seed, device)
    named = config.reference or runs.reference
    reference = None if named is None else _reference(named, patient.data.train, device, config.trust_code)
    shape = patient.data.train.shape
    named_there = [replace(options, trust_code=config.trust_code) for options in runs.classifiers]
    classifiers = [open_classifier(options, patient.data.train.classes, shape) for options in named_there]
    if reference is not None and named is not None:
        check_independent(named, reference, classifiers, patient.images, device)
    with open_run(config.out, "doctor", config, False, {"generator": patient.fingerprint}, replace=True):
        findings = list(examine(patient, reference))
        kept = next(found.verdict for found in findings if found.check == "label survival")
        for opened in classifiers:
            found = examine_classifier(patient, opened, reference, kept, config.search_images)
            findings += [finding.about(opened.name) for finding in found]
        results = {
            "config": {"command": "doctor", **to_dict(config)},
            "environment": environment(),
            "examined": {
                **to_dict(runs),
                "search": to_dict(patient.search),
                "reference": named,
                "fingerprint": patient.fingerprint,
            },
            "findings": [asdict(finding) for finding in findings],
        }
        write_json(config.out / FILE, results)
        console.print(doctor_table(findings), soft_wrap=False)
        console.print(f"Numbers: {config.out / FILE}", markup=False)
        return results


def _reference(named: str, images: ImageSet, device: torch.device, trust_code: bool) -> nn.Module:
    """Anybody's classifier of these images, or the folder of an audit's own reference."""
    return open_reference(named, images, trust_code).network.to(device)


def examine(patient: DoctorInputs, reference: nn.Module | None) -> Iterator[Finding]:
    """What can be said without the classifiers that were trained."""
    dec, split = patient.model.generator, patient.split
    rows = patient.sample(len(patient.images))
    seen = patient.data.train[patient.rows[rows]]
    train = unexplained(dec, patient.pool[rows.to(patient.pool.styles.device)], seen)
    unseen = unexplained(dec, patient.latents, patient.images)
    yield diagnose.encoding(train, unseen, len(patient.images), patient.ready_made)
    if patient.stored:
        yield diagnose.pool(describe_pool(split.perp_of(patient.pool)))
    yield diagnose.split(moves(dec, patient.latents, _lent(patient, 0), split))
    asked = diagnose.no_reference() if reference is None else _survival(patient, reference)
    yield asked
    probed = patient.sample(PROBED)
    codes = patient.pool[probed.to(patient.pool.styles.device)]
    found = leakage(codes, patient.data.train.labels[patient.rows[probed]], split, patient.seed)
    yield diagnose.leakage(*found, asked.verdict)


def _donors(patient: DoctorInputs, number: int) -> Tensor:
    """A donor in the pool for every unseen image, with another label."""
    rng = generator(patient.seed, "doctor", "donors", number)
    return other_label(patient.images.labels, patient.data.train.labels[patient.rows], rng)


def _lent(patient: DoctorInputs, number: int) -> Latents:
    return patient.pool[_donors(patient, number).to(patient.pool.styles.device)]


def _survival(patient: DoctorInputs, reference: nn.Module) -> Finding:
    device = patient.pool.styles.device
    donors = torch.stack([_donors(patient, number) for number in range(MIXES)])
    dec, latents = patient.model.generator, patient.kept_latents
    found = survival(reference, dec, patient.split, latents, patient.images.labels, patient.pool, donors)
    seen = patient.data.train[patient.rows[patient.sample(len(patient.images))]]
    train, test = (accuracy(reference, images, device) for images in (seen, patient.images))
    return diagnose.survival(found.share(), int(found.right.sum()), train, test)


def examine_classifier(
    patient: DoctorInputs, opened: OpenClassifier, reference: nn.Module | None, kept: Verdict, count: int
) -> Iterator[Finding]:
    """What can be said of one classifier; `kept` is the verdict on label survival."""
    device, labels = patient.pool.styles.device, patient.images.labels
    network = opened.network.to(device)
    theirs = patient.search if opened.differentiable else replace(patient.search, steps=0)
    right = answers(predict(network, patient.images, device)) == labels
    plain = answer_latents(network, patient.model.generator, patient.latents) == labels
    side = patient.images.shape[1]
    small = is_native(opened, patient.data, side)
    losses = diagnose.reconstruction(share(right), share(plain), len(labels), small, patient.ready_made)
    yield losses
    nested = _search(patient, network, theirs, count)
    found = compare_searches(nested, theirs.restarts, theirs.steps)
    yield diagnose.gradient(found)
    yield diagnose.saturation(found)
    checked = _checked(patient, reference, nested)
    yield diagnose.belief(share(right[:count]), losses.verdict, kept, checked, found, small)


def _search(patient: DoctorInputs, network: nn.Module, theirs: SearchOptions, count: int) -> Nested:
    """A search of the first unseen images that holds `theirs` with twice its restarts or steps."""
    device = patient.pool.styles.device
    largest = replace(theirs, restarts=max(2 * theirs.restarts, theirs.steps + 1), steps=2 * theirs.steps)
    labels = patient.images.labels[:count].to(device)
    latents = patient.kept_latents[:count]
    return nested_search(network, patient.model, largest, latents, labels, patient.pool, seed=patient.seed)


@torch.no_grad()
def _checked(patient: DoctorInputs, reference: nn.Module | None, nested: Nested) -> float | None:
    """Share of images that stay right, where only failures count whose worst mix the reference classifies rightly."""
    if reference is None:
        return None
    labels = patient.images.labels[: len(nested.images)]
    sees = answers(predict_pixels(reference, nested.images.to(patient.pool.styles.device))) == labels
    steps, restarts = nested.losses.shape[:2]
    return share(nested.right(restarts, steps - 1) | ~sees)
