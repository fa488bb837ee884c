"""What advmix does on a GPU: whether a search waits for it, training, an audit, and every part of the work.

python benchmarks/gpu.py --out results/benchmarks

Nothing but a GPU is needed: images come from a seed, networks have random weights. It ends within `--minutes`:
`gpu.json` is written anew after each of its works, and one that does not fit into the time left is left out, which is
said and written there, as are those that failed. `--device cpu --quick` tries all but what is compiled.
"""

from __future__ import annotations

import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from parts import ADVMIX_STEP, AUTOENCODER_STEP, CANDIDATE, PLAIN, PartsConfig, time_parts
from peers import random_images
from rich.table import Table
from script import run, write_rows
from timing import Work, full_products, measure, wait_for
from torch import Tensor
from torchvision import models

import advmix
from advmix.classifiers.networks import conv_net
from advmix.data.datasets import GivenImages
from advmix.data.images import ImageSet, to_bytes
from advmix.encoders.network import start_latents
from advmix.latents import Latents
from advmix.metrics import predict
from advmix.mixing import WORST_CASE, AdvMix, Search, draw_all_donors
from advmix.pools import FittedModel
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.objectives import Mixing
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import check_values
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.progress import console
from advmix.utils.torch_tools import generator

Row = dict[str, Any]
CLASSES, MANY_EPOCHS = 10, 10**6
GENERATORS = ("statistics", "photo")
PRECISIONS = ("32", "tf32", "bf16")
COMPILED_PARTS = (CANDIDATE, ADVMIX_STEP)


@dataclass(frozen=True)
class GpuConfig:
    """Time advmix on a GPU.

    Args:
        minutes: in which it ends.
        quick: a few small images, and nothing compiled: to see whether all of it runs.
        device: auto, cpu, cuda or cuda:N.
        out: folder for gpu.json.
    """

    minutes: float = 9.0
    quick: bool = False
    device: str = "cuda"
    out: Path = Path("results/benchmarks")

    def __post_init__(self) -> None:
        check_values(self, "minutes", least=0)

    @property
    def sizes(self) -> Sizes:
        """How much of everything."""
        return QUICK if self.quick else Sizes()


@dataclass(frozen=True)
class Sizes:
    """How much of everything: sides in pixels, images audited and in a batch, rounds of which the median counts."""

    audited_network: str = "resnet50"
    audit_side: int = 224
    audited: int = 1000
    trained_network: str = "resnet18"
    train_side: int = 64
    train_batch: int = 256
    parts_side: int = 64
    parts_batch: int = 32
    parts: tuple[str, ...] = ()
    rounds: int = 9
    search: Search = WORST_CASE


QUICK = Sizes("conv_net", 32, 2, "conv_net", 32, 2, 16, 2, (CANDIDATE,), 1, Search(restarts=1, steps=1))


@dataclass(frozen=True)
class Job:
    """A piece of the work.

    Args:
        name: what it is.
        seconds: in which it ends on a large GPU; with less time left it is not begun.
        rows: what it finds.
    """

    name: str
    seconds: float
    rows: Callable[[], list[Row]]


def made_images(count: int, side: int) -> ImageSet:
    """Smooth colours from a seed, with random labels."""
    labels = torch.randint(CLASSES, (count,), generator=generator(0, "gpu labels"))
    pixels = to_bytes(random_images(count, side, torch.device("cpu")))
    return ImageSet(pixels, labels, tuple(map(str, range(CLASSES))))


def made_network(name: str) -> torch.nn.Module:
    """A network of torchvision, or `conv_net`, with weights from a seed."""
    torch.manual_seed(0)
    network: torch.nn.Module = conv_net(CLASSES) if name == "conv_net" else getattr(models, name)(num_classes=CLASSES)
    return network


def arithmetic_of(precision: str) -> ArithmeticOptions:
    """As commands have it: TF32 is their `32`."""
    return ArithmeticOptions("32" if precision == "tf32" else precision)


@dataclass(frozen=True, eq=False)
class Searched:
    """Images, their codes, and a classifier, which searches are made of."""

    model: FittedModel
    network: torch.nn.Module
    latents: Latents
    labels: Tensor

    @staticmethod
    def make(name: str, sizes: Sizes, device: torch.device) -> Searched:
        """A batch under a ready-made generator."""
        model, images = advmix.load(name, "photos", device=device), made_images(sizes.train_batch, sizes.train_side)
        shown, labels = (part.to(device) for part in images.batch(slice(None)))
        with torch.no_grad():
            latents = start_latents(model.generator, model.encoder, shown, model.encoder(shown), True)
        return Searched(model, made_network(sizes.trained_network).to(device).eval(), latents, labels)

    def search(self, settings: Row) -> Work:
        """One search of the batch, its donors on the CPU, as training has them."""
        mixer = AdvMix(self.model.generator, self.model.split, Search(), **settings)
        donors = draw_all_donors(mixer.search, len(self.labels), len(self.model.pool), None, generator(0))
        return lambda: mixer(self.network, self.latents, self.labels, self.model.pool, donors=donors)


