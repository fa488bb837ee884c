"""Why an audit has no verdict on a classifier: what it found would be said of something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from advmix.report.tables import columns_of
from advmix.utils.errors import printable

Entry = Mapping[str, Any]

TOO_BLURRED = 0.05

"""A worst case is no headline where reconstructions cost more accuracy than this."""

ONE_ANSWER, TOO_OFTEN = 0.98, 0.1

"""A classifier that gives one answer to this share of all images, and to so many more than have that label, does not
look at them."""

REMEDY = (
    "Train the generator longer (--fit-steps), on more images, or with fit --features and --perceptual-weight; "
    "advmix doctor says more."
)

READY_MADE = (
    "Use --generator statistics, which loses nothing, or fit a generator to these images (--generator fit); advmix "
    "doctor says more."
)

KEEP_SIZE = "Leave out --no-residual: it is the size that is lost, and mixes then keep that of the image."


@dataclass(frozen=True)
class NoVerdict:
    """Why there is no verdict: in half a line, and in full with a remedy."""

    reason: str
    words: str


def why_no_verdict(entry: Entry, results: Entry) -> NoVerdict | None:
    """What stands in the way of a verdict on a classifier; None where nothing does."""
    return _one_answer(entry) or _blurred(entry, results)


def _one_answer(entry: Entry) -> NoVerdict | None:
    everything, *parts = entry["parts"]
    common = entry.get("commonest")
    if common is None:  # an audit that was finished before this was counted
        return None
    labels = sum(part["images"] for part in parts if part["kind"] == "class" and part["name"] == common["class"])
    labelled = labels / everything["images"]
    if common["share"] < ONE_ANSWER or common["share"] - labelled < TOO_OFTEN:
        return None
    return NoVerdict(
        f"it answers “{common['class']}” whatever it is shown",
        f"No headline: it answers “{common['class']}” to {common['share']:.1%} of the images as they are, and "
        f"{labelled:.1%} have that label. That is not a classifier at work: its images may have come in another size, "
        "value range or normalisation than in its training (--input-size, --mean, --std), or it runs without its "
        "weights (--weights).",
    )


def _blurred(entry: Entry, results: Entry) -> NoVerdict | None:
    """Where mixes keep an image's details they keep its size too, and reconstructions are held against the same images
    at the generator's size: what is lost by the size alone is no error of the encoder's. Where mixes are no more than
    the generator draws, the worst case loses the size as well, and reconstructions are held against the images.
    """
    everything, residual = entry["parts"][0], results["residual"]
    if "accuracy_reconstruction" not in everything:
        return None
    drawn, small, native = (
        everything[key]["value"] for key in ("accuracy_reconstruction", "accuracy_small", "accuracy_clean")
    )
    clean = small if residual else native
    if clean - drawn <= TOO_BLURRED:
        return None
    size = (
        " at the generator's size" if residual and everything["accuracy_small"] != everything["accuracy_clean"] else ""
    )
    by_size = not residual and small - drawn <= TOO_BLURRED
    return NoVerdict(
        "the generator draws too little of these images",
        f"No headline: {drawn:.1%} right on reconstructions and {clean:.1%} on the images{size}. The generator draws "
        f"too little of what the classifier looks at, so a worst case would blame the classifier for it. "
        f"{KEEP_SIZE if by_size else READY_MADE if _ready_made(results) else REMEDY}",
    )


def _ready_made(results: Entry) -> bool:
    return results.get("generator", {}).get("ready_made") is not None


TELLING_RATE = 0.05

"""Where fewer right answers flip, the headline does not say by what."""

FEW = 20

"""A part with fewer images is not called the worst one while there is one with more."""

COLOR, BROAD = 0.75, 0.5

"""Shares of a swap's squared change. One colour map of the image explains half of the change to an unrelated image,
what is taken away of the old one: a change of colour must be well above that.
"""


def percent(value: float, digits: int = 0) -> str:
    """`0.314` to `31 %`."""
    return f"{100 * value:.{digits}f} %"


def interval(share: Entry, digits: int = 0) -> str:
    """`28 to 34 %`."""
    return f"{100 * share['low']:.{digits}f} to {100 * share['high']:.{digits}f} %"


def flip_rate(entry: Entry) -> float:
    """The share of right answers that the search flips."""
    check = entry["label_check"]
    return float(check["flipped"] / check["right"]) if check["right"] else 0.0


def caveats(entry: Entry) -> list[str]:
    """What a reader of the worst case must know of the search: where it had no gradient, where there was no answer."""
    said, images = [], f"of the {entry['parts'][0]['images']:,} images"
    if not entry["differentiable"]:
        said.append(f"{entry['name']} gives no gradients: the search is a random one.")
    elif entry["vanished"]:
        said.append(
            f"The gradients of {entry['name']} are zero on {entry['vanished']:,} {images}: there the search is a "
            "random one, and finds less than one that climbs."
        )
    if entry["unanswered"]:
        said.append(
            f"{entry['name']} answers {entry['unanswered']:,} {images}, or what was made of them, with what is no "
            "number (NaN or infinite): there it is not right, and this counts as no flip."
        )
    return said


def headline(entry: Entry, results: Entry) -> str:
    """The answer, in one line: from the share of right answers that flip while a trusted reference still sees the
    label, to the share that flip at all.
    """
    doubted = why_no_verdict(entry, results)
    if doubted is not None:
        return f"No verdict: {doubted.reason}"
    if not entry["parts"][0]["accuracy_clean"]["value"]:
        return "No right answer to flip"
    rate = flip_rate(entry)
    strongest = first_layers(entry)
    what = f", {what_changed(strongest)} most of all" if strongest is not None and rate >= TELLING_RATE else ""
    least = entry["label_check"]["flipped_label_kept"] / entry["label_check"]["right"]
    low, high = f"{100 * least:.0f}", f"{100 * rate:.0f}"
    shown = f"{low} to {high} %" if results["reference"]["trusted"] and low != high else f"{high} %"
    return f"{shown} of the right answers flip{what}"


def first_layers(entry: Entry) -> Entry | None:
    """Of the layers of z⊥, the resolution that flips most by itself; None where none flips any."""
    rows = [row for row in entry["swaps"] if row["perp"] and row["kind"] != "all" and row["flips"] is not None]
    levels = [row for row in rows if row["kind"] == "resolution"] or rows
    best = max(levels, key=lambda row: float(row["flips"]["value"]), default=None)
    return best if best is not None and best["flips"]["value"] > 0 else None


def changes(swap: Entry) -> str:
    """What a swap changes, as measured: nothing is known of it but its pictures."""
    if swap["color"] >= COLOR:
        return "colour and light"
    return "large areas" if swap["broad"] >= BROAD else "shape and detail"


def what_changed(swap: Entry) -> str:
    """What a swap changes: what its layer holds, where that has a name; else what was measured."""
    named = swap["kind"] != "all" and swap["resolution"] is None
    return str(swap["name"]) if named else changes(swap)


def style_words(changed: Sequence[Mapping[str, Any]]) -> str:
    """`exposure -0.18, contrast (red - blue) +0.70 stops`: the names of style numbers, and how far they moved."""
    said = []
    for part in changed:
        name, _, unit = str(part["name"]).rpartition(" (")
        what, _, of = name.partition(": ")
        shown = f"{what} ({of})" if of and what not in BY_NAME else what
        said.append(f"{shown} {part['by']:+.2f}{' stops' if unit.startswith('stops') else ''}")
    return ", ".join(said)


BY_NAME = ("warmth", "tint")
"""Differences of channels that have a name of their own."""


def swap_title(swap: Entry) -> str:
    """`16×16, layers 2 and 3`; what a layer holds, where it has a name."""
    layers = " and ".join(map(str, swap["layers"]))
    if swap["kind"] == "all":
        return "All of z⊥ together"
    if swap["resolution"] is None:
        return str(swap["name"]).capitalize()
    side = f"{swap['resolution']}×{swap['resolution']}"
    if swap["grid"]:
        return f"{side}, the spatial grid"
    return f"{side}, layer{'s' if len(swap['layers']) > 1 else ''} {layers}"


def worst_part(entry: Entry, kind: str) -> Entry | None:
    """The part of a kind that is right least often in the worst case; None where there is only one."""
    rows = [part for part in entry["parts"] if part["kind"] == kind]
    rows = [part for part in rows if part["images"] >= FEW] or rows
    return min(rows, key=lambda part: float(part["accuracy_worst_case"]["value"])) if len(rows) > 1 else None


def verdict_words(entry: Entry) -> str:
    """The headline's numbers, in one sentence."""
    everything = entry["parts"][0]
    clean, mixed, worst = (
        everything[key]["value"] for key in ("accuracy_clean", "accuracy_random_mix", "accuracy_worst_case")
    )
    return f"{clean:.1%} right as they are; {mixed:.1%} after a random change; {worst:.1%} whatever the search tried."


