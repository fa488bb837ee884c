"""What styles alone tell of images: tables for the terminal, a sentence, and the pictures at the ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from advmix.data.images import to_float
from advmix.data.shortcuts import ShortcutImages, Told
from advmix.report.drawing import MUTED, RIGHT, WRONG, Canvas, shorten
from advmix.report.tables import plain_table, safe_markup
from advmix.utils.errors import printable

MAX_SITES = 5

MIN_SITE_IMAGES = 20
"""Sites with fewer are not in the sentence while there are others."""

MIN_WAY = 0.1
"""From chance to all: a style that goes less of this way tells nothing worth a word."""

ENDS, MAX_END_ROWS = 5, 12
"""Pictures at each end, in so many rows."""

SIZE, PITCH, LEFT, TOP = 0.72, 1.05, 2.2, 0.5
"""Inches: side of a picture, from row to row, and where the first one lies."""

Share = Mapping[str, float]
"""`value`, `low`, `high`, `chance`, `images`."""


def shortcut_tables(shortcuts: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Balanced accuracy of each style alone, in percent: for label, group and site, and for the label at other sites;
    and a sentence.
    """
    first = shortcuts["styles"][0]
    targets = [target for target in ("label", "group", "site") if first[target] is not None]
    if not targets:
        return
    table = plain_table("told by a style alone, %", ["numbers", *targets])
    table.add_row("chance", "", *(f"{100 * first[target]['chance']:.0f}" for target in targets), style="dim")
    for row in shortcuts["styles"]:
        table.add_row(row["style"], f"{row['numbers']:,}", *(_cell(row[target]) for target in targets))
    yield table
    if first["elsewhere"]:
        yield Text()
        yield _sites_table(shortcuts)
    words = shortcut_words(shortcuts)
    if words is not None:
        yield Text(f"\n  {words}", "yellow" if any(_tells(row["label"]) for row in shortcuts["styles"]) else "")


def _sites_table(shortcuts: Mapping[str, Any]) -> Table:
    """The label, at home and at the largest other sites."""
    first = shortcuts["styles"][0]["elsewhere"]
    sites = sorted(first, key=lambda site: -first[site]["images"])[:MAX_SITES]
    table = plain_table("the label, learned at home, %", [safe_markup(name) for name in (shortcuts["home"], *sites)])
    for row in shortcuts["styles"]:
        table.add_row(row["style"], _cell(row["home"]), *(_cell(row["elsewhere"][site]) for site in sites))
    return table


def _cell(told: Share | None) -> str:
    return "–" if told is None else f"{100 * told['value']:.0f} [dim]({_ends(told)})[/]"


def _ends(told: Share) -> str:
    return f"{100 * told['low']:.0f}–{100 * told['high']:.0f}"


def _tells(told: Share | None) -> bool:
    """Whether it is above chance, surely so, and by so much that it is worth a word."""
    if told is None:
        return False
    way = (told["value"] - told["chance"]) / (1 - told["chance"])
    return told["low"] > told["chance"] and way >= MIN_WAY


def shortcut_words(shortcuts: Mapping[str, Any]) -> str | None:
    """One sentence: of the colours where they tell the label, else of the style that tells most; None where nothing was
    asked.
    """
    rows = [row for row in shortcuts["styles"] if row["label"] is not None]
    if not rows:
        return None
    most = rows[0] if _tells(rows[0]["label"]) else max(rows, key=lambda row: float(row["label"]["value"]))
    told = most["label"]
    if not _tells(told):
        return (
            f"No style alone tells much of the label: {_percent(told)} at most (chance {100 * told['chance']:.0f} %)."
        )
    said = f"{_who(most)} the label on {_percent(told)} (chance {100 * told['chance']:.0f} %)"
    if _tells(most["site"]):
        said += f" and the site on {_percent(most['site'])} (chance {100 * most['site']['chance']:.0f} %)"
    where = _elsewhere(most, shortcuts["home"])
    return f"{said}: a classifier may learn it. {where}advmix audit shows whether yours did."


