"""The numbers of `advmix data` as they are printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from advmix.errors import printable

MAX_ROWS = 20
MAX_COLUMNS = 6
MAX_BROKEN = 10
UNLIKE = 3
"""The commonest class has so many times the images of the rarest one: worth a remark."""


def summary_tables(summary: dict[str, Any], skip_broken: bool) -> Iterator[RenderableType]:
    """What `summarize` counted: images, classes by split, classes by group, sizes and modes, broken files."""
    yield Text(f"\n  {headline(summary)}\n")
    yield _classes(summary)
    if summary["groups"]:
        yield Text()
        yield _groups(summary)
    yield Text(f"\n  as stored: {stored(summary)}")
    yield from _unlike(summary)
    if summary["unlabelled"]:
        yield Text(f"  {summary['unlabelled']:,} more without a label, not used", "yellow")
    yield from (Text(f"  {note}", "yellow") for note in summary["notes"])
    if summary["broken"]:
        yield Text()
        yield _broken(summary["broken"], skip_broken)
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


def _table(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 2), show_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", min_width=9)
    return table


def _classes(summary: dict[str, Any]) -> Table:
    """A row per class: count and share in every split."""
    splits = summary["splits"]
    table = _table("classes", list(splits))
    for name in summary["classes"][:MAX_ROWS]:
        cells = [_share(counts["classes"][name], counts["images"]) for counts in splits.values()]
        table.add_row(_safe(name), *cells)
    _say_more(table, summary)
    table.add_row("all", *(_share(counts["images"], counts["images"]) for counts in splits.values()), style="dim")
    return table


def _groups(summary: dict[str, Any]) -> Table:
    """A row per class, a column for each of the commonest groups of the first split: how often they come together."""
    split, counts = next(iter(summary["splits"].items()))
    sizes = {group: sum(row[group] for row in counts["groups"].values()) for group in summary["groups"]}
    common = sorted(sizes, key=lambda group: -sizes[group])[:MAX_COLUMNS]
    groups = [group for group in sizes if group in common]
    others = len(sizes) - len(groups)
    table = _table(f"classes by group, {split}", [*map(_safe, groups), *([f"{others:,} others"] if others else [])])
    for name in summary["classes"][:MAX_ROWS]:
        found, total = counts["groups"][name], counts["classes"][name]
        shown = [found[group] for group in groups]
        rest = [total - sum(shown)] if others else []
        table.add_row(_safe(name), *(_share(count, total) for count in [*shown, *rest]))
    _say_more(table, summary)
    return table


def _say_more(table: Table, summary: dict[str, Any]) -> None:
    if len(summary["classes"]) > MAX_ROWS:
        table.add_row(f"and {len(summary['classes']) - MAX_ROWS:,} more")


def _broken(broken: Sequence[dict[str, str]], skip_broken: bool) -> Table:
    table = _table(f"broken: {len(broken):,}", [])
    table.add_column("why")
    for image in broken[:MAX_BROKEN]:
        table.add_row(_safe(image["name"]), _safe(image["reason"]))
    if len(broken) > MAX_BROKEN:
        table.add_row(f"and {len(broken) - MAX_BROKEN:,} more", "all in data.json")
    if not skip_broken:
        table.add_row("", "training refuses them, unless told --skip-broken", style="yellow")
    return table


def _share(count: int, total: int) -> str:
    return f"{count:,} {100 * count / total:5.1f} %" if total else "–"


def _safe(name: str) -> str:
    return escape(printable(name))
