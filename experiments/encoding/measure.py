"""Mixability: does the label survive when an image's latents are mixed, and does the colour come from the donor?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.data.colored import ColoredDigits
from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import fingerprint
from advmix.encoders.network import Encoder
from advmix.encoders.optimize import Encoding, OptimizeEncoder, OptimizeOptions
from advmix.generators.base import Generator
from advmix.inspect.survival import kept_labels, mixes
from advmix.latents import Latents, Split
from advmix.metrics import accuracy
from advmix.pools import FittedModel
from advmix.training.encoding import EncodeConfig, features_of, make_encoder
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors, write_tensors
from advmix.utils.progress import track
from advmix.utils.torch_tools import eval_mode, generator
from experiments.cells import REFERENCE, Cell

BRIGHT_SHARE = 0.05

APART = 0.3


@dataclass(frozen=True, eq=False)
class Mixed:
    """N images, each with the `z⊥` of D donors, as a reference classifier sees them; on the CPU.

    Attributes:
        right: `(N,)`, whether the reconstruction, unmixed, is classified rightly.
        predictions: `(D, N)`, classes of the mixes.
        colors: `(D, N, 3)`, bright colours of the mixes.
        reconstruction_colors: `(N, 3)`.
        pictures: `(D, K, C, H, W)` in [0, 1], mixes of the first K images.
    """

    right: Tensor
    predictions: Tensor
    colors: Tensor
    reconstruction_colors: Tensor
    pictures: Tensor


@torch.no_grad()
def cross(
    reference: nn.Module,
    generator: Generator,
    split: Split,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    donors: Tensor,
    shown: int,
) -> Mixed:
    """Mix every image with every one of its donors.

    Args:
        reference: images in [0, 1] to logits.
        generator: of the latents.
        split: which layers are `z⊥`.
        latents: of N images.
        labels: `(N,)`, on the CPU as are `donors`.
        pool: latents of the donors, made by the same encoder.
        donors: `(D, N)`, places in the pool.
        shown: how many images to keep pictures of.
    """
    with eval_mode(reference, generator) as (model, _):
        plain = generator(latents)
        rows = []
        for images in mixes(generator, split, latents, pool, donors):
            rows.append((model(images).argmax(dim=1).cpu(), bright_color(images).cpu(), images[:shown].cpu()))
        predictions, colors, pictures = (torch.stack(column) for column in zip(*rows, strict=True))
        right = model(plain).argmax(dim=1).cpu() == labels
    return Mixed(right, predictions, colors, bright_color(plain).cpu(), pictures)


def bright_color(images: Tensor) -> Tensor:
    """Mean colour `(N, 3)` of the brightest twentieth of each image's pixels, by the sum of the channels."""
    pixels = images.flatten(2)
    count = max(1, round(BRIGHT_SHARE * pixels.shape[2]))
    places = pixels.sum(1).topk(count, dim=1).indices
    return pixels.gather(2, places[:, None].expand(-1, pixels.shape[1], -1)).mean(2)


def label_numbers(mixed: Mixed, labels: Tensor, donor_labels: Tensor) -> dict[str, float | None]:
    """What becomes of labels `(N,)` in mixes with donors of `donor_labels` `(D, N)`; shares in [0, 1], None of none."""
    survived, others = mixed.predictions == labels, donor_labels != labels
    return {
        "accuracy_reconstruction": _mean(mixed.right),
        "mixability": _mean(kept_labels(mixed.predictions, labels, mixed.right)),
        "accuracy_mix": _mean(survived),
        "label_of_donor": _mean((mixed.predictions == donor_labels)[others]),
    }


