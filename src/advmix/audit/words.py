"""Why an audit has no verdict on a classifier: what it found would be said of something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from advmix.change_kinds import MIN_FLIPS
from advmix.intervals import wilson
from advmix.report.tables import dimmed, interval_cell, parts_table, short_name
from advmix.utils.errors import printable

Entry = Mapping[str, Any]

MAX_RECONSTRUCTION_FLIPS = 0.05
"""A worst case is no headline where reconstruction alone surely flips more of the right answers: where the lower end of
the interval is above."""

MIN_IMAGES, FEW = 50, 20
"""There is no verdict from fewer images, and no part with fewer is called the worst."""

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
    return _one_answer(entry) or _too_few(entry) or _blurred(entry, results)


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
        f"No headline: it answers “{common['class']}” to {percent(common['share'], 1)} of the images as they are, and "
        f"{percent(labelled, 1)} have that label. That is not a classifier at work: its images may have come in "
        "another size, value range or normalisation than in its training (--input-size, --mean, --std), or it runs "
        "without its weights (--weights).",
    )


def _too_few(entry: Entry) -> NoVerdict | None:
    images = entry["parts"][0]["images"]
    if images >= MIN_IMAGES:
        return None
    few = "1 image is too few" if images == 1 else f"{images:,} images are too few"
    return NoVerdict(
        few,
        f"No headline: {few} for a verdict, {MIN_IMAGES} are needed (--images, --limit). The "
        "numbers and their intervals are shown.",
    )


def _blurred(entry: Entry, results: Entry) -> NoVerdict | None:
    """Whether reconstruction flips too many right answers, image by image.

    Where mixes keep an image's details they keep its size too, and reconstructions are held against the same images at
    the generator's size: what is lost by the size alone is no error of the encoder's. Where mixes are no more than the
    generator draws, the worst case loses the size as well, and reconstructions are held against the images.
    """
    gate, everything, residual = entry.get("reconstruction_flips"), entry["parts"][0], results["residual"]
    if gate is None or gate["low"] <= MAX_RECONSTRUCTION_FLIPS:
        return None
    small, native, drawn = (
        everything[key]["value"] for key in ("accuracy_small", "accuracy_clean", "accuracy_reconstruction")
    )
    size = " at the generator's size" if residual and small != native else ""
    by_size = not residual and small - drawn <= MAX_RECONSTRUCTION_FLIPS
    shown = (
        "The mixes below keep what the generator cannot draw, and begin with the image itself, but they may change "
        "more than they should. "
        if residual
        else "A worst case blames the classifier for it. "
    )
    return NoVerdict(
        "the generator draws too little of these images",
        f"No headline: reconstruction alone flips {percent(gate['value'], 1)} ({interval(gate, 1)}) of the "
        f"{gate['images']:,} right answers{size}, and at most {percent(MAX_RECONSTRUCTION_FLIPS)} may flip. The "
        f"generator draws too little of what the classifier looks at. {shown}"
        f"{KEEP_SIZE if by_size else READY_MADE if _ready_made(results) else REMEDY}",
    )


def _ready_made(results: Entry) -> bool:
    return results.get("generator", {}).get("ready_made") is not None


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


def caveats(entry: Entry) -> list[str]:
    """What a reader of the worst case must know: where the search had no gradient, where there was no answer, and
    whether the generator may be too weak.
    """
    said, images = [], f"of the {entry['parts'][0]['images']:,} images"
    if not entry["differentiable"]:
        said.append(f"{entry['name']} gives no gradients: the search is a random one.")
    elif entry["vanished"]:
        said.append(
            f"The gradients of {entry['name']} are zero on {entry['vanished']:,} {images}: there the search is a "
            "random one, and finds less than one that climbs."
        )
    gate = entry.get("reconstruction_flips")
    if gate is not None and gate["low"] <= MAX_RECONSTRUCTION_FLIPS < gate["value"]:
        said.append(
            f"Reconstruction alone flips {percent(gate['value'], 1)} ({interval(gate, 1)}) of the right answers of "
            f"{entry['name']}: the generator may draw too little."
        )
    if entry["unanswered"]:
        said.append(
            f"{entry['name']} answers {entry['unanswered']:,} {images}, or what was made of them, with what is no "
            "number (NaN or infinite): there it is not right, and this counts as no flip."
        )
    return said


def headline(entry: Entry, results: Entry) -> str:
    """The answer, in one line: as they are, after a random change, after the worst one."""
    doubted = why_no_verdict(entry, results)
    if doubted is not None:
        return f"No verdict: {doubted.reason}"
    if not entry["parts"][0]["accuracy_clean"]["value"]:
        return "No right answer to flip"
    clean, mixed, worst = _three_accuracies(entry, 0)
    return f"{clean} right as they are, {mixed} after a random change, {worst} after the worst one found"


def _three_accuracies(entry: Entry, digits: int) -> list[str]:
    """In percent; what is not all and not nothing is not rounded to it."""
    keys = ("accuracy_clean", "accuracy_random_mix", "accuracy_worst_case")
    values = [float(entry["parts"][0][key]["value"]) for key in keys]
    return [percent(value, max(digits, int(0 < value < 0.005 or 0.995 <= value < 1))) for value in values]


def first_layers(entry: Entry) -> Entry | None:
    """Of the layers of z⊥, the resolution that flips most by itself, where that is sure: it flips ten right answers at
    least, and its interval lies above the next one's.
    """
    rows = [row for row in entry["swaps"] if row["perp"] and row["kind"] != "all" and row["flips"] is not None]
    return leading([row for row in rows if row["kind"] == "resolution"] or rows, "flips", "flipped")


def leading(rows: Sequence[Entry], share: str, count: str) -> Entry | None:
    """The row with the largest share, if it counts `MIN_FLIPS` at least and its interval lies above the next one's."""
    ordered = sorted(rows, key=lambda row: -float(row[share]["value"]))
    if not ordered or ordered[0][count] < MIN_FLIPS:
        return None
    if len(ordered) > 1 and ordered[0][share]["low"] <= ordered[1][share]["high"]:
        return None
    return ordered[0]