def waiting_rows(sizes: Sizes, device: torch.device) -> list[Row]:
    """How often a search makes the CPU wait for the GPU: with `stop_early` once a step, for verdicts in 16 bits once a
    candidate, else never.
    """
    rows = []
    kinds: dict[str, tuple[Row, int]] = {
        "search": ({}, 0),
        "search, bf16, no verdicts": ({"arithmetic": ArithmeticOptions("bf16"), "verdicts": False}, 0),
        "search, bf16": ({"arithmetic": ArithmeticOptions("bf16")}, Search().steps + 1),
        "search, stop_early": ({"stop_early": True}, Search().steps),
    }
    for name in GENERATORS:
        made = Searched.make(name, sizes, device)
        for kind, (settings, allowed) in kinds.items():
            work = made.search(settings)
            work()
            wait_for(device)
            count = waits(work, device)
            passed = None if count is None else count <= allowed
            rows.append({"kind": "waits", "name": kind, "generator": name, "waits": count, "passed": passed})
    return rows


def waits(work: Work, device: torch.device) -> int | None:
    """How often torch says that it waits for the GPU; None where there is none."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in said)


def training_rows(sizes: Sizes, device: torch.device) -> list[Row]:
    """Images a second of `train --method advmix`, K = 2, in every precision, all in turn."""
    works: dict[tuple[str, str], Work] = {}
    for precision in PRECISIONS:
        for name in GENERATORS:
            works[name, precision] = training_step(name, precision, sizes, device)
    seconds = measure(works, sizes.rounds, device)
    return [
        {
            "kind": "AdvMix training",
            "name": sizes.trained_network,
            "generator": name,
            "precision": precision,
            "side": sizes.train_side,
            "batch": sizes.train_batch,
            "images_per_second": sizes.train_batch / value,
        }
        for (name, precision), value in seconds.items()
    ]


def training_step(name: str, precision: str, sizes: Sizes, device: torch.device) -> Work:
    """A step by AdvMix, K = 2, reading its batch included, with the usual weights of a ready-made
    generator.
    """
    fabric = make_fabric(str(device), precision=arithmetic_of(precision).precision)
    model, images = advmix.load(name, "photos", device=device), made_images(sizes.train_batch, sizes.train_side)
    mixer = AdvMix(model.generator, model.split, Search(), arithmetic=arithmetic_of(precision), verdicts=False)
    places = torch.full((len(images),), -1)
    objective = Mixing(mixer, model.pool, encoder=model.encoder, residual=True, places=places, together=True)
    options = TrainOptions(epochs=MANY_EPOCHS, batch=sizes.train_batch)
    trainee = ClassifierTrainee(made_network(sizes.trained_network), objective, images, options, 0, fabric)

    def step() -> None:
        with full_products(device, precision == "32"):
            trainee.update(trainee.loss(0))

    return step


def audit_rows(precision: str, sizes: Sizes, device: torch.device) -> list[Row]:
    """Images a second of an audit, by its phases; once, after a small one. Labels are the network's own answers to the
    images, so that none is wrong before the search begins.
    """
    network, images = (
        made_network(sizes.audited_network).to(device).eval(),
        made_images(sizes.audited, sizes.audit_side),
    )
    images = ImageSet(images.pixels, predict(network, images, device).argmax(dim=1), images.classes)
    settings: Row = {"pool": "photos", "reference": "none", "explore": False, "search": sizes.search, "pictures": 2}
    for part in (images[:4], images):
        with tempfile.TemporaryDirectory() as folder, full_products(device, precision == "32"):
            begun = time.perf_counter()
            result = advmix.audit_classifier(
                network,
                GivenImages(images[:4], part),
                count=len(part),
                out=Path(folder) / "audit",
                device=str(device),
                precision=arithmetic_of(precision).precision,
                **settings,
            )
            seconds = time.perf_counter() - begun
    phases, everything = result.results["phases"], result.results["classifiers"][0]["parts"][0]
    return [
        {
            "kind": "audit",
            "name": sizes.audited_network,
            "generator": "statistics",
            "precision": precision,
            "side": sizes.audit_side,
            "images": sizes.audited,
            "images_per_second": sizes.audited / seconds,
            "search_images_per_second": sizes.audited / phases["search"],
            "phases": phases,
            "accuracy_worst_case": everything["accuracy_worst_case"]["value"],
        }
    ]


def part_rows(settings: tuple[str, ...], parts: tuple[str, ...], sizes: Sizes, device: torch.device) -> list[Row]:
    """Rows of `benchmarks/parts.py`."""
    config = PartsConfig((sizes.parts_side,), sizes.parts_batch, sizes.rounds, settings, parts, str(device))
    return [{"kind": "part", **row} for row in time_parts(sizes.parts_side, config, device)]


def jobs(config: GpuConfig, device: torch.device) -> list[Job]:
    """All works, what matters most first."""
    sizes = config.sizes
    plain = [
        Job("waits", 40, lambda: waiting_rows(sizes, device)),
        Job("AdvMix training", 60, lambda: training_rows(sizes, device)),
        Job("audit, tf32", 120, lambda: audit_rows("tf32", sizes, device)),
        Job("parts", 80, lambda: part_rows((PLAIN, "tf32", "bf16"), sizes.parts, sizes, device)),
        Job("audit, bf16", 90, lambda: audit_rows("bf16", sizes, device)),
    ]
    compiled = [
        Job(f"parts, {name}", seconds, lambda name=name, parts=parts: part_rows((name,), parts, sizes, device))  # type: ignore[misc]
        for name, parts, seconds in (
            ("bf16-compiled", COMPILED_PARTS, 120),
            ("bf16-graphs", (CANDIDATE,), 60),
            ("tf32-compiled", COMPILED_PARTS, 120),
            ("bf16-compiled", (AUTOENCODER_STEP,), 90),
        )
    ]
    last = [Job("audit, 32", 120, lambda: audit_rows("32", sizes, device))]
    return plain if config.quick else [*plain, *compiled, *last]


@dataclass
class Results:
    """What was found so far, on disk after each work."""

    config: GpuConfig
    device: torch.device
    rows: list[Row] = field(default_factory=list)
    works: list[Row] = field(default_factory=list)
    left_out: list[Row] = field(default_factory=list)

    def add(self, job: Job, left: float) -> None:
        """Do one work, unless less time is left than it takes."""
        if job.seconds > left:
            self.leave_out(job, f"takes up to {job.seconds:.0f} s, and {max(left, 0):.0f} s were left")
            return
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        begun = time.perf_counter()
        try:
            self.rows += job.rows()
        except Exception as error:  # the others are worth having
            traceback.print_exc()
            self.leave_out(job, f"failed: {type(error).__name__}: {error}")
        else:
            seconds = time.perf_counter() - begun
            peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
            self.works.append({"name": job.name, "seconds": seconds, "peak_gpu_bytes": peak})
            console.print(f"  {job.name}: {seconds:.0f} s")
        self.write()

    def leave_out(self, job: Job, reason: str) -> None:
        """Say it, and write it down."""
        self.left_out.append({"name": job.name, "reason": reason})
        console.print(f"  left out: {job.name}: {reason}", markup=False)
        self.write()

    def write(self) -> None:
        """All of it."""
        config = {"minutes": self.config.minutes, "quick": self.config.quick}
        facts = {**config, "device": device_facts(self.device), "works": self.works, "left_out": self.left_out}
        write_rows(self.config.out, "gpu", self.rows, **facts)


def device_facts(device: torch.device) -> Row:
    """What it was measured on."""
    if device.type != "cuda":
        return {"name": str(device)}
    found = torch.cuda.get_device_properties(device)
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"name": found.name, "bytes": found.total_memory, "processors": found.multi_processor_count, **versions}


def main() -> None:
    """Do all works that fit into the time, print, write."""
    begun, config = time.perf_counter(), tyro.cli(GpuConfig)
    device = make_fabric(config.device).device
    results = Results(config, device)
    for job in jobs(config, device):
        results.add(job, 60 * config.minutes - (time.perf_counter() - begun))
    console.print(table_of(results.rows))
    if failed := [one["name"] for one in results.left_out if one["reason"].startswith("failed")]:
        raise UserError(f"gpu.json: {', '.join(failed)} failed; see above")


def table_of(rows: list[Row]) -> Table:
    """Images a second."""
    table = Table("", "", "generator", "precision or setting", "images/s", "waits")
    for row in rows:
        name, how = row.get("name", row.get("part", "")), row.get("precision", row.get("setting", ""))
        rate, waited = row.get("images_per_second"), row.get("waits")
        numbers = "" if rate is None else f"{rate:,.0f}", "" if waited is None else str(waited)
        table.add_row(row["kind"], name, row.get("generator", ""), how, *numbers)
    return table


if __name__ == "__main__":
    run(main)