def check_words(entry: Entry, reference: Entry) -> str:
    """What the label check found."""
    check = entry["label_check"]
    if not check["flipped"]:
        return "No right answer was flipped."
    if reference["accuracy_train"] is None:
        return "Not asked: no reference votes (--reference none). Look at the pictures."
    if not reference["trusted"]:
        return (
            f"Not known: the reference is right on {reference['accuracy_train']:.1%} of the training images and on "
            f"{reference['accuracy']:.1%} of these. It reads a bias of the training images, or knows them by heart, "
            "and its votes say nothing. Look at the pictures, or name a --reference that is right here."
        )
    checked = entry["parts"][0]["accuracy_checked"]
    words = (
        f"Of {check['flipped']:,} flipped answers, the reference still sees the label in "
        f"{check['flipped_label_kept']:,}, "
        f"another one in {check['flipped_label_lost']:,}, and cannot vote on {check['flipped_no_vote']:,}, being wrong "
        f"on the image itself (it is right on {reference['accuracy']:.1%})."
    )
    if check["flipped_unseen"]:
        words = (
            f"{words} {check['flipped_unseen']:,} were flipped by another picture than the one of the largest loss, "
            "which alone it was shown."
        )
    return words if checked is None else f"{words} Worst case among images that it vouches for: {checked['value']:.1%}."


