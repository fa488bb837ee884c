"""`advmix doctor`: is what a run made fit for what it is used for? Measurements with verdicts and remedies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor, nn

from advmix.audit.doctor import diagnose
from advmix.audit.doctor.finding import Finding, Verdict
from advmix.audit.doctor.measure import compare_searches, describe_pool, moves, survival, unexplained
from advmix.audit.doctor.probe import leakage
from advmix.audit.evaluate import accuracy, share
from advmix.audit.layers import other_label
from advmix.audit.nested import nested_search
from advmix.config import to_dict
from advmix.data import Data, ImageSet
from advmix.encoders import Autoencoder, Encoder, LatentStore, encoded, load_autoencoder
from advmix.engine import environment, make_fabric
from advmix.files import write_json
from advmix.latents import Latents, Split
from advmix.options import require
from advmix.progress import console
from advmix.report.doctor import doctor_table
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.stages.doctor_runs import Runs, find_runs
from advmix.stages.encode import pool_encoder
from advmix.stages.reference import open_reference
from advmix.stages.sources import data_of
from advmix.training.methods import SearchOptions

FILE = "doctor.json"
PROBED = 1000
"""Codes that the linear probe learns from."""
SLOW_IMAGES = 64
"""Unseen images that are encoded where the encoder is an optimisation."""
MIXES = 3
"""Donors of each image whose label survival is asked about."""


@dataclass(frozen=True)
class DoctorConfig:
    """Are generator, split, pool and search fit for what they are used for? Verdicts, reasons, remedies.

    Writes doctor.json and config.json; an older one in the same folder gives way. Exit code 0 whatever the verdicts.

    Args:
        runs: folders that fit, encode, train, evaluate or audit wrote, or a folder of such; what they were made from is
            looked up.
        reference: folder that train wrote: the classifier that says whether mixes keep their label. It must not share a
            bias of the images.
        perp: layers that are z⊥; by default those of the runs.
        images: unseen images that are looked at, drawn at random.
        search_images: of these, how many are searched for a worst case, with twice the restarts and steps.
        seed: fixes images and donors.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    reference: Path | None = None
    perp: tuple[int, ...] = ()
    images: int = 300
    search_images: int = 60
    seed: int = 0
    out: Path = Path("runs/doctor")
    device: str = "auto"

    def __post_init__(self) -> None:
        require(self, "images search_images", least=2)


def run_doctor(config: DoctorConfig) -> dict[str, Any]:
    """Examine; returns what `doctor.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    runs = find_runs(config.runs)
    if config.perp:
        runs = replace(runs, search=replace(runs.search, perp=config.perp))
    patient = open_patient(runs, config.images, config.seed, fabric.device)
    reference = None if config.reference is None else open_reference(config.reference, patient.data.train)[0]
    classifiers = [(folder, open_reference(folder, patient.data.train)[0]) for folder in runs.classifiers]
    open_run(config.out, "doctor", config, False, {"generator": patient.fingerprint}, replace=True)
    findings = list(examine(patient, reference))
    kept = next(found.verdict for found in findings if found.check == "label survival")
    for folder, network in classifiers:
        found = examine_classifier(patient, network.to(fabric.device), kept, config.search_images, config.seed)
        findings += [finding.about(str(folder)) for finding in found]
    results = {
        "config": {"command": "doctor", **to_dict(config)},
        "environment": environment(),
        "examined": {**to_dict(runs), "fingerprint": patient.fingerprint},
        "findings": [asdict(finding) for finding in findings],
    }
    write_json(config.out / FILE, results)
    console.print(doctor_table(findings), soft_wrap=False)
    console.print(f"Numbers: {config.out / FILE}", markup=False)
    return results


@dataclass(frozen=True, eq=False)
class Patient:
    """A generator with all that is needed to examine it.

    Attributes:
        model: generator and encoder, on their device.
        fingerprint: of the generator.
        data: what it was fitted on.
        search: how a worst case is looked for.
        residual: whether mixes keep what the generator cannot draw.
        pool: latents of training images.
        rows: `(P,)`, which training images these are.
        images: N unseen ones.
        latents: theirs.
        stored: whether the pool comes from a file; otherwise it is a sample, encoded by the network.
        seed: of whatever is drawn.
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


