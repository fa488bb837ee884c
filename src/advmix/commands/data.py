"""`advmix data`: what is in images of your own, and which shortcuts a classifier of them may learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from torch import Tensor

from advmix.data.images import ImageSet, to_float
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, PhotoSet, load_photos
from advmix.data.shortcuts import ShortcutImages, Told, tell, tell_elsewhere
from advmix.encoders.autoencoder import load_autoencoder
from advmix.encoders.network import encoded
from advmix.generators.image_statistics import KINDS
from advmix.report.drawing import MUTED, Canvas, shorten, tile
from advmix.report.page import save_figures
from advmix.report.shortcut_tables import draw_ends, shortcut_tables
from advmix.report.tables import plain_table, safe_markup
from advmix.utils.config import Settings, check_values
from advmix.utils.errors import printable
from advmix.utils.files import write_json
from advmix.utils.progress import console, track
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import generator

MAX_ROWS = 20

MAX_COLUMNS = 6

MAX_BROKEN = 10

UNLIKE = 3

"""The commonest class has so many times the images of the rarest one: worth a remark."""


def summary_tables(summary: dict[str, Any], skip_broken: bool) -> Iterator[RenderableType]:
    """What `summarize` counted: images, classes by split, group and site, sizes and modes, broken files."""
    yield Text(f"\n  {headline(summary)}\n")
    yield _classes(summary)
    split, counts = next(iter(summary["splits"].items()))
    if summary["groups"]:
        yield Text()
        yield _crossed(f"classes by group, {split}", summary, "groups", [counts])
    if summary["sites"]:
        yield Text()
        yield _crossed("classes by site", summary, "sites", list(summary["splits"].values()))
    yield Text(f"\n  as stored: {stored(summary)}")
    yield from _unlike(summary)
    if summary["unlabelled"]:
        yield Text(f"  {summary['unlabelled']:,} more without a label, not used", "yellow")
    yield from (Text(f"  {note}", "yellow") for note in summary["notes"])
    if summary["broken"]:
        yield Text()
        yield _broken(summary["broken"], skip_broken)
    yield Text()
    if summary["shortcuts"]:
        yield from shortcut_tables(summary["shortcuts"])
        yield Text()


def _unlike(summary: dict[str, Any]) -> Iterator[RenderableType]:
    """A remark where classes are of unlike size in the first split, the one to train on."""
    split, counts = next(iter(summary["splits"].items()))
    sizes = counts["classes"].values()
    rarest, commonest = min(sizes), max(sizes)
    if commonest >= UNLIKE * max(rarest, 1):
        yield Text(
            f"  classes of unlike size in {split} ({rarest:,} to {commonest:,} images): train --balance draws them "
            "alike; read errors class by class",
            "yellow",
        )


def headline(summary: dict[str, Any]) -> str:
    """`28,016 images in 2 classes, used as 64x64 RGB (344 MB)`."""
    channels, height, width = summary["shape"]
    shape = f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
    return (
        f"{summary['images']:,} images in {len(summary['classes']):,} classes, used as {shape} "
        f"({decimal(summary['bytes'])} in memory)"
    )


def stored(summary: dict[str, Any]) -> str:
    """Sizes and modes of the files in words, the commonest first."""
    sizes = [f"{width}x{height} ({count:,})" for width, height, count in summary["sizes"][:5]]
    if len(summary["sizes"]) > 5:
        sizes.append(f"and {len(summary['sizes']) - 5:,} other sizes")
    modes = [f"{mode} ({count:,})" for mode, count in summary["modes"].items()]
    return ", ".join(sizes) + "; " + ", ".join(modes)


def _classes(summary: dict[str, Any]) -> Table:
    """A row per class: count and share in every split."""
    splits = summary["splits"]
    table = plain_table("classes", list(splits))
    for name in summary["classes"][:MAX_ROWS]:
        cells = [_share(counts["classes"][name], counts["images"]) for counts in splits.values()]
        table.add_row(safe_markup(name), *cells)
    _say_more(table, summary)
    table.add_row("all", *(_share(counts["images"], counts["images"]) for counts in splits.values()), style="dim")
    return table


def _crossed(title: str, summary: dict[str, Any], kind: str, splits: Sequence[Mapping[str, Any]]) -> Table:
    """A row per class, a column for each of the commonest groups or sites of some splits: how often they come together,
    and the share of groups.
    """
    known: dict[str, Counter[str]] = {name: Counter() for name in summary["classes"]}
    for name, row in (pair for counts in splits for pair in counts[kind].items()):
        known[name].update(row)
    sizes: Counter[str] = Counter()
    for row in known.values():
        sizes.update(row)
    common = set(sorted(summary[kind], key=lambda group: -sizes[group])[:MAX_COLUMNS])
    groups = [group for group in summary[kind] if group in common]
    others = len(summary[kind]) - len(groups)
    table = plain_table(title, [*map(safe_markup, groups), *([f"{others:,} others"] if others else [])])
    for name in summary["classes"][:MAX_ROWS]:
        total = sum(known[name].values())
        shown = [known[name][group] for group in groups]
        rest = [total - sum(shown)] if others else []
        table.add_row(
            safe_markup(name),
            *(_share(count, total) if kind == "groups" else f"{count:,}" for count in [*shown, *rest]),
        )
    _say_more(table, summary)
    return table


def _say_more(table: Table, summary: dict[str, Any]) -> None:
    if len(summary["classes"]) > MAX_ROWS:
        table.add_row(f"and {len(summary['classes']) - MAX_ROWS:,} more")


def _broken(broken: Sequence[dict[str, str]], skip_broken: bool) -> Table:
    table = plain_table(f"broken: {len(broken):,}", [])
    table.add_column("why")
    for image in broken[:MAX_BROKEN]:
        table.add_row(safe_markup(image["name"]), safe_markup(image["reason"]))
    if len(broken) > MAX_BROKEN:
        table.add_row(f"and {len(broken) - MAX_BROKEN:,} more", "all in data.json")
    if not skip_broken:
        table.add_row("", "training refuses them, unless told --skip-broken", style="yellow")
    return table


def _share(count: int, total: int) -> str:
    return f"{count:,} {100 * count / total:5.1f} %" if total else "–"


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One row of the sheet.

    Args:
        title: in bold, a class.
        note: below it, a group and how many there are.
        images: `(N, C, H, W)` in [0, 1], C 1 or 3.
    """

    title: str
    note: str
    images: Tensor


