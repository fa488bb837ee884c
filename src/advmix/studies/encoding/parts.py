"""One encoder under one seed, done once and kept in a file: its trace, its mixes, its numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.audit.evaluate import accuracy
from advmix.data import ColoredDigits, ImageSet
from advmix.encoders import Encoder, OptimizeOptions, fingerprint
from advmix.errors import UserError
from advmix.files import read_tensors, write_tensors
from advmix.progress import track
from advmix.seeds import generator
from advmix.stages.encode import DRAWN, EncodeConfig, features_of, make_encoder
from advmix.stages.sources import Mixable
from advmix.studies.cell import Cell
from advmix.studies.encoding.mixability import bright_color, color_numbers, cross, label_numbers
from advmix.studies.encoding.trace import Traced, trace
from advmix.studies.settings import REFERENCE

ENCODERS = {
    "network": ("network", True),
    "mean": ("mean", True),
    "mean-no-mixing": ("mean", False),
    "refine": ("refine", True),
    "refine-no-mixing": ("refine", False),
}
"""What is compared: `advmix encode --encoder`, and whether with the mixing loss."""
SHOWN, VARIATIONS = 6, 2
STEPS = 100
"""Half of what `encode` takes: on held-out training digits (seeds 100 to 102) the second half changed little."""


def check_sizes(images: int, donors: int, pool_images: int) -> None:
    """Refuse no images, no donors, and more donors than images to draw them from.

    Raises:
        UserError: naming the flag.
    """
    for flag, value in (("images", images), ("donors", donors), ("pool-images", pool_images)):
        if value < 1:
            raise UserError(f"--{flag} {value}: must be at least 1")
    if donors > pool_images:
        raise UserError(f"--donors {donors}: more than --pool-images {pool_images} to draw them from")


@dataclass(frozen=True, eq=False)
class Part:
    """What is kept of one encoder under one seed.

    Attributes:
        run: its numbers, as in `results.json`.
        frames: `(S, K, C, H, W)` in [0, 1], reconstructions of the first K images at the steps in `run["trace"]`.
        mixes: `(2, K, C, H, W)`, these images with the z⊥ of their first two donors.
    """

    run: dict[str, Any]
    frames: Tensor
    mixes: Tensor


@dataclass(frozen=True, eq=False)
class Bench:
    """What every encoder of one seed is tried on.

    Args:
        cell: generator, encoder network and classifiers.
        data: of the cell.
        mixable: its generator and encoder network, on the device of all networks.
        tests: test images that the generator has never seen.
        lenders: training images, each encoded by the encoder that is tried; they lend their z⊥.
        donors: `(D, N)`, places in `lenders`, different ones for each test image.
        reference: classifier that says what a mix shows.
        reference_seed: of the cell that it was trained in.
        features: folder of the classifier whose features compare images; None for pixels alone.
    """

    cell: Cell
    data: ColoredDigits
    mixable: Mixable
    tests: ImageSet
    lenders: ImageSet
    donors: Tensor
    reference: nn.Module
    reference_seed: int
    features: Path | None

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return self.mixable.pool.styles.device

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a kept part must have been made with."""
        return {
            "generator": self.mixable.metadata["fingerprint"],
            "reference": fingerprint(self.reference),
            "optimize_pool": DRAWN,
        }

    def encoder(self, name: str, options: OptimizeOptions) -> Encoder:
        """One of `ENCODERS`, as `advmix encode` makes it."""
        (kind, mixing), search = ENCODERS[name], self.cell.settings.search
        config = EncodeConfig(
            generator=self.cell.fitted,
            encoder=kind,
            features=None if self.features is None else str(self.features),
            optimize=options if mixing else replace(options, mixing_weight=0.0),
            perp=search.perp,
            perp_grid=search.perp_grid,
        )
        images = self.data.train
        return make_encoder(config, self.mixable.model, images, self.device, features_of(config, images))


def make_bench(
    cell: Cell, judge: Cell, features: str | None, sizes: tuple[int, int, int], device: torch.device
) -> Bench:
    """Images, donors and reference of one seed; the same for every encoder.

    Args:
        cell: what is encoded with.
        judge: whose `ceiling` classifier, trained on unbiased colours, is the reference.
        features: method of `cell`'s classifier that lends its features.
        sizes: test images, donors of each, training images that the donors are drawn from.
        device: for all networks.
    """
    mixable, reference = cell.mixable(device), judge.classifier(REFERENCE, device)
    if features is not None:
        cell.train(features)
    data, (images, donors, pool) = cell.check(), sizes
    tests = _drawn(data.shuffled, images, generator(cell.seed, "encoding", "images"))
    lenders = _drawn(data.train, pool, generator(cell.seed, "encoding", "pool"))
    order = torch.rand(len(tests), len(lenders), generator=generator(cell.seed, "encoding", "donors")).argsort(dim=1)
    folder = None if features is None else cell.place(features)
    return Bench(cell, data, mixable, tests, lenders, order[:, :donors].T, reference, judge.seed, folder)


def _drawn(images: ImageSet, count: int, rng: torch.Generator) -> ImageSet:
    return images[torch.randperm(len(images), generator=rng)[:count]]


def make_part(path: Path, bench: Bench, name: str, options: OptimizeOptions) -> Part:
    """Encode and mix, unless `path` holds it already, made with the same generator and reference."""
    kept = _kept(path, bench.identity)
    if kept is not None:
        return kept
    begun, model, encoder = time.monotonic(), bench.mixable.model, bench.encoder(name, options)
    images, lenders = (part.batch(slice(None))[0] for part in (bench.tests, bench.lenders))
    with track(f"seed {bench.cell.seed}: {name}", len(images) + len(lenders)) as advance:
        traced, theirs = (
            trace(encoder, model.generator, part.to(bench.device), SHOWN, lambda done: advance(done, ""))
            for part in (images, lenders)
        )
    split, labels = bench.cell.settings.search.split(model.generator.layers), bench.tests.labels
    mixed = cross(bench.reference, model.generator, split, traced.latents, labels, theirs.latents, bench.donors, SHOWN)
    run = {
        "encoder": name,
        "seed": bench.cell.seed,
        "reference_seed": bench.reference_seed,
        **bench.identity,
        **_errors(traced),
        "accuracy_image": accuracy(bench.reference, bench.tests, bench.device),
        **label_numbers(mixed, labels, bench.lenders.labels[bench.donors]),
        **color_numbers(mixed, bright_color(images), bright_color(lenders)[bench.donors]),
        "seconds": round(time.monotonic() - begun, 2),
    }
    part = Part(run, traced.frames, mixed.pictures[:VARIATIONS])
    write_tensors(path, "encoding", {"frames": part.frames, "mixes": part.mixes}, part.run)
    return part


def is_kept(path: Path, bench: Bench) -> bool:
    """Whether it has been done."""
    return _kept(path, bench.identity) is not None


def _errors(traced: Traced) -> dict[str, Any]:
    milliseconds, errors = traced.milliseconds.tolist(), traced.errors.mean(1).tolist()
    return {
        "error": errors[-1],
        "milliseconds": milliseconds[-1],
        "trace": {"steps": list(traced.steps), "milliseconds": milliseconds, "error": errors},
    }


def _kept(path: Path, identity: dict[str, Any]) -> Part | None:
    """What an earlier, stopped run left; nothing where it is damaged or was made with other networks."""
    try:
        tensors, run = read_tensors(path, "encoding")
    except UserError:
        return None
    return Part(run, **tensors) if run.items() >= identity.items() else None
