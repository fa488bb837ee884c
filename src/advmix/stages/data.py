"""`advmix data`: what is in a user's data set, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

from advmix.data import to_float
from advmix.data.photos import PhotoOptions, Photos, PhotoSet, load_photos
from advmix.errors import printable
from advmix.files import write_json
from advmix.options import require
from advmix.progress import console
from advmix.report import save_figures
from advmix.report.contact import SheetRow, contact_sheet
from advmix.runs import open_run
from advmix.seeds import generator
from advmix.stages.data_tables import summary_tables

FILE = "data.json"
MAX_ROWS = 24


@dataclass(frozen=True)
class PreviewConfig:
    """Look at a data set of your own: counts, classes against groups, sizes, broken files, and some of its images.

    Writes data.json, preview.png and config.json; an older preview in the same folder gives way.

    Args:
        data: a folder (class/image, or with a labels.csv), a .zip or .csv file, torchvision:NAME or hf:NAME. `$NAME`
            in it is an environment variable, filled in when files are read.
        photos: what is read of it, and in which shape.
        columns: images of every class in the preview.
        seed: fixes which images are held out, and which are in the preview.
        out: folder for what is written.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    photos: PhotoOptions = field(default_factory=PhotoOptions)
    columns: int = 10
    seed: int = 0
    out: Path = Path("runs/data")

    def __post_init__(self) -> None:
        require(self, "columns", least=1)


def run_preview(config: PreviewConfig) -> dict[str, Any]:
    """Read everything, print what is there and draw some of it; returns what `data.json` holds. Broken images are
    listed, not refused.

    Raises:
        UserError: the data are not as they should be, or no image can be read.
    """
    photos = load_photos(config.data, replace(config.photos, skip_broken=True), config.seed)
    fingerprints = {name: found.images.fingerprint for name, found in photos.splits.items()}
    with open_run(config.out, "data", config, resume=False, inputs=fingerprints, replace=True):
        summary = {"data": config.data, "seed": config.seed, **summarize(photos)}
        write_json(config.out / FILE, summary)
        name, found = next(iter(photos.splits.items()))
        save_figures({"preview": preview(photos, found, name, config)}, config.out)
        for block in summary_tables(summary, skip_broken=config.photos.skip_broken):
            console.print(block)
        console.print(f"  preview in {config.out / 'preview.png'}, numbers in {config.out / FILE}", markup=False)
        return summary


def summarize(photos: Photos) -> dict[str, Any]:
    """Everything that is counted, as JSON values."""
    shape = list(next(iter(photos.splits.values())).images.shape)
    return {
        "images": sum(len(found) for found in photos.splits.values()),
        "shape": shape,
        "bytes": sum(found.images.pixels.numel() for found in photos.splits.values()),
        "classes": list(photos.classes),
        "groups": list(photos.groups),
        "splits": {name: _counts(photos, found) for name, found in photos.splits.items()},
        "sizes": [[width, height, count] for (width, height), count in _by_count(photos.sizes)],
        "modes": dict(_by_count(photos.modes)),
        "unlabelled": photos.unlabelled,
        "notes": [printable(note) for note in photos.notes],
        "broken": [image.to_dict() for image in photos.broken],
    }


def _counts(photos: Photos, found: PhotoSet) -> dict[str, Any]:
    """Per class, and per class and group: `{"images": 3, "classes": {"cat": 2, ...}, "groups": {"cat": {...}}}`."""
    labels, groups = found.images.labels.tolist(), found.groups.tolist()
    singles, pairs = Counter(labels), Counter(zip(labels, groups, strict=True))
    return {
        "images": len(found),
        "classes": {name: singles[i] for i, name in enumerate(photos.classes)},
        "groups": {
            name: {group: pairs[i, j] for j, group in enumerate(photos.groups)} for i, name in enumerate(photos.classes)
        },
    }


def _by_count(counter: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def preview(photos: Photos, found: PhotoSet, split: str, config: PreviewConfig) -> Figure:
    """A row of random images for every class, or, where they are not too many, for every class and group."""
    order = torch.randperm(len(found), generator=generator(config.seed, "photos", "preview"))
    pairs = sorted(set(zip(found.images.labels.tolist(), found.groups.tolist(), strict=True)))
    rows: list[tuple[int, int | None]] = list(pairs)
    if len(pairs) > MAX_ROWS or not photos.groups:
        rows = [(label, None) for label in sorted({label for label, _ in pairs})]
    drawn = [_sheet_row(photos, found, order, *row, config.columns) for row in rows[:MAX_ROWS]]
    more = f"; {len(rows) - MAX_ROWS:,} more classes are not shown" if len(rows) > MAX_ROWS else ""
    return contact_sheet(drawn, config.columns, f"drawn at random from {split}{more}")


def _sheet_row(photos: Photos, found: PhotoSet, order: Tensor, label: int, group: int | None, columns: int) -> SheetRow:
    """Of one class and, unless it is None, one group."""
    wanted = found.images.labels[order] == label
    if group is not None:
        wanted &= found.groups[order] == group
    chosen = order[wanted]
    note = f"{len(chosen):,} images" if group is None else f"{photos.groups[group]} · {len(chosen):,} images"
    return SheetRow(printable(photos.classes[label]), printable(note), to_float(found.images.pixels[chosen[:columns]]))