def comparison_words(results: Entry) -> list[str]:
    """One sentence for every classifier that is held against the first; none where either has no verdict."""
    said = []
    first, *others = results["classifiers"]
    for entry, row in zip(others, results["comparison"], strict=True):
        if why_no_verdict(first, results) or why_no_verdict(entry, results):
            continue
        share = row["accuracy_worst_case"]
        word = "more" if share["value"] > 0 else "less"
        points = f"{abs(100 * share['value']):.1f} points {word}"
        ends = f"95 % interval of the difference {100 * share['low']:+.1f} to {100 * share['high']:+.1f}"
        unsure = "" if _is_sure(share) else "; no difference to be sure of"
        said.append(f"{row['classifier']}: in the worst case right on {points} than {row['less']} ({ends}{unsure}).")
    return said


def comparison_headline(results: Entry) -> str:
    """Who withstands more, where that is sure."""
    entries = results["classifiers"]
    for entry in entries:
        doubted = why_no_verdict(entry, results)
        if doubted is not None:
            return f"No verdict on {entry['name']}: {doubted.reason}"
    worst = [entry["parts"][0]["accuracy_worst_case"]["value"] for entry in entries]
    best = max(range(len(entries)), key=lambda place: worst[place])
    if len(entries) == 2 and _is_sure(results["comparison"][0]["accuracy_worst_case"]):
        return f"{entries[best]['name']} withstands {100 * abs(worst[1] - worst[0]):.0f} points more"
    if len(entries) == 2:
        return "No difference in the worst case to be sure of"
    return f"{entries[best]['name']} withstands most"


