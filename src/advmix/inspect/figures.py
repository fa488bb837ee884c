"""What `advmix inspect` says: its table, its proposal, how sure it is, and what it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.table import Table
from torch import Tensor

from advmix.report.drawing import INK, MUTED, TRACK, WRONG, Canvas, frame

Entry = Mapping[str, Any]

HEADS = (
    "image\nchange",
    "label\nchanges",
    "takes\ndonor's",
    "and all\nfiner",
    "and all\ncoarser",
    "added\nto z⊥",
    "chosen",
)

"""What a layer's swap changes alone, with others, beside the proposal; and how many resamples choose it."""

LITTLE = 0.25

"""A split that makes less than this share of the change of swapping everything leaves little to mix."""


def layer_table(rows: Sequence[Entry], added: Mapping[str, Entry]) -> Table:
    """A row per layer, shares in percent; `added` are the swaps of the proposal with one more layer."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("layer")
    for head in HEADS:
        view.add_column(head, justify="right")
    view.add_column("verdict")
    for row in rows:
        alone, finer, coarser = row["alone"], row["with_finer"], row["with_coarser"]
        shares = [alone["image_share"], alone["label_changes"], alone["takes_donor"]]
        shares += [finer["label_changes"], coarser["label_changes"]]
        shares += [added[row["name"]]["label_changes"] if row["name"] in added else None, row["support"]]
        cells = ["–" if share is None else f"{100 * share:.1f}" for share in shares]
        view.add_row(f"{row['name']} {row['resolution']}x{row['resolution']}", *cells, row["verdict"])
    return view


def headline(results: Entry) -> str:
    """The proposal in one line."""
    proposal, bias = results["proposal"], results["reference"]["bias"]
    if proposal["split"] is None:
        return "No split: every swap changes too many labels"
    doubt = {"no": "", "unknown": "; only if the reference is unbiased", "yes": "; but the reference reads the bias"}[
        bias
    ]
    return f"Proposal: {proposal['flags']} ({proposal['sure']}{doubt})"


def sentences(results: Entry) -> list[str]:
    """What was found, how sure it is, and the caveat, a paragraph each."""
    said = [f"[bold]{headline(results)}[/]", *_proposal(results), *_idle(results)]
    warn = "" if results["reference"]["bias"] == "no" else "[bold]Careful.[/] "
    return [*said, f"{warn}Reference: {results['reference']['caveat']}"]


def _proposal(results: Entry) -> list[str]:
    proposal, pairs = results["proposal"], results["pairs"]
    split, rest, larger = proposal["split"], proposal["rest"], proposal["next_larger"]
    if split is None:
        return [
            f"No layer, and no run of neighbouring ones, keeps {proposal['threshold']:.0%} of the labels when it is "
            f"swapped ({pairs['counted']} pairs); {proposal['agreement']:.0%} of the resamples agree."
        ]
    low, high = (1 - end for end in reversed(split["label_changes_interval"]))
    said = [
        f"Swapped together, {names(split)} keep the label in {1 - split['label_changes']:.1%} of {pairs['counted']} "
        f"pairs (95 % interval {low:.1%} to {high:.1%}) and make {split['image_share']:.0%} of the change that "
        f"swapping everything makes."
    ]
    if rest is not None:
        said[0] += f" The others together, {names(rest)}, carry the donor's label over in {rest['takes_donor']:.1%}."
    said.append(f"{proposal['agreement']:.0%} of {proposal['resamples']} resamples of the pairs propose the same.")
    if proposal["other_proposals"]:
        other = proposal["other_proposals"][0]
        said[-1] += f" The next most frequent is {other['flags'] or 'no split'} ({other['share']:.0%})."
    if larger is not None:
        said[-1] += f" Of larger swaps the best, {names(larger)}, keeps {1 - larger['label_changes']:.1%}."
    if split["image_share"] < LITTLE:
        said.append("[bold]Careful.[/] These layers change little: mixing them says little about a classifier.")
    if proposal["could_join"]:
        said.append(f"Layers that could join them one by one: {' '.join(proposal['could_join'])}.")
    return said


def names(swap: Entry) -> str:
    """`grid, layers 0 1 2`."""
    layers = swap["layers"]
    words = ["grid"] if swap["grid"] else []
    if layers:
        words.append(f"layer{'s' if len(layers) > 1 else ''} {' '.join(map(str, layers))}")
    return ", ".join(words)


def _idle(results: Entry) -> list[str]:
    idle = results["proposal"]["idle"]
    if not idle:
        return []
    return [f"Idle, hardly changing the image: {', '.join(idle)}. Whether they are z⊥ makes no difference."]


VERDICTS = {"z⊥": "#0072b2", "either": "#56b4e9", "z∥": "#4a4f57", "idle": "#b9c0ca"}

"""What a layer is found to be, and its colour."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One column of bars: key of the swap in a row, the number shown, what it is called."""

    swap: str
    number: str
    title: str
    hint: str