def changes(swap: Entry) -> str:
    """What a swap changes, as measured: nothing is known of it but its pictures."""
    if swap["color"] >= COLOR:
        return "colour and light"
    return "large areas" if swap["broad"] >= BROAD else "shape and detail"


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
    """The part of a kind that is right least often in the worst case, of those with `FEW` images at least; None where
    there is only one, or where several are as bad.
    """
    rows = [part for part in entry["parts"] if part["kind"] == kind and part["images"] >= FEW]
    rows.sort(key=lambda part: float(part["accuracy_worst_case"]["value"]))
    values = [part["accuracy_worst_case"]["value"] for part in rows[:2]]
    return rows[0] if len(values) > 1 and values[0] < values[1] else None


def verdict_words(entry: Entry) -> str:
    """The headline's numbers, in one sentence."""
    clean, mixed, worst = _three_accuracies(entry, 1)
    return f"{clean} right as they are; {mixed} after a random change; {worst} after the worst that the search found."


def smallest_words(entry: Entry) -> str | None:
    """How little the flips take; None where nothing flips, or too little to say it of."""
    least = entry["smallest"]
    if least["flips"] < MIN_FLIPS:
        return None
    strength, change = least["strength"], least["change"]
    said = (
        f"Half of the {least['flips']:,} flips take {percent(strength[1])} of the way or less (quarters: "
        f"{percent(strength[0])} and {percent(strength[2])}), a change of {percent(change[1], 1)} of the pixel range"
    )
    if least["natural"] is not None:
        said = f"{said}; {percent(1 - least['natural'][1])} of the pairs of these images differ as much in style"
    if not least["extreme"]:
        return f"{said}. None is extreme."
    number, one = least["extreme"], least["extreme"] == 1
    return f"{said}. {number:,} {'is' if one else 'are'} extreme: look at {'it' if one else 'them'} before you count."


def kind_sentences(entry: Entry) -> Iterator[str]:
    """What flips it, by kind; kinds of few flips together."""
    few = sum(kind["count"] for kind in entry["kinds"] if kind["count"] < MIN_FLIPS)
    for kind in entry["kinds"]:
        if kind["count"] >= MIN_FLIPS:
            yield f"{kind['sentence']}, {interval(kind['share'])}."
    if few:
        yield f"{few:,} more flips are of kinds with fewer than {MIN_FLIPS} each."


def size_words(smallest: Entry) -> str:
    """`45 % of the way, pixels changed by 3.1 %, 80 % of pairs differ as much`: of one smallest change."""
    said = f"{percent(smallest['strength'])} of the way, pixels changed by {percent(smallest['change'], 1)}"
    if smallest["natural"] is None:
        return said
    return f"{said}, {percent(1 - smallest['natural'])} of pairs differ as much"


def unlike_words(check: Entry) -> str:
    """Two signs that a label may be lost which need no reference."""
    return (
        f"Signs that need no reference: {check['unlike']:,} of the {check['flipped']:,} smallest changes have a style "
        f"farther from the nearest one of the pool than 95 % of those are from their nearest, and {check['clipped']:,} "
        "drive more than 5 % of the pixels to black or white."
    )


def check_words(entry: Entry, reference: Entry) -> str:
    """What the label check found."""
    check = entry["label_check"]
    if not check["flipped"]:
        return "No right answer was flipped."
    if reference["accuracy_train"] is None:
        return f"{_asked_words(check)}Not checked: no reference votes (--reference none). Look at the pictures."
    if not reference["trusted"]:
        known, here = percent(reference["accuracy_train"], 1), percent(reference["accuracy"], 1)
        return (
            f"{_asked_words(check)}Not known: the reference is right on {known} of the training images and on {here} "
            "of these. It knows too little, or reads a bias of the training images, and its votes are not shown. "
            "Answer for yourself on the page, or name a --reference that is right here."
        )
    checked = entry["parts"][0]["accuracy_checked"]
    words = (
        f"{_asked_words(check)}Of {check['flipped']:,} flipped answers, the reference still sees the label in "
        f"{check['flipped_label_kept']:,}, "
        f"another one in {check['flipped_label_lost']:,}, and cannot vote on {check['flipped_no_vote']:,}, being wrong "
        f"on the image itself (it is right on {percent(reference['accuracy'], 1)})."
    )
    return (
        words
        if checked is None
        else f"{words} Worst case among images that it vouches for: {percent(checked['value'], 1)}."
    )


