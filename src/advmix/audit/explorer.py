"""The page to explore: every audited image, step by step towards what flips it, from disk and without a server."""

from __future__ import annotations

import base64
import io
import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from advmix.audit.figures import Pictures
from advmix.audit.statistics import STRENGTHS, LabelCheck, is_trusted
from advmix.data.datasets import names_of
from advmix.data.images import slices, to_bytes
from advmix.report.page import environment, resource
from advmix.utils.files import atomic_write, make_folder
from advmix.utils.torch_tools import eval_mode

EXPLORER, STRIPS = "explore.html", "explore"
"""The page, and the folder beside it with a strip of steps for each image."""

STRIP_SIDE, THUMB_SIDES, SMALLEST_SIDE = 128, (96, 64, 48, 32), 48
"""Pixels to a side of a step and of a thumbnail, the largest that fit; smaller images are enlarged pixel by pixel."""

THUMB_BYTES = 8_000_000
"""Of all thumbnails, before they are inlined, which makes them a third larger."""

SHEET_ROWS = 50
"""Images whose thumbnails are in one sheet."""

BATCH = 8
"""Images that are drawn at once."""

Entry = Mapping[str, Any]
Tiles = Sequence[np.ndarray[Any, np.dtype[np.uint8]]]
"""Square pictures `(S, S, 3)`, one beside the other."""


@dataclass(frozen=True)
class ExploredAnswer:
    """What becomes of one classifier's answer to one image. Classes are counted from 0, probabilities are in [0, 1].

    Attributes:
        state: `flips`, `withstands`, or `wrong` as it is.
        before: class that is answered, and its probability.
        after: likewise, on the smallest change that flips; on the worst that was found where nothing flips.
        strength: of the smallest change that flips, in (0, 1]; None where nothing does.
        change: its root mean square pixel change.
        natural: share of pairs of images that are more alike than the image and that change.
        extreme: whether it is.
        kind: in words, what changed; empty where nothing flips.
        check: what the reference or a person says of the label: `kept`, `lost`, `no vote`, or nothing.
        donor: whose style the search started from.
        curve: probability of the true class at each of `STRENGTHS`.
        answers: class that is answered there.
    """

    state: str
    before: tuple[int, float]
    after: tuple[int, float]
    strength: float | None
    change: float
    natural: float | None
    extreme: bool
    kind: str
    check: str
    donor: str
    curve: list[float] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Steps:
    """Some images on their way towards what flips a classifier.

    Attributes:
        frames: `(B, S, H, W, 3)`, bytes, at S strengths.
        after: `(B, H, W, 3)`, the smallest change that flips, or the worst found.
        curve: `(B, S)`, probability of the true class.
        answers: `(B, S)`.
    """

    frames: np.ndarray[Any, np.dtype[np.uint8]]
    after: np.ndarray[Any, np.dtype[np.uint8]]
    curve: Tensor
    answers: Tensor


def write_explorer(out: Path, pictures: Pictures, results: Entry) -> None:
    """Write the page and its strips.

    Args:
        out: folder of the audit.
        pictures: draws the images.
        results: of the audit.
    """
    folder, several = make_folder(out / STRIPS), len(pictures.classifiers)
    answers = [_explored_answers(pictures, results, number) for number in range(several)]
    sheets = thumb_sheets(_write_strips(folder, pictures, answers))
    atomic_write(out / EXPLORER, render_explorer(pictures, results, answers, sheets).encode())


def _write_strips(folder: Path, pictures: Pictures, answers: Sequence[Sequence[ExploredAnswer]]) -> Iterator[Tiles]:
    """Write each image's strip, put its steps into the answers, and give its thumbnails."""
    count = len(pictures.found)
    for part in slices(count, BATCH):
        places = torch.arange(count)[part]
        drawn = [draw_steps(pictures, number, places) for number in range(len(answers))]
        for row, place in enumerate(places.tolist()):
            strip = [[_tile(frame, STRIP_SIDE) for frame in steps.frames[row]] for steps in drawn]
            (folder / f"{place:04d}.jpg").write_bytes(_jpeg(_grid(strip)))
            for number, steps in enumerate(drawn):
                one = answers[number][place]
                one.curve.extend(round(value, 4) for value in steps.curve[row].tolist())
                one.answers.extend(steps.answers[row].tolist())
            shown = [drawn[0].frames[row, 0], *(steps.after[row] for steps in drawn)]
            yield [_tile(frame, THUMB_SIDES[0]) for frame in shown]


