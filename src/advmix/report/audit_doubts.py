"""Why an audit has no verdict on a classifier: what it found would be said of something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
KEEP_SIZE = "Leave out --no-residual: it is the size that is lost, and mixes then keep that of the image."


@dataclass(frozen=True)
class Doubt:
    """Why there is no verdict: in half a line, and in full with a remedy."""

    reason: str
    words: str


def doubt(entry: Entry, results: Entry) -> Doubt | None:
    """What stands in the way of a verdict on a classifier; None where nothing does."""
    return _one_answer(entry) or _blurred(entry, results)


def _one_answer(entry: Entry) -> Doubt | None:
    everything, *parts = entry["parts"]
    common = entry.get("commonest")
    if common is None:  # an audit that was finished before this was counted
        return None
    labels = sum(part["images"] for part in parts if part["kind"] == "class" and part["name"] == common["class"])
    labelled = labels / everything["images"]
    if common["share"] < ONE_ANSWER or common["share"] - labelled < TOO_OFTEN:
        return None
    return Doubt(
        f"it answers “{common['class']}” whatever it is shown",
        f"No headline: it answers “{common['class']}” to {common['share']:.1%} of the images as they are, and "
        f"{labelled:.1%} have that label. That is not a classifier at work: its images may have come in another size, "
        "value range or normalisation than in its training (--input-size, --mean, --std), or it runs without its "
        "weights (--weights).",
    )


def _blurred(entry: Entry, results: Entry) -> Doubt | None:
    """Where mixes keep an image's details they keep its size too, and reconstructions are held against the same images
    at the generator's size: what is lost by the size alone is no error of the encoder's. Where mixes are no more than
    the generator draws, the worst case loses the size as well, and reconstructions are held against the images.
    """
    everything, residual = entry["parts"][0], results["residual"]
    drawn, small, native = (everything[key]["value"] for key in ("right_reconstruction", "right_small", "right"))
    clean = small if residual else native
    if clean - drawn <= TOO_BLURRED:
        return None
    size = " at the generator's size" if residual and everything["right_small"] != everything["right"] else ""
    by_size = not residual and small - drawn <= TOO_BLURRED
    return Doubt(
        "the generator draws too little of these images",
        f"No headline: {drawn:.1%} right on reconstructions and {clean:.1%} on the images{size}. The generator draws "
        f"too little of what the classifier looks at, so a worst case would blame the classifier for it. "
        f"{KEEP_SIZE if by_size else REMEDY}",
    )