def open_patient(runs: Runs, images: int, seed: int, device: torch.device) -> Patient:
    """Load everything, and encode a sample of unseen images as the pool was encoded.

    Raises:
        UserError: bad input.
    """
    model, metadata = load_autoencoder(runs.generator)
    runs.search.split(model.generator.layers)
    store = None if runs.latents is None else LatentStore.open(runs.latents, generator=metadata["fingerprint"])
    data = data_of(metadata, runs.generator)
    model, encoder = model.to(device), None
    test = data.test[torch.randperm(len(data.test), generator=generator(seed, "doctor", "images"))[:images]]
    if store is None or runs.latents is None:
        rows = torch.randperm(len(data.train), generator=generator(seed, "doctor", "train"))[:PROBED]
        pool = encoded(data.train[rows], model.encoder)
    else:
        rows, pool = torch.arange(len(store)), store.latents.to(device)
        encoder = pool_encoder(runs.latents, model, data.train, device)
    test = test if encoder in (None, model.encoder) else test[:SLOW_IMAGES]
    latents = _encode(encoder or model.encoder, test, device)
    return Patient(
        model,
        metadata["fingerprint"],
        data,
        runs.search,
        runs.residual,
        pool,
        rows,
        test,
        latents,
        store is not None,
        seed,
    )


def _encode(encoder: Encoder, images: ImageSet, device: torch.device) -> Latents:
    """As `encoded`, for encoders without weights, too."""
    return encoder(images.batch(slice(None))[0].to(device)).detach()


def examine(patient: Patient, reference: nn.Module | None) -> Iterator[Finding]:
    """What can be said without the classifiers that were trained."""
    dec, split = patient.model.generator, patient.split
    rows = patient.sample(len(patient.images))
    seen = patient.data.train[patient.rows[rows]]
    train = unexplained(dec, patient.pool[rows.to(patient.pool.styles.device)], seen)
    yield diagnose.encoding(train, unexplained(dec, patient.latents, patient.images), len(patient.images))
    if patient.stored:
        yield diagnose.pool(describe_pool(split.perp_of(patient.pool)))
    yield diagnose.split(moves(dec, patient.latents, _lent(patient, 0), split))
    asked = diagnose.no_reference() if reference is None else _survival(patient, reference)
    yield asked
    probed = patient.sample(PROBED)
    codes = patient.pool[probed.to(patient.pool.styles.device)]
    found = leakage(codes, patient.data.train.labels[patient.rows[probed]], split, patient.seed)
    yield diagnose.leakage(*found, asked.verdict)


def _donors(patient: Patient, number: int) -> Tensor:
    """A donor in the pool for every unseen image, with another label."""
    rng = generator(patient.seed, "doctor", "donors", number)
    return other_label(patient.images.labels, patient.data.train.labels[patient.rows], rng)


def _lent(patient: Patient, number: int) -> Latents:
    return patient.pool[_donors(patient, number).to(patient.pool.styles.device)]


def _survival(patient: Patient, reference: nn.Module) -> Finding:
    device = patient.pool.styles.device
    network, donors = reference.to(device), torch.stack([_donors(patient, number) for number in range(MIXES)])
    dec, latents = patient.model.generator, patient.kept_latents
    found = survival(network, dec, patient.split, latents, patient.images.labels, patient.pool, donors)
    seen = patient.data.train[patient.rows[patient.sample(len(patient.images))]]
    train, test = (accuracy(network, images, device) for images in (seen, patient.images))
    return diagnose.survival(found.share(), int(found.right.sum()), train, test)


def examine_classifier(patient: Patient, network: nn.Module, kept: Verdict, count: int, seed: int) -> Iterator[Finding]:
    """What can be said of one classifier; `kept` is the verdict on label survival."""
    device, dec = patient.pool.styles.device, patient.model.generator
    right = accuracy(network, patient.images, device)
    with torch.no_grad():
        drawn = share(network(dec(patient.latents)).argmax(dim=1).cpu() == patient.images.labels)
    losses = diagnose.reconstruction(right, drawn, len(patient.images))
    yield losses
    largest = replace(
        patient.search,
        restarts=max(2 * patient.search.restarts, patient.search.steps + 1),
        steps=2 * patient.search.steps,
    )
    few, labels = slice(0, count), patient.images.labels[:count].to(device)
    nested = nested_search(
        network, patient.model, largest, patient.kept_latents[few], labels, patient.pool, seed=seed, title="search"
    )
    found = compare_searches(nested, patient.search.restarts, patient.search.steps)
    yield diagnose.gradient(found)
    yield diagnose.saturation(found)
    yield diagnose.belief(right, losses.verdict, kept, found)
