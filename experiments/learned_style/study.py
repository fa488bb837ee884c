"""`python -m experiments learned-style`: what does a learned style know that statistics of an image do not?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.pools import photo_pool
from advmix.report.tables import RESULTS, header, in_percent
from advmix.utils.config import Settings, check_values, expanded
from advmix.utils.device import make_fabric
from advmix.utils.files import make_folder, write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import generator
from experiments.learned_style.figures import draw_reproductions
from experiments.learned_style.made_changes import FAMILIES
from experiments.learned_style.reproduction import explained, mixes, nearness, shared
from experiments.learned_style.searching import search_row
from experiments.photo_generator.crops import draw_crops
from experiments.photo_generator.domains import DOMAINS, Domain, Kind, open_domain
from experiments.photo_generator.measure import PhotoMeasureConfig, Training
from experiments.photo_generator.pictures import Pyramids, listed_pictures
from experiments.shifts.made_shifts import MADE_SHIFTS

Record = dict[str, Any]

CELLS, PHOTOGRAPHS = "blood cells, sites", "photographs"
GENERATORS = (
    "statistics:moments",
    "statistics:covariance",
    "statistics:pyramid",
    "statistics:local",
    "statistics:fourier",
    "photo",
    "photo:moments",
)


@dataclass(frozen=True)
class LearnedStyleConfig(Settings):
    """Measure what is in the styles of ready-made generators: how much of a made change they carry, how near a mix
    comes to its donor's colours, and what a search through them finds, with donors of the shipped photographs.

    Args:
        generators: what is compared.
        data: as of photo-measure; wbc-sites and pacs are read.
        pictures: folder of the free photographs, which `photo-pictures` wrote; of these alone pictures are shown.
        size: side of the images in pixels.
        images: val images of each kind, at most.
        search_size: side of the images whose classifiers are searched.
        search_images: of each kind, at most.
        train_images: of each kind for the classifiers, at most.
        epochs: of the classifiers.
        steps: of the search.
        seed: of classifiers, donors, and the crops that are shown.
        classifiers: folder of the classifiers.
        out: folder for results.json and the figure.
    """

    generators: tuple[str, ...] = GENERATORS
    data: Path = Path("data")
    pictures: Path = Path("runs/pictures")
    size: int = 64
    images: int = 200
    search_size: int = 32
    search_images: int = 200
    train_images: int = 1000
    epochs: int = 8
    steps: int = 2
    seed: int = 0
    classifiers: Path = Path("runs/study/photo-classifiers")
    out: Path = Path("runs/study/learned-style")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "size search_size", least=16)
        check_values(self, "images search_images train_images", least=2)
        check_values(self, "epochs steps", least=1)


def run_learned_style(config: LearnedStyleConfig) -> Record:
    """Measure; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    found = {name: load_autoencoder(Path(name)) for name in config.generators}
    inputs = {name: metadata["fingerprint"] for name, (_, metadata) in found.items()}
    claim_run(config.out, "study learned-style", config, resume=True, inputs=inputs)
    models = {name: model for name, (model, _) in found.items()}
    reproduced, mixed, searched = [], [], []
    for kind in (CELLS, PHOTOGRAPHS):
        searched += [{"kind": kind, **row} for row in search_rows(config, kind, found)]
        images, _ = _open(config, kind, config.size, config.images).judged.batch(slice(None))
        reproduced += [{"kind": kind, **row} for row in reproduction_rows(models, images)]
        mixed += [{"kind": kind, **row} for row in mix_rows(models, images)]
    shown = draw_crops(
        Pyramids.read(config.pictures, listed_pictures()), 4, 64, generator(config.seed, "learned style")
    )
    draw_reproductions(models, shown, make_folder(config.out / "figures") / "reproductions.png")
    results = {**header("study learned-style", config), "reproduced": reproduced, "mixes": mixed, "searched": searched}
    write_json(config.out / RESULTS, results)
    console.print(reproduced_table(reproduced))
    console.print(mixes_table(mixed))
    console.print(searched_table(searched))
    return results