def color_numbers(mixed: Mixed, colors: Tensor, donor_colors: Tensor) -> dict[str, float | None]:
    """Whether the colour comes from the donor: bright colours of the real images `(N, 3)` and donors `(D, N, 3)`.

    Distances are Euclidean, RGB in [0, 1]; `color_follows` counts pairs whose real colours are at least 0.3 apart.
    """
    to_donor, to_own = (mixed.colors - donor_colors).norm(dim=-1), (mixed.colors - colors).norm(dim=-1)
    apart = (colors - donor_colors).norm(dim=-1) >= APART
    return {
        "color_error_reconstruction": _mean((mixed.reconstruction_colors - colors).norm(dim=-1)),
        "color_error_mix": _mean(to_donor),
        "color_follows": _mean((to_donor < to_own)[apart]),
    }


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if values.numel() else None


BATCH = 50

NETWORK_PASSES = 5

MANTISSAS = (1, 2, 3, 5, 7)


@dataclass(frozen=True, eq=False)
class Traced:
    """Latents of N images and the way to them; all but the latents on the CPU.

    Attributes:
        latents: length N.
        steps: gradient steps at which the error was taken, S of them; 0 alone for a network.
        milliseconds: `(S,)`, wall-clock time per image until then.
        errors: `(S, N)`, mean squared error with images in [-1, 1].
        frames: `(S, K, C, H, W)` in [0, 1], reconstructions of the first K images.
    """

    latents: Latents
    steps: tuple[int, ...]
    milliseconds: Tensor
    errors: Tensor
    frames: Tensor


def trace_steps(last: int) -> tuple[int, ...]:
    """0, then 1, 2, 3, 5, 7, 10, 20, ... and the last step.

    >>> trace_steps(25)
    (0, 1, 2, 3, 5, 7, 10, 20, 25)
    """
    powers = [10**power for power in range(len(str(last)))]
    return tuple(sorted({0, last, *(m * p for p in powers for m in MANTISSAS if m * p <= last)}))


def mean_squares(images: Tensor, others: Tensor) -> Tensor:
    """Mean squared error per image, in [-1, 1], of images `(..., C, H, W)` in [0, 1]."""
    return 4 * (images - others).square().flatten(-3).mean(-1)


def trace(
    encoder: Encoder, generator: Generator, images: Tensor, shown: int, advance: Callable[[int], None] = lambda _: None
) -> Traced:
    """Encode batch by batch, and watch.

    Args:
        encoder: an optimisation, or a network, which is done at step 0.
        generator: that the latents are for.
        images: `(N, C, H, W)` in [0, 1], on the encoder's device.
        shown: how many images to keep frames of.
        advance: told how many images are done.
    """
    parts = []
    for part in slices(len(images), BATCH):
        parts.append(_encoding(encoder, generator, images[part] * 2 - 1))
        advance(part.stop - part.start)
    frames = torch.cat([part.frames for part in parts], dim=1)
    seconds = torch.tensor([part.frame_seconds for part in parts], dtype=torch.float64).sum(0)
    return Traced(
        latents=Latents.cat([part.latents for part in parts]),
        steps=parts[0].frame_steps,
        milliseconds=1000 * seconds / len(images),
        errors=mean_squares(frames, images).cpu(),
        frames=frames[:, :shown].cpu(),
    )


def _encoding(encoder: Encoder, generator: Generator, signed: Tensor) -> Encoding:
    if isinstance(encoder, OptimizeEncoder):
        return encoder.optimize(signed, frame_steps=trace_steps(encoder.options.optimize_steps))
    with torch.no_grad(), eval_mode(encoder, generator):
        latents = encoder.encode_signed(signed)
        seconds = statistics.median(_pass_seconds(encoder, signed) for _ in range(NETWORK_PASSES))
        return Encoding(latents, signed.new_empty(0), generator(latents)[None], (0,), (seconds,))


def _pass_seconds(encoder: Encoder, signed: Tensor) -> float:
    begun = time.perf_counter()
    encoder.encode_signed(signed).styles.sum().item()  # reading a number waits for an accelerator
    return time.perf_counter() - begun


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
    mixable: FittedModel
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