PANELS = (
    Panel("alone", "image_share", "Image change", "layer alone, share of swapping all"),
    Panel("alone", "label_changes", "Label changes", "layer alone"),
    Panel("with_finer", "label_changes", "Label changes", "with all finer layers"),
    Panel("with_coarser", "label_changes", "Label changes", "with all coarser layers"),
)


def layer_bars(rows: Sequence[Row], headline: str, threshold: float) -> Figure:
    """A row per layer, coarse to fine: how much its swap changes the image, and how often the label.

    Args:
        rows: `layers` of the command's `results.json`.
        headline: the proposal, above the bars.
        threshold: share of labels that a swap must keep, drawn as a line.
    """
    left, width, pitch, head, line = 1.45, 1.75, 2.42, 1.08, 0.32
    canvas = Canvas(left + len(PANELS) * pitch - 0.12, head + line * len(rows) + 0.42)
    canvas.text(0.15, 0.24, headline, 11.5, ha="left", weight="bold")
    for index, row in enumerate(rows):
        y = head + (index + 0.5) * line
        canvas.text(left - 0.75, y, row_name(row["name"]), 10, ha="right")
        canvas.text(left - 0.14, y, f"{row['resolution']}×{row['resolution']}", 8.5, ha="right", color=MUTED)
    for place, panel in enumerate(PANELS):
        x = left + place * pitch
        canvas.text(x, head - 0.42, panel.title, 10.5, ha="left", weight="bold")
        canvas.text(x, head - 0.2, panel.hint, 8.5, ha="left", color=MUTED)
        _bars(canvas.axes(x, head, width, line * len(rows)), rows, panel, threshold)
    _legend(canvas, left, canvas.height - 0.2, threshold)
    return canvas.figure


def row_name(name: str) -> str:
    """`layer 4`, `grid`."""
    return name if name == "grid" else f"layer {name}"


def _bars(axes: Axes, rows: Sequence[Row], panel: Panel, threshold: float) -> None:
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    for index, row in enumerate(rows):
        swap = row[panel.swap]
        value, color = swap[panel.number], VERDICTS[swap["verdict"]]
        axes.barh(index, 1, height=0.6, color=TRACK)
        axes.barh(index, value, height=0.6, color=color)
        axes.text(1.06, index, f"{100 * value:.1f}", fontsize=9, va="center", color=INK)
        if panel.number == "label_changes":
            for edge, width in (("white", 2.8), (INK, 1.2)):
                axes.plot(swap["label_changes_interval"], (index, index), color=edge, linewidth=width, clip_on=False)
            diamond: dict[str, Any] = {"marker": "D", "markersize": 4.5, "color": "white", "markeredgecolor": INK}
            axes.plot(swap["takes_donor"], index, clip_on=False, **diamond)
    if panel.number == "label_changes":
        axes.axvline(1 - threshold, color=WRONG, linewidth=1, linestyle=(0, (3, 2)))