def _who(row: Mapping[str, Any]) -> str:
    if row["style"] == "statistics:moments":
        return "Six colour numbers alone tell" if row["numbers"] == 6 else "Mean and contrast alone tell"
    return f"The style {row['style']} alone ({row['numbers']:,} numbers) tells"


def _elsewhere(row: Mapping[str, Any], home: str) -> str:
    """`Learned at barcelona, it is right on 81 % there and on 9 to 56 % at other sites. `, or nothing."""
    known = list(row["elsewhere"].values())
    known = [told for told in known if told["images"] >= MIN_SITE_IMAGES] or known
    if not known or row["home"] is None:
        return ""
    low, high = (f"{100 * end(told['value'] for told in known):.0f}" for end in (min, max))
    there, ends = "other sites" if len(known) > 1 else "another site", low if low == high else f"{low} to {high}"
    return f"Learned at {printable(home)}, it is right on {_percent(row['home'])} there and on {ends} % at {there}. "


def _chance(told: Share) -> str:
    return f"chance {100 * told['chance']:.0f} %"


def _percent(told: Share) -> str:
    return f"{100 * told['value']:.0f} %"


def draw_ends(images: ShortcutImages, told: Told | None, elsewhere: Mapping[int, Told]) -> Figure:
    """Of each class, and of each other site, the images that a style is surest of: right ones and wrong ones.

    Args:
        images: the images.
        told: what the style tells of the label.
        elsewhere: the same at other sites.
    """
    rows: list[tuple[str, Told, int | None]] = []
    if told is not None:
        rows += [(images.names["label"][label], told, label) for label in told.labels.unique().tolist()]
    rows += [(images.names["site"][site], found, None) for site, found in elsewhere.items()]
    rows = rows[:MAX_END_ROWS]
    second = LEFT + ENDS * 1.1 * SIZE + 0.3
    canvas = Canvas(second + ENDS * 1.1 * SIZE + 0.1, TOP + len(rows) * PITCH + 0.3)
    canvas.text(LEFT, 0.25, "right, and surest", 10, ha="left", color=RIGHT, weight="bold")
    canvas.text(second, 0.25, "wrong, and surest: taken for", 10, ha="left", color=WRONG, weight="bold")
    for place, (title, found, label) in enumerate(rows):
        top = TOP + place * PITCH
        among = torch.ones_like(found.labels, dtype=torch.bool) if label is None else found.labels == label
        hits = int((found.answers == found.labels)[among].sum())
        canvas.text(LEFT - 0.15, top + 0.26, shorten(printable(title), 20), 11, ha="right", weight="bold")
        note = f"{hits:,} of {int(among.sum()):,} right"
        canvas.text(LEFT - 0.15, top + 0.48, note, 8.5, ha="right", color=MUTED)
        _draw_row(canvas, images, found, found.surest(True, ENDS, label), LEFT, top)
        _draw_row(canvas, images, found, found.surest(False, ENDS, label), second, top)
    footer = "told by mean colour and contrast alone, by a rule that has not seen the image; below each, its answer"
    canvas.text(LEFT, TOP + len(rows) * PITCH + 0.1, footer, 8.5, ha="left", color=MUTED)
    return canvas.figure


def _draw_row(canvas: Canvas, images: ShortcutImages, found: Told, chosen: Tensor, left: float, top: float) -> None:
    """Some of the images side by side, with the answer below each."""
    for place, one in enumerate(chosen.tolist()):
        x = left + place * 1.1 * SIZE
        image = to_float(images.images.pixels[found.rows[one]][None])[0].expand(3, -1, -1)
        canvas.image(image, x, top, SIZE, SIZE)
        name = shorten(printable(images.names["label"][found.answers[one]]), 13)
        canvas.text(x + SIZE / 2, top + SIZE + 0.09, name, 6.5, color=MUTED)
