"""`python -m experiments smiling`: to what fewer errors are due, where every method is trained as long as it likes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advmix.data.photos.load import Photos
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import generator
from experiments.faces.dataset import Faces, divide, load
from experiments.faces.study import class_counts
from experiments.jobs import Finished, read_finished, work
from experiments.smiling.cell import SmilingCell
from experiments.smiling.figures import smiling_figure, smiling_table
from experiments.smiling.results import PersonMeasure, due_rows, method_rows
from experiments.smiling.settings import SmilingConfig

COMMAND = "study smiling"

Runs = dict[str, list[dict[str, Any]]]


def run_smiling(config: SmilingConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    open_device(config.device)
    photos = load(config.data, config.target, config.persons, config.size, config.data_dir)
    cells = [make_cell(config, photos, seed) for seed in config.seeds]
    judged = cells[0].faces.judged.fingerprint
    found = read_finished(config.finished, COMMAND, config)
    for path, finished in zip(config.finished, found, strict=True):
        if finished.results["judged"]["fingerprint"] != judged:
            raise UserError(f"--finished {path}: judged on other images; leave it out")
    claim_run(config.out, COMMAND, config, resume=True, inputs={"judged": judged})
    work([cell.job(method) for method in config.methods for cell in cells if not done(found, method, cell.seed)])
    runs: Runs = {
        method: [done(found, method, cell.seed) or cell.found(method) for cell in cells] for method in config.methods
    }
    results = gather(config, cells[0], runs)
    write_json(config.out / RESULTS, results)
    save_figures({"smiling": smiling_figure(results["methods"])}, config.out / "figures")
    console.print(smiling_table(results["methods"]))
    console.print(f"Numbers: {config.out / RESULTS}, picture: {config.out / 'figures' / 'smiling.png'}")
    return results


def make_cell(config: SmilingConfig, photos: Photos, seed: int) -> SmilingCell:
    """The parts of a seed. Half of the persons that are held out choose, whatever judges: those of the other half, or
    of the test.

    Raises:
        UserError: too few persons or images.
    """
    held = divide(photos, config.labelled, "select", 0.0, seed)
    choosing = first_half(held.persons)
    if not choosing.any():
        raise UserError(f"--persons {config.persons}: too few; one in ten is held out, and two of them are needed")
    choose = held.judged[choosing.nonzero()[:, 0]]
    rest = (~choosing).nonzero()[:, 0]
    if config.judge == "select":
        return SmilingCell(
            config, seed, Faces(held.unlabelled, held.labelled, held.judged[rest], held.persons[rest]), choose
        )
    return SmilingCell(config, seed, divide(photos, config.labelled, config.judge, 0.0, seed), choose)


def first_half(persons: Tensor) -> Tensor:
    """Which images `(N,)` show the half of the persons that choose: the same ones under every seed."""
    names, index = persons.unique(return_inverse=True)
    order = torch.randperm(len(names), generator=generator(0, "smiling", "halves"))
    chosen = torch.zeros(len(names), dtype=torch.bool)
    chosen[order[: len(names) // 2]] = True
    return chosen[index]


def done(found: list[Finished], method: str, seed: int) -> dict[str, Any] | None:
    """A run of a file that is named as finished, or None."""
    runs = [run for finished in found for run in finished.results["runs"]]
    return next((run for run in runs if (run["method"], run["seed"]) == (method, seed)), None)


def gather(config: SmilingConfig, cell: SmilingCell, runs: Runs) -> dict[str, Any]:
    """What `results.json` holds."""
    faces = cell.faces
    measure = PersonMeasure.of(faces.persons, cell.searched(), config.resamples)
    return {
        **header(COMMAND, config),
        "unlabelled": len(faces.unlabelled),
        "choose": {"images": len(cell.choose)},
        "judged": {
            "fingerprint": faces.judged.fingerprint,
            "images": len(faces.judged),
            "persons": int(faces.persons.unique().numel()),
            "classes": class_counts(faces.judged),
            "searched": len(measure.searched.groups),
        },
        "methods": method_rows(runs, measure),
        "due": due_rows(runs, measure),
        "runs": [run for own in runs.values() for run in own],
    }