@torch.no_grad()
def draw_steps(pictures: Pictures, number: int, places: Tensor) -> Steps:
    """Images at each of `STRENGTHS` of the way to the z⊥ that flips classifier `number` soonest, or to the worst found
    where none does.

    Args:
        pictures: draws them.
        number: of the classifier.
        places: `(B,)`, among the audited images.
    """
    setup, found, classifier = pictures.setup, pictures.found, pictures.classifiers[number]
    split, device, records = found.split, setup.pool.styles.device, found.classifiers[number]
    shown = pictures.images.pixels(found.images.rows[places], classifier.side).to(device)
    start = setup.start_latents(shown, found.images.latents[places].to(device))
    own = split.perp_of(start)
    share = records.flip_strength[places].to(own)[:, None]
    flips = (share > 0) & share.isfinite()
    least, worst = (perp[places].to(own) for perp in (records.flip_perp, records.perp))
    end = torch.where(flips, own + (least - own) / share.where(flips, torch.ones_like(share)), worst)
    labels = found.images.labels[places]
    dec = setup.generator
    with eval_mode(classifier.network, dec) as (model, _):
        state = dec.prefix(start, split)
        frames, asked = [], []
        for strength in STRENGTHS:
            images = dec.render(state, torch.lerp(own, end, strength))
            frames.append(_pixels(images))
            asked.append(model(images).double().softmax(dim=1).cpu())
        after = _pixels(dec.render(state, torch.where(flips, least, worst)))
    probabilities = torch.stack(asked, dim=1)
    true = probabilities.gather(2, labels[:, None, None].expand(-1, len(STRENGTHS), 1))[:, :, 0]
    return Steps(np.stack(frames, axis=1), after, true.nan_to_num(0), probabilities.argmax(dim=2))


def _explored_answers(pictures: Pictures, results: Entry, number: int) -> list[ExploredAnswer]:
    found = pictures.found
    images, records = found.images, found.classifiers[number]
    check, kinds = LabelCheck(images, records), _kind_names(results["classifiers"][number])
    trusted, donors = is_trusted(found), pictures.donor_names(records.donors)
    votes = [("kept", check.kept), ("lost", check.lost), ("no vote", check.no_vote)]

    def checked(place: int) -> str:
        told = trusted or bool(check.asked[place])
        return next((name for name, mask in votes if told and mask[place]), "")

    rows = []
    for place in range(len(found)):
        flips = bool(check.changed[place])
        after = records.flip_answers[place] if flips else records.after[place]
        natural = records.flip_natural if flips else None
        rows.append(
            ExploredAnswer(
                state="flips" if check.flipped[place] else "withstands" if records.right_clean[place] else "wrong",
                before=_top(records.before[place]),
                after=_top(after),
                strength=round(float(records.flip_strength[place]), 4) if flips else None,
                change=round(float((records.flip_change if flips else records.change)[place]), 4),
                natural=None if natural is None else round(float(natural[place]), 4),
                extreme=flips and bool(records.extreme[place]),
                kind=kinds.get(place, ""),
                check=checked(place),
                donor=donors[place],
            )
        )
    return rows


def _kind_names(entry: Entry) -> dict[int, str]:
    """The kind of change of each flip, by its place."""
    return {place: kind["name"] for kind in entry["kinds"] for place in kind["members"]}


def _top(probabilities: Tensor) -> tuple[int, float]:
    return int(probabilities.argmax()), round(float(probabilities.max()), 4)


