"""`python -m experiments shifts`: does it help where it matters? Real shifts, the cheap rivals, the forecast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import Settings, check_values, expanded, to_dict
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder, read_json, write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from experiments.jobs import Job, work
from experiments.shifts.cell import Record, ShiftCell, measure_cell, packed, set_images
from experiments.shifts.donors import DONORS
from experiments.shifts.figures import forecast_figure, site_figure
from experiments.shifts.methods import METHODS, is_for
from experiments.shifts.networks import NETWORKS
from experiments.shifts.results import forecasts
from experiments.shifts.sets import SETS, ShiftImages

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SAME = ("size", "train_images", "epochs", "precision")
"""Settings in which finished rows must agree with new ones."""


@dataclass(frozen=True)
class ShiftsConfig(Settings):
    """Train classifiers at a home by every method, and judge them at sites that they never saw: other laboratories,
    another lamp, other media, other backgrounds. Beside accuracy there, a forecast of it from unlabelled images.

    May run in several processes at once (same settings, same --out); each takes the next training that nobody does.
    Goes on where it was stopped. results.json holds all that is done in --out, also by calls with other lists of sets,
    networks, methods, donors, budgets and seeds.

    Args:
        data: folder of all data: wbc-sites, wbc-lamp, pacs, mnist-m, MNIST.
        pictures: folder of the unrelated photographs, which `photo-pictures` wrote.
        sets: which sets.
        networks: which networks.
        methods: which methods.
        donors: of methods that borrow: home, photographs, sites (unlabelled images of all sites together),
            photographs-and-sites.
        budgets: multiples of the epochs, a training each: what the same time is worth to a cheaper method.
        size: side of the images in pixels.
        train_images: labelled images of home, at most.
        epochs: of the shortest training.
        seeds: of trainings; each draws other training images, and judges another half of the sites' images.
        precision: 32 or bf16, in which losses are computed.
        finished: results.json of this study, whose rows are taken over.
        out: folder for rows and results.json.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    data: Path = Path("data")
    pictures: Path = Path("runs/pictures")
    sets: tuple[str, ...] = tuple(SETS)
    networks: tuple[str, ...] = ("conv",)
    methods: tuple[str, ...] = tuple(METHODS)
    donors: tuple[str, ...] = DONORS
    budgets: tuple[int, ...] = (1,)
    size: int = 64
    train_images: int = 2500
    epochs: int = 12
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    precision: str = "bf16"
    finished: tuple[Path, ...] = ()
    out: Path = Path("runs/study/shifts")
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "size", least=16)
        check_values(self, "train_images", least=2)
        check_values(self, "epochs", least=1)
        for flag, known in (("sets", SETS), ("networks", NETWORKS), ("methods", METHODS), ("donors", DONORS)):
            wrong = [name for name in getattr(self, flag) if name not in known]
            if wrong:
                raise UserError(f"--{flag} {wrong[0]}: unknown; choose from {' '.join(known)}")
        if self.precision not in ("32", "bf16"):
            raise UserError(f"--precision {self.precision}: unknown; choose from 32 bf16")

    @property
    def data_folder(self) -> Path:
        """Of all data, with variables of the environment put in."""
        return expanded(self.data, "data")

    @property
    def picture_folder(self) -> Path:
        """Of the photographs, likewise."""
        return expanded(self.pictures, "pictures")

    def cells(self) -> Iterator[ShiftCell]:
        """All trainings, seed by seed."""
        for seed, set_name, network, budget in product(self.seeds, self.sets, self.networks, self.budgets):
            for method in (name for name in self.methods if is_for(name, set_name)):
                for donors in self.donors if METHODS[method].borrows else ("",):
                    yield ShiftCell(set_name, network, method, donors, budget, seed)


def run_shifts(config: ShiftsConfig) -> Record:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device)
    known = _finished(config)
    claim_run(config.out, "study shifts", _what(config), resume=True, inputs={})
    rows = make_folder(config.out / "rows")
    work([_job(cell, config, fabric, rows) for cell in config.cells() if cell.name not in known])
    known |= {path.stem: read_json(path) for path in rows.glob("*.json")}
    done = [known[name] for name in sorted(known)]
    results = {**header("study shifts", _config_of(config, done)), "labels": _labels(config, done), "rows": done}
    write_json(config.out / RESULTS, results)
    there = [name for name in SETS if any(row["set"] == name for row in done)]
    figures = {name: site_figure(results, name) for name in there}
    save_figures({**figures, "forecast": forecast_figure(forecasts(done))}, config.out / "figures")
    console.print(f"Numbers: {config.out / RESULTS}")
    return results


def _what(config: ShiftsConfig) -> ShiftsConfig:
    """What a folder's runs are: the rest says which of them are done."""
    lists: dict[str, Any] = dict.fromkeys(("sets", "networks", "methods", "donors", "budgets", "seeds", "finished"), ())
    return replace(config, **lists)


def _config_of(config: ShiftsConfig, rows: list[Record]) -> ShiftsConfig:
    """The settings with the lists that all rows need."""

    def values(key: str, order: Iterable[Any]) -> tuple[Any, ...]:
        there = {row[key] for row in rows}
        return tuple(value for value in order if value in there)

    return replace(
        config,
        sets=values("set", SETS),
        networks=values("network", NETWORKS),
        methods=values("method", METHODS),
        donors=values("donors", DONORS),
        budgets=values("budget", sorted({row["budget"] for row in rows})),
        seeds=values("seed", sorted({row["seed"] for row in rows})),
    )


def _job(cell: ShiftCell, config: ShiftsConfig, fabric: Fabric, rows: Path) -> Job:
    path = rows / f"{cell.name}.json"

    def do() -> None:
        write_json(path, measure_cell(cell, config, fabric))

    return Job(cell.name, path.with_suffix(".lock"), lambda: True, path.is_file, do)


def _finished(config: ShiftsConfig) -> dict[str, Record]:
    """Rows of other runs, by the name of their training.

    Raises:
        UserError: of another study, or with other settings.
    """
    known = {}
    for path in config.finished:
        results: dict[str, Any] = read_json(path / RESULTS if path.is_dir() else path)
        if results.get("study") != "shifts":
            raise UserError(f"--finished {path}: not the {RESULTS} of python -m experiments shifts")
        for name in SAME:
            if results["config"][name] != to_dict(config)[name]:
                raise UserError(f"--finished {path}: made with {name} {results['config'][name]}; give the same")
        for row in results["rows"]:
            keys = ("network", "method", "donors", "budget", "seed")
            known[ShiftCell(row["set"], *(row[key] for key in keys)).name] = row
    return known


def _labels(config: ShiftsConfig, rows: list[Record]) -> dict[str, Record]:
    """Labels of what is judged, by set and seed: with them `right` of a row gives every interval. Their files in `out`
    spare reading the images again.
    """
    found, folder = {}, make_folder(config.out / "labels")
    for name, seed in sorted({(row["set"], row["seed"]) for row in rows}):
        path = folder / f"{name}_seed{seed}.json"
        if not path.is_file():
            write_json(path, _labels_of(set_images(name, config, seed)))
        found[f"{name} seed {seed}"] = read_json(path)
    return found


def _labels_of(images: ShiftImages) -> Record:
    sites = {
        site: {"labels": packed(part.images.labels), "judged": packed(part.is_judged.long())}
        for site, part in images.sites.items()
    }
    units = images.home_units.unique(return_inverse=True)[1].tolist()
    return {"home": {"labels": packed(images.home.labels), "units": units}, "sites": sites}