def _legend(canvas: Canvas, left: float, top: float, threshold: float) -> None:
    x = left
    for name, width in (("z⊥", 0.55), ("either", 0.75), ("z∥", 0.55), ("idle", 0.75)):
        canvas.text(x, top, "■", 11, ha="left", color=VERDICTS[name])
        canvas.text(x + 0.17, top, name, 9, ha="left")
        x += width
    canvas.text(x, top, "◇ takes the donor's label", 9, ha="left")
    canvas.text(x + 1.8, top, "━ 95 % interval", 9, ha="left")
    canvas.text(x + 3.0, top, f"┆ {100 * (1 - threshold):g} % of labels, the limit of z⊥", 9, ha="left", color=WRONG)


@dataclass(frozen=True, eq=False)
class GridRow:
    """One row of the mixing grid.

    Args:
        name: what is swapped.
        images: `(C, 3, H, W)` in [0, 1], the first image with these layers of each donor.
        changed: `(C,)`, whether the reference no longer gives the first image's label.
        verdict: of what is swapped, the colour of its name.
    """

    name: str
    images: Tensor
    changed: Tensor
    verdict: str


def mixing_by_layer(first: Tensor, donors: Tensor, singles: Sequence[GridRow], groups: Sequence[GridRow]) -> Figure:
    """One image `(3, H, W)` with layers of others `(C, 3, H, W)`: a column per donor, a row per swap, groups of layers
    below single ones; a frame where the label changed.
    """
    size, pitch, left, top, gap = 0.66, 0.76, 1.55, 1.35, 0.16
    rows = [*singles, *groups]
    canvas = Canvas(left + pitch * len(donors) + 0.05, top + pitch * len(rows) + gap + 0.35)
    canvas.image(first, left - 0.2 - size, 0.45, size, size)
    canvas.text(left - 0.2 - size / 2, 0.24, "first image", 9)
    canvas.text(left + pitch * len(donors) / 2, 0.24, "donors: the first images with another label", 9)
    for column, donor in enumerate(donors):
        canvas.image(donor, left + column * pitch, 0.45, size, size)
    for index, row in enumerate(rows):
        y = top + index * pitch + (gap if index >= len(singles) else 0)
        canvas.text(left - 0.2, y + size / 2, row.name, 10, ha="right", color=VERDICTS[row.verdict], weight="bold")
        for column, image in enumerate(row.images):
            axes = canvas.image(image, left + column * pitch, y, size, size)
            if bool(row.changed[column]):
                frame(axes, WRONG)
    hint = "Each row takes only the named layers from the donor. Red frame: the reference's label is lost."
    canvas.text(0.15, canvas.height - 0.16, hint, 8.5, ha="left", color=MUTED)
    return canvas.figure


def dimension_maps(change: Tensor, probability_change: Tensor) -> Figure:
    """Two heat maps `(L, D)`: image change (pixels in [0, 1]) and change of the label's probability when one latent
    number is swapped.
    """
    layers, depth = change.shape
    left, width, height, pitch = 0.75, 7.2, max(0.16 * layers, 0.9), max(0.16 * layers, 0.9) + 0.85
    canvas = Canvas(left + width + 0.95, 2 * pitch + 0.1)
    maps = (
        ("Image change when one number is swapped (mean absolute, pixels in [0, 1])", change),
        ("Change of the label's probability (mean absolute)", probability_change),
    )
    for index, (title, values) in enumerate(maps):
        y = 0.38 + index * pitch
        canvas.text(left, y - 0.16, title, 10, ha="left", weight="bold")
        axes = canvas.axes(left, y, width, height)
        scale = Normalize(0, max(float(values.max()), 1e-6))
        image = axes.imshow(values.numpy(), aspect="auto", cmap="cividis", norm=scale, interpolation="nearest")
        axes.set_yticks(range(layers), [str(layer) for layer in range(layers)], fontsize=8, color=INK)
        axes.set_xticks(range(0, depth, 8), [str(number) for number in range(0, depth, 8)], fontsize=8, color=INK)
        axes.set_ylabel("layer", fontsize=9, color=INK)
        bar = canvas.axes(left + width + 0.12, y, 0.14, height)
        canvas.figure.colorbar(image, cax=bar, ticks=MaxNLocator(3)).outline.set_visible(False)
        bar.tick_params(labelsize=8, colors=INK)
    canvas.text(left + width / 2, canvas.height - 0.14, "latent number", 9)
    return canvas.figure