def render_explorer(
    pictures: Pictures,
    results: Entry,
    answers: Sequence[Sequence[ExploredAnswer]],
    sheets: Sequence[str],
) -> str:
    """The page: all images as cards that need no script, and what the script reads.

    Args:
        pictures: of the audit.
        results: of the audit.
        answers: of each classifier, to each image.
        sheets: of thumbnails: see `thumb_sheets`.
    """
    found, metadata = pictures.found, pictures.found.metadata
    images = found.images
    names = names_of(pictures.images.inputs.data, "test")
    rows = [
        {"name": names[row], "label": label, "group": group, "site": site}
        for row, label, group, site in zip(
            images.rows.tolist(), images.labels.tolist(), images.groups.tolist(), images.sites.tolist(), strict=True
        )
    ]
    data = {
        "classes": metadata["classes"],
        "groups": metadata["groups"],
        "sites": metadata["sites"],
        "classifiers": [entry["name"] for entry in results["classifiers"]],
        "images": [{**row, "answers": [asdict(one[place]) for one in answers]} for place, row in enumerate(rows)],
        "rows": SHEET_ROWS,
        "command": _command(pictures, results),
    }
    return (
        environment()
        .from_string(resource("explorer.html.j2"))
        .render(
            data=data,
            order=_first_order(answers[0]),
            results=results,
            sheets=[Markup(uri) for uri in sheets],
            sheet_rows=[part.stop - part.start for part in slices(len(found), SHEET_ROWS)],
            columns=len(answers) + 1,
            json=Markup(_script_json(data)),
            style=Markup(resource("report.css") + resource("explorer.css")),
            script=Markup(resource("explorer.js")),
        )
    )


def _first_order(answers: Sequence[ExploredAnswer]) -> list[int]:
    """Places: what the least change flips first, then what withstands, then what is wrong as it is."""
    states = ("flips", "withstands", "wrong")
    return sorted(
        range(len(answers)),
        key=lambda place: (states.index(answers[place].state), answers[place].strength or math.inf, place),
    )


def _command(pictures: Pictures, results: Entry) -> str:
    """What draws one image again, up to its name; nothing of images in memory, which cannot be read again."""
    if not pictures.found.metadata["data"]["data"]:
        return ""
    return f"advmix export --audit {shlex.quote(str(results['config']['out']))} --originals --mix smallest --only"


def _script_json(value: Any) -> str:
    """JSON that ends no script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def thumb_sheets(thumbs: Iterable[Tiles]) -> list[str]:
    """JPEG data URIs of at most `SHEET_ROWS` images each, a row for each image; smaller tiles where all would take more
    than `THUMB_BYTES`. Those of two sheets are in memory at most.

    Args:
        thumbs: of each image: as it is, and after, for each classifier.
    """
    rows, sheets = iter(thumbs), {side: list[bytes]() for side in THUMB_SIDES}
    while part := list(islice(rows, SHEET_ROWS)):
        for side, found in list(sheets.items()):
            found.append(_jpeg(_grid([[_tile(tile, side) for tile in row] for row in part])))
            if sum(map(len, found)) > THUMB_BYTES and len(sheets) > 1:
                del sheets[side]
    largest = next(iter(sheets.values()))
    return [f"data:image/jpeg;base64,{base64.b64encode(sheet).decode()}" for sheet in largest]


def _pixels(images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`(B, C, H, W)` in [0, 1] to `(B, H, W, 3)`."""
    found: np.ndarray[Any, np.dtype[np.uint8]] = (
        to_bytes(images.cpu().expand(-1, 3, -1, -1)).permute(0, 2, 3, 1).contiguous().numpy()
    )
    return found


def _tile(pixels: np.ndarray[Any, np.dtype[np.uint8]], side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A square picture in at most `side` pixels; a small one enlarged by a whole factor."""
    own = pixels.shape[0]
    if own < SMALLEST_SIDE:
        factor = math.ceil(SMALLEST_SIDE / own)
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    if own <= side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def _grid(rows: Sequence[Sequence[np.ndarray[Any, np.dtype[np.uint8]]]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Rows of square tiles, all in the size of the largest, as one picture."""
    side = max(tile.shape[0] for row in rows for tile in row)
    return np.concatenate([np.concatenate([_square(tile, side) for tile in row], axis=1) for row in rows], axis=0)


def _square(tile: np.ndarray[Any, np.dtype[np.uint8]], side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return tile if tile.shape[0] == side else np.asarray(Image.fromarray(tile).resize((side, side)))


def _jpeg(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=82, subsampling=0)
    return buffer.getvalue()