def _asked_words(check: Entry) -> str:
    """What a person says of the labels; nothing where nobody was asked."""
    if not check["asked"]:
        return ""
    kept = wilson(check["asked_label_kept"], check["asked"]).to_dict()
    return (
        f"A person was asked about {check['asked']:,} of the {check['flipped']:,} flips: the label is kept in "
        f"{check['asked_label_kept']:,}, {percent(kept['value'])} ({interval(kept)}). "
    )


def comparison_words(results: Entry) -> list[str]:
    """One sentence for every two classifiers whose worst cases surely differ; none where either has no verdict."""
    doubted = {entry["name"] for entry in results["classifiers"] if why_no_verdict(entry, results)}
    said = []
    for row in results["comparison"]:
        share = row["accuracy_worst_case"]
        if not _is_sure(share) or doubted & {row["classifier"], row["less"]}:
            continue
        word = "more" if share["value"] > 0 else "less"
        points = f"{abs(100 * share['value']):.1f} points {word}"
        ends = f"95 % interval of the difference {100 * share['low']:+.1f} to {100 * share['high']:+.1f}"
        said.append(f"{row['classifier']}: in the worst case right on {points} than {row['less']} ({ends}).")
    return said


def comparison_headline(results: Entry) -> str:
    """Who withstands more, where that is sure."""
    entries = results["classifiers"]
    for entry in entries:
        doubted = why_no_verdict(entry, results)
        if doubted is not None:
            return f"No verdict on {short_name(entry['name'])}: {doubted.reason}"
    for best in entries:
        leads = [_lead(best["name"], row) for row in results["comparison"] if best["name"] in _pair(row)]
        if leads and min(leads) > 0:
            points = f" {100 * _difference(results['comparison'][0]):.0f} points more"
            return f"{short_name(best['name'])} withstands{points if len(entries) == 2 else ' most'}"
    return "No difference in the worst case to be sure of"


def _pair(row: Entry) -> tuple[str, str]:
    return row["classifier"], row["less"]


def _difference(row: Entry) -> float:
    return abs(float(row["accuracy_worst_case"]["value"]))


def _lead(name: str, row: Entry) -> float:
    """The least that a classifier is ahead of another one by, at the near end of the interval of their difference."""
    share = row["accuracy_worst_case"]
    return float(share["low"] if row["classifier"] == name else -share["high"])


def _is_sure(share: Entry) -> bool:
    """Whether the interval of a difference leaves zero out."""
    return bool(share["low"] > 0 or share["high"] < 0)


Part = Mapping[str, Any]


def audit_tables(results: Mapping[str, Any]) -> Iterator[Any]:
    """What rich prints for each classifier: its name, its accuracies, its probabilities, what its swaps flip."""
    for entry in results["classifiers"]:
        yield Text(f"\n{printable(entry['name'])}", style="bold")
        yield parts_table(entry["parts"])
        yield parts_table(entry["parts"], "probabilities")
        yield swap_table(entry["swaps"])


def swap_table(swaps: Sequence[Part]) -> Table:
    """How many right answers each resolution's swap flips, in percent."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    for head in ("borrowed alone", "part of", "changes"):
        view.add_column(head)
    view.add_column("flips, %", justify="right")
    for swap in swaps:
        if swap["kind"] != "layer" or swap["grid"]:
            view.add_row(
                swap_title(swap), "z⊥" if swap["perp"] else "z∥", changes(swap), dimmed(interval_cell(swap["flips"]))
            )
    return view


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
    yield from kind_sentences(entry)
    strongest = first_layers(entry)
    if strongest is not None:
        flips = percent(strongest["flips"]["value"])
        title = swap_title(strongest)
        words = title if strongest["resolution"] is None else f"{title} ({changes(strongest)})"
        yield f"Flips most by itself: {words}, {flips} of the right answers."
    least = smallest_words(entry)
    if least is not None:
        yield least
    for kind in ("site", "class", "group", "class in group"):
        worst = worst_part(entry, kind)
        if worst is not None:
            right, share = worst["accuracy_clean"]["value"], worst["accuracy_worst_case"]["value"]
            shares = f"{percent(right, 1)} as they are, {percent(share, 1)} in the worst case"
            yield f"Worst {kind}: {worst['name']}, {shares}."
    yield check_words(entry, results["reference"])
    if entry["corroboration"]:
        yield entry["corroboration"]
    for advice in entry["advice"]:
        yield f"What to do: {advice['title']}.{' ' + advice['command'] if advice['command'] else ''}"