def _open(config: LearnedStyleConfig, kind: str, size: int, images: int) -> Kind:
    return open_domain(_domain(kind, size), size, expanded(config.data, "data"), "val", config.train_images, images)


def _domain(kind: str, size: int) -> Domain:
    return replace(next(domain for domain in DOMAINS if domain.name == kind), classified=size)


def search_rows(config: LearnedStyleConfig, kind: str, models: dict[str, tuple[Autoencoder, Record]]) -> list[Record]:
    """What the search finds through each generator in a nominal classifier."""
    size, fabric = config.search_size, make_fabric("cpu")
    images = _open(config, kind, size, config.search_images)
    assert images.train is not None
    measured = PhotoMeasureConfig(epochs=config.epochs, seed=config.seed, classifiers=config.classifiers)
    network = Training(measured, _domain(kind, size), size, images.train, fabric).network("nominal")
    rows = []
    for name, (model, metadata) in models.items():
        pool = photo_pool(Path(name), metadata)
        rows.append({"generator": name, **search_row(model, pool, network, images.judged, config.steps, config.seed)})
    return rows


def reproduction_rows(models: dict[str, Autoencoder], images: Tensor) -> list[Record]:
    """For every made change the root of its mean square, and the share of it that each generator's styles carry."""
    rows = []
    for family, changes in FAMILIES.items():
        for name, change in changes.items():
            changed = change(images).clamp(0, 1)
            row: Record = {"family": family, "name": name, "change": float((changed - images).square().mean().sqrt())}
            shares = {generator: explained(model, images, changed) for generator, model in models.items()}
            rows.append({**row, "explained": shares})
    return rows


def mix_rows(models: dict[str, Autoencoder], images: Tensor) -> list[Record]:
    """For every generator how near mixes come to their donors, other images of the same kind at made sites, and which
    share of what they change the mixes of `statistics:moments` change, too.
    """
    sites = list(MADE_SHIFTS.values())
    others = images.roll(1, dims=0)
    donors = torch.stack([sites[place % len(sites)](one[None])[0].clamp(0, 1) for place, one in enumerate(others)])
    moments = mixes(load_autoencoder(Path("statistics:moments"))[0], images, donors)
    rows: list[Record] = [{"generator": "no mix", **nearness(images, donors, images), "moments": None}]
    for name, model in models.items():
        found = mixes(model, images, donors)
        rows.append({"generator": name, **nearness(images, donors, found), "moments": shared(images, found, moments)})
    return rows


def reproduced_table(rows: list[Record]) -> Table:
    """As a person reads it: percent of each change."""
    names = list(rows[0]["explained"])
    view = Table("kind", "change", *names)
    for row in rows:
        view.add_row(row["kind"], row["name"], *(f"{100 * row['explained'][name]:.0f}" for name in names))
    return view


def mixes_table(rows: list[Record]) -> Table:
    """As a person reads it."""
    view = Table("kind", "generator", "means", "deviations", "colours", "edges", "as moments")
    for row in rows:
        numbers = [f"{row[key]:.3f}" for key in ("means", "deviations", "colours", "edges")]
        view.add_row(row["kind"], row["generator"], *numbers, in_percent([row["moments"]]))
    return view


def searched_table(rows: list[Record]) -> Table:
    """As a person reads it."""
    view = Table("kind", "generator", "start", "moved", "as moments", "loss", "right")
    for row in rows:
        numbers = [f"{row[key]:.3f}" for key in ("start_change", "moved")]
        losses, right = f"{row['loss_start']:.1f} {row['loss']:.1f}", in_percent([row["right"]])
        view.add_row(row["kind"], row["generator"], *numbers, in_percent([row["moments"]]), losses, right)
    return view