def contact_sheet(rows: Sequence[SheetRow], columns: int, footer: str) -> Figure:
    """Rows of at most `columns` images, titles on the left."""
    size, left, top = 0.72, 2.2, 0.12
    pitch = 1.1 * size
    canvas = Canvas(left + columns * pitch + 0.1, top + len(rows) * pitch + 0.36)
    for index, row in enumerate(rows):
        y = top + index * pitch
        canvas.text(left - 0.15, y + 0.26, shorten(row.title, 20), 11, ha="right", weight="bold")
        canvas.text(left - 0.15, y + 0.48, shorten(row.note, 30), 8.5, ha="right", color=MUTED)
        strip = tile(row.images[:columns].expand(-1, 3, -1, -1), columns, 1)
        canvas.image(strip, left, y, size * strip.shape[2] / strip.shape[1], size)
    canvas.text(left, top + len(rows) * pitch + 0.14, footer, 8.5, ha="left", color=MUTED)
    return canvas.figure


FILE = "data.json"

MAX_PREVIEW_ROWS = 24


@dataclass(frozen=True)
class PreviewConfig(Settings):
    """Look at a data set of your own: counts, classes against groups and sites, sizes, broken files, some of its
    images, and how well a style alone (light, contrast, colours) tells the label: a shortcut that a classifier may
    learn.

    Writes data.json, preview.png, shortcuts.png and config.json; an older preview in the same folder gives way.

    Args:
        data: a folder (class/image, or with a labels.csv), a .zip or .csv file, shards of WebDataset (a folder of .tar
            files, or 'DIR/train-{000000..000009}.tar'), torchvision:NAME, hf:NAME, or hf-stream:NAME (in one pass into
            the cache). `$NAME` in it is an environment variable, filled in when files are read.
        photos: what is read of it, and in which shape.
        columns: images of every class in the preview.
        shortcuts: predict label, group and site from the style alone, on at most 2,000 images of each split.
        seed: fixes which images are held out, which are in the preview, and where shortcuts are looked for.
        out: folder for what is written.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    photos: PhotoOptions = field(default_factory=PhotoOptions)
    columns: int = 10
    shortcuts: bool = True
    seed: int = 0
    out: Path = Path("runs/data")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "columns", least=1)


def run_preview(config: PreviewConfig) -> dict[str, Any]:
    """Read everything, print what is there and draw some of it; returns what `data.json` holds. Broken images are
    listed, not refused.

    Raises:
        UserError: the data are not as they should be, or no image can be read.
    """
    photos = load_photos(config.data, replace(config.photos, skip_broken=True), config.seed)
    fingerprints = {name: found.images.fingerprint for name, found in photos.splits.items()}
    with open_run(config.out, "data", config, resume=False, inputs=fingerprints, replace=True):
        summary = {"data": config.data, "seed": config.seed, **summarize(photos), "shortcuts": None}
        name, found = next(iter(photos.splits.items()))
        figures = {"preview": preview(photos, found, name, config)}
        (config.out / "shortcuts.png").unlink(missing_ok=True)
        small = config.photos.size < MIN_SIDE
        if config.shortcuts and not small:
            summary["shortcuts"], figures["shortcuts"] = find_shortcuts(photos, config.seed)
        write_json(config.out / FILE, summary)
        save_figures(figures, config.out)
        for block in summary_tables(summary, skip_broken=config.photos.skip_broken):
            console.print(block)
        if config.shortcuts and small:
            console.print(
                f"  no shortcuts are looked for in images of less than {MIN_SIDE} pixels (--size)", style="yellow"
            )
        shown = " and ".join(str(config.out / f"{figure}.png") for figure in figures)
        console.print(f"  pictures in {shown}, numbers in {config.out / FILE}", markup=False)
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
        "sites": list(photos.sites),
        "splits": {name: _counts(photos, found) for name, found in photos.splits.items()},
        "sizes": [[width, height, count] for (width, height), count in _by_count(photos.sizes)],
        "modes": dict(_by_count(photos.modes)),
        "unlabelled": photos.unlabelled,
        "notes": [printable(note) for note in photos.notes],
        "broken": [image.to_dict() for image in photos.broken],
    }


def _counts(photos: Photos, found: PhotoSet) -> dict[str, Any]:
    """Per class, and per class and group or site, of the pairs that there are: `{"images": 3, "classes": {"cat": 2,
    ...}, "groups": {"cat": {...}}, "sites": ...}`.
    """
    labels = found.images.labels.tolist()
    singles = Counter(labels)

    def crossed(indices: Tensor, names: Sequence[str]) -> dict[str, dict[str, int]]:
        rows: dict[str, dict[str, int]] = {}
        pairs = Counter(zip(labels, indices.tolist(), strict=True)) if names else Counter[tuple[int, int]]()
        for label, other in sorted(pairs):
            rows.setdefault(photos.classes[label], {})[names[other]] = pairs[label, other]
        return rows

    return {
        "images": len(found),
        "classes": {name: singles[i] for i, name in enumerate(photos.classes)},
        "groups": crossed(found.groups, photos.groups),
        "sites": crossed(found.sites, photos.sites),
    }


def _by_count(counter: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def preview(photos: Photos, found: PhotoSet, split: str, config: PreviewConfig) -> Figure:
    """A row of random images for every class, or, where they are not too many, for every class and group."""
    order = torch.randperm(len(found), generator=generator(config.seed, "photos", "preview"))
    pairs = sorted(set(zip(found.images.labels.tolist(), found.groups.tolist(), strict=True)))
    rows: list[tuple[int, int | None]] = list(pairs)
    if len(pairs) > MAX_PREVIEW_ROWS or not photos.groups:
        rows = [(label, None) for label in sorted({label for label, _ in pairs})]
    drawn = [_sheet_row(photos, found, order, *row, config.columns) for row in rows[:MAX_PREVIEW_ROWS]]
    more = f"; {len(rows) - MAX_PREVIEW_ROWS:,} more classes are not shown" if len(rows) > MAX_PREVIEW_ROWS else ""
    return contact_sheet(drawn, config.columns, f"drawn at random from {split}{more}")


def _sheet_row(photos: Photos, found: PhotoSet, order: Tensor, label: int, group: int | None, columns: int) -> SheetRow:
    """Of one class and, unless it is None, one group."""
    wanted = found.images.labels[order] == label
    if group is not None:
        wanted &= found.groups[order] == group
    chosen = order[wanted]
    note = f"{len(chosen):,} images" if group is None else f"{photos.groups[group]} · {len(chosen):,} images"
    return SheetRow(printable(photos.classes[label]), printable(note), to_float(found.images.pixels[chosen[:columns]]))


STYLES = (*(f"statistics:{kind}" for kind in KINDS), "photo")
"""The first are the six colour numbers."""

MIN_SIDE = 16
"""Smaller images have no styles."""


def find_shortcuts(photos: Photos, seed: int) -> tuple[dict[str, Any], Figure]:
    """How well each ready-made style alone tells label, group and site, and the label at other sites; with the pictures
    at the ends of the first one.
    """
    images = ShortcutImages.draw(photos, seed)
    entry: dict[str, Any] = {
        "images": int(images.train.sum()),
        "home": None if images.home is None else photos.sites[images.home],
        "styles": [],
    }
    with track("shortcuts", len(STYLES)) as advance:
        for style in STYLES:
            features = style_features(images.images, style)
            told = {target: tell(features, images, target, seed) for target in images.targets}
            away = {} if images.home is None else tell_elsewhere(features, images)
            home = tell(features, images, "label", seed, at_home=True) if away else None
            if style == STYLES[0]:
                figure = draw_ends(images, told["label"], away)
            entry["styles"].append(
                {
                    "style": style,
                    "numbers": features.shape[1],
                    **{target: _told_entry(told.get(target)) for target in ("label", "group", "site")},
                    "home": _told_entry(home),
                    "elsewhere": {photos.sites[site]: _told_entry(found) for site, found in away.items()},
                }
            )
            advance(1, style)
    return entry, figure


def style_features(images: ImageSet, style: str) -> Tensor:
    """The numbers of each image's style, `(N, F)`.

    Args:
        images: N of them; the style `photo` takes grey ones as colour.
        style: name of a ready-made generator.
    """
    channels = images.shape[0]
    if style == "photo" and channels == 1:
        images = ImageSet(images.pixels.expand(-1, 3, -1, -1), images.labels, images.classes)
    encoder = load_autoencoder(Path(style), channels)[0].encoder
    return encoded(images, encoder, styles_only=True).styles.flatten(1)


def _told_entry(told: Told | None) -> dict[str, Any] | None:
    """Balanced accuracy with its interval, chance, and how many images it is of."""
    return None if told is None else {**told.accuracy.to_dict(), "chance": told.chance, "images": len(told.rows)}