def _is_sure(share: Entry) -> bool:
    """Whether the interval of a difference leaves zero out."""
    return bool(share["low"] > 0 or share["high"] < 0)


Part = Mapping[str, Any]


def audit_table(parts: Sequence[Part], place: str = "terminal") -> Table:
    """Accuracies in percent with their 95 % intervals: all, each site, class and group; or, for the place
    `probabilities`, how far these can be believed.
    """
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("accuracy, %" if place == "terminal" else place)
    view.add_column("images", justify="right")
    columns = [column for column in columns_of(place) if column.key in parts[0]]
    parts = [part for part in parts if columns[0].key in part]
    for column in columns:
        view.add_column(column.short, justify="right")
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None and before["kind"] != part["kind"]:
            view.add_section()
        cells = [_dim(cell(part[column.key], column.unit)) for column in columns]
        view.add_row(escape(part["name"]), f"{part['images']:,}", *cells)
    return view


def audit_tables(results: Mapping[str, Any]) -> Iterator[Any]:
    """What rich prints for each classifier: its name, its accuracies, its probabilities, what its swaps flip."""
    for entry in results["classifiers"]:
        yield Text(f"\n{printable(entry['name'])}", style="bold")
        yield audit_table(entry["parts"])
        yield audit_table(entry["parts"], "probabilities")
        yield swap_table(entry["swaps"])


def swap_table(swaps: Sequence[Part]) -> Table:
    """How many right answers each resolution's swap flips, in percent."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    for head in ("borrowed alone", "part of", "changes"):
        view.add_column(head)
    view.add_column("flips, %", justify="right")
    for swap in swaps:
        if swap["kind"] != "layer" or swap["grid"]:
            view.add_row(swap_title(swap), "z⊥" if swap["perp"] else "z∥", changes(swap), _dim(cell(swap["flips"])))
    return view


def _dim(text: str) -> str:
    return text.replace("(", "[dim](").replace(")", ")[/]")


def cell(share: Mapping[str, float] | None, unit: str = "%") -> str:
    """`31.4 (28–34)`, a share in percent with its interval, or `0.314 (0.28–0.34)`, a number; a dash where nothing was
    counted.
    """
    if share is None:
        return "–"
    if unit != "%":
        return f"{share['value']:.3f} ({share['low']:.2f}–{share['high']:.2f})"
    return f"{100 * share['value']:.1f} ({100 * share['low']:.0f}–{100 * share['high']:.0f})"


def audit_sentences(results: Mapping[str, Any]) -> Iterator[str]:
    """The headline of each classifier, or why there is none; what flips it, where it is worst, what the check says."""
    several = len(results["classifiers"]) > 1
    for entry in results["classifiers"]:
        for sentence in _sentences(entry, results):
            yield f"{entry['name']}: {sentence}" if several else sentence
    yield from comparison_words(results)


def _sentences(entry: Part, results: Part) -> Iterator[str]:
    yield from caveats(entry)
    doubted = why_no_verdict(entry, results)
    if doubted is not None:
        yield doubted.words
        return
    yield verdict_words(entry)
    strongest = first_layers(entry)
    if strongest is not None:
        flips = percent(strongest["flips"]["value"])
        title = swap_title(strongest)
        words = title if strongest["resolution"] is None else f"{title} ({changes(strongest)})"
        yield f"Flips most by itself: {words}, {flips} of the right answers."
    for kind in ("site", "class", "group", "class in group"):
        worst = worst_part(entry, kind)
        if worst is not None:
            right, share = worst["accuracy_clean"]["value"], worst["accuracy_worst_case"]["value"]
            yield f"Worst {kind}: {worst['name']}, {right:.1%} as they are, {share:.1%} in the worst case."
    yield check_words(entry, results["reference"])
