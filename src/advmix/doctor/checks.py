"""One answer of the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from advmix.doctor.measure import Found, Moves, Pool
from advmix.inspect.scores import IDLE
from advmix.intervals import Interval
from advmix.training.reference import MIN_REFERENCE_RATIO

Verdict = Literal["ok", "doubtful", "bad", "not known"]


@dataclass(frozen=True)
class Finding:
    """What was asked, what was found, and what to do.

    Attributes:
        check: name of the question.
        verdict: `ok`, `doubtful`, `bad` or `not known`.
        why: one sentence with the numbers that decided.
        remedy: what to do; empty where nothing has to be done.
        numbers: everything that was measured, as JSON values.
        subject: name of the classifier it is about; empty where it is about the generator.
    """

    check: str
    verdict: Verdict
    why: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""

    def about(self, subject: str) -> Finding:
        """The same, of one classifier."""
        return replace(self, subject=subject)


def grade(value: float, ok: float, bad: float) -> Verdict:
    """`ok` up to `ok`, `bad` above `bad`, `doubtful` between: for numbers that should be small.

    >>> grade(0.02, ok=0.02, bad=0.05), grade(0.03, ok=0.02, bad=0.05), grade(0.06, ok=0.02, bad=0.05)
    ('ok', 'doubtful', 'bad')
    """
    if value <= ok:
        return "ok"
    return "bad" if value > bad else "doubtful"


UNEXPLAINED_OK, UNEXPLAINED_BAD = 0.1, 0.3

"""Share of the images' variance that is missing. Below a tenth, what is missing is fine detail; beyond three tenths it
is as much as a whole object in many pictures, and a classifier sees other images than yours."""

BY_HEART = 2.0

"""Unseen images that miss so many times as much as training images: the generator has learnt these by heart."""

DROP_OK, DROP_BAD = 0.02, 0.05

"""Accuracy lost on reconstructions. Two points cannot be told from nothing on a few hundred images; over five, audit
gives no headline, because a worst case would blame the classifier for the generator."""

AT_SIZE = " at the generator's size"

"""Said of a classifier that an audit shows larger images: its figures are others."""

LITTLE = 0.1

"""A z⊥ that makes less than this share of the change of swapping everything can hurt only a brittle classifier."""

SURVIVAL_OK, SURVIVAL_BAD = 0.95, 0.8

"""Labels that mixes keep. 95 % is what `advmix inspect` asks of a split; what cannot be told from it by its interval
passes, too. Below 80 %, one mix in five is labelled wrong, more noise than most real data sets have."""

ENOUGH = 30

"""Images that a share must be about: with fewer its 95 % interval is wider than 35 points."""

READABLE = 0.25

"""Of the way from chance to certainty that a linear probe may go before the label counts as readable."""

POOL_BAD, POOL_OK = 50, 200

"""The pool's standard deviation is the search's unit of length; from n samples it is known to 1 / sqrt(2n): to 10 %
from 50, to 5 % from 200. And an example meets each of 50 donors again and again, and can learn them by heart."""

TWINS_OK, TWINS_BAD = 0.05, 0.5

"""Duplicates. A twentieth is what copies in a data set make; with a half, every second restart is wasted."""

TINY_SPREAD = 0.01

"""A pool whose numbers vary by less than a hundredth of their size is one code with rounding errors."""

FALL_OK, FALL_BAD = 0.02, 0.05

"""Points of worst-case accuracy that twice the restarts or twice the steps may still cost: the same measure as for
reconstructions, so that neither error is larger than what the headline may hide."""

FLOOR = 0.02

"""A worst case this low has no room to fall further."""

RISE = 1.1

"""A search that raises the mean loss by less than a tenth has found nothing that a training step would notice."""


READY_MADE_REMEDY = (
    "This ready-made generator is not good enough for these images: use --generator statistics, which loses nothing, "
    "or fit one to them (--generator fit)."
)


def encoding(train: float | None, test: float | None, images: int, ready_made: bool = False) -> Finding:
    """How much of the images is lost in `dec(enc(x))`; shares of the variance of training and of unseen images."""
    numbers = {"unexplained_train": train, "unexplained_test": test, "images": images}
    worst = max((value for value in (train, test) if value is not None), default=None)
    if worst is None:
        return Finding("encoding", "not known", "All images are the same.", "Look at them: advmix data.", numbers)
    verdict, remedy = grade(worst, UNEXPLAINED_OK, UNEXPLAINED_BAD), ""
    parts = [("unseen", test), ("training", train)]
    shares = " and ".join(f"{value:.1%} of the variance of {name} images" for name, value in parts if value is not None)
    if verdict != "ok":
        remedy = (
            "Train the generator longer (fit --fit-steps), with --perceptual-weight, or encode with --encoder refine."
        )
        if ready_made:
            remedy = READY_MADE_REMEDY
        elif train is not None and test is not None and test > BY_HEART * train:
            remedy = "Unseen images are far worse than training ones: fit on more images, or with fewer --fit-steps."
    return Finding("encoding", verdict, f"Reconstructions miss {shares}.", remedy, numbers)


def reconstruction(right: float, drawn: float, images: int, small: bool = False, ready_made: bool = False) -> Finding:
    """Accuracy on images against accuracy on their reconstructions; `small` where audits show larger images."""
    numbers = {"accuracy": right, "accuracy_reconstruction": drawn, "images": images}
    verdict = grade(round(right - drawn, 6), DROP_OK, DROP_BAD)
    why = f"Right on {right:.1%} of the images{AT_SIZE if small else ''} and on {drawn:.1%} of their reconstructions."
    remedy = ""
    if verdict != "ok":
        remedy = (
            READY_MADE_REMEDY
            if ready_made
            else (
                "A worst case would blame the classifier for what the generator loses: train the generator longer, "
                "with --features and --perceptual-weight, and let mixes keep the --residual."
            )
        )
    return Finding("reconstruction", verdict, why, remedy, numbers)


def split(found: Moves) -> Finding:
    """Does swapping z⊥ change the image at all?"""
    numbers = {"image_change": found.perp, "image_share": found.share}
    why = f"Swapping z⊥ changes pixels by {found.perp:.3f} on average, {found.share:.0%} of what swapping all changes."
    if found.share < IDLE or found.perp < 1 / 255:
        remedy = "z⊥ is idle: nothing can be found. Name more layers (--perp); advmix inspect measures which."
        return Finding("split", "bad", why, remedy, numbers)
    if found.share < LITTLE:
        return Finding(
            "split", "doubtful", why, "There is little to find: advmix inspect says what could join z⊥.", numbers
        )
    return Finding("split", "ok", why, "", numbers)


def survival(kept: Interval | None, images: int, train: float, test: float) -> Finding:
    """Do mixes keep the label? To a reference that is right on `train` and `test` of training and unseen images.

    Args:
        kept: share of the mixes with images of another label that keep the label; None where nothing counts.
        images: that count, the reference being right on them unmixed.
        train: accuracy of the reference on training images.
        test: on unseen ones.
    """
    numbers = {"kept": kept and vars(kept), "images": images, "reference_train": train, "reference_test": test}
    if test < MIN_REFERENCE_RATIO * train:
        why = f"The reference is right on {train:.1%} of the training and {test:.1%} of unseen images: it cannot judge."
        remedy = "Name another --reference, trained on more or on unbiased images."
        return Finding("label survival", "not known", why, remedy, numbers)
    if kept is None or images < ENOUGH:
        why = f"The reference is right on only {images} reconstructions, too few to ask about their mixes."
        return Finding("label survival", "not known", why, "More --images, a better generator or --reference.", numbers)
    verdict = "ok" if kept.high >= SURVIVAL_OK else grade(1 - kept.value, 1 - SURVIVAL_OK, 1 - SURVIVAL_BAD)
    why = f"{kept.value:.1%} of mixes keep the label, to the reference ({kept.low:.0%} to {kept.high:.0%})."
    remedy = (
        ""
        if verdict == "ok"
        else (
            "z⊥ holds part of the label, unless the reference looks at the wrong thing: take the split that advmix "
            "inspect proposes."
        )
    )
    return Finding("label survival", verdict, why, remedy, numbers)


def no_reference() -> Finding:
    """Nobody was there to ask."""
    return Finding(
        "label survival",
        "not known",
        "No reference classifier was named.",
        "--reference FOLDER: a classifier of these classes that does not share a bias of the images.",
    )


def leakage(whole: float | None, layers: Mapping[str, float], kept: Verdict) -> Finding:
    """Can the label be read off z⊥? What that means depends on whether mixes keep the label (`kept`)."""
    numbers = {"z_perp": whole, "layers": dict(layers)}
    if whole is None:
        why = "Too few images of two classes to train a probe on."
        return Finding("leakage", "not known", why, "Encode more images.", numbers)
    listed = ", ".join(f"{name} {max(value, 0):.0%}" for name, value in layers.items())
    by_layer = f" (by layer: {listed})" if layers else ""
    why = f"A linear probe reads the label off z⊥ {max(whole, 0):.0%} of the way from chance to certainty{by_layer}"
    if whole < READABLE:
        return Finding("leakage", "ok", f"{why}.", "", numbers)
    if kept == "ok":
        why = f"{why}, yet mixes keep the label: in these images z⊥ goes with the label, which is what mixing breaks."
        return Finding("leakage", "ok", why, "", numbers)
    if kept == "not known":
        remedy = (
            "Either a bias of the images, which mixing breaks, or a part of the label: only a --reference can tell."
        )
        return Finding("leakage", "doubtful", f"{why}.", remedy, numbers)
    remedy = "Take the layers that read best out of z⊥ (--perp)."
    return Finding("leakage", kept, f"{why}, and mixes lose labels.", remedy, numbers)


def pool(found: Pool) -> Finding:
    """Is there anything to borrow?"""
    numbers = dict(vars(found))
    why = f"{found.size:,} codes, {found.duplicates:.0%} of them twins, varying by {found.spread:.0%} of their size."
    checks: list[tuple[Verdict, str]] = [
        (grade(-found.size, -POOL_OK, -POOL_BAD), "Too small: fit and encode more images."),
        (
            grade(found.duplicates, TWINS_OK, TWINS_BAD),
            "Copies in the data, or an encoder that tells too little apart.",
        ),
        (
            "ok" if found.spread >= TINY_SPREAD else "bad",
            "No spread: the encoder gives every image the same z⊥; fit longer.",
        ),
    ]
    verdict = worst(*(verdict for verdict, _ in checks))
    remedy = " ".join(words for found_verdict, words in checks if found_verdict != "ok")
    return Finding("pool", verdict, why, remedy, numbers)


def saturation(found: Found) -> Finding:
    """Does the worst case still fall with more restarts or more steps?"""
    numbers = {
        key: getattr(found, key) for key in ("images", "restarts", "steps", "right", "right_restarts", "right_steps")
    }
    size = f"{found.restarts} restarts x {found.steps} steps leave {found.right:.1%} right"
    if found.right <= FLOOR:
        return Finding("saturation", "ok", f"{size}: there is no room to fall.", "", numbers)
    falls = {"restarts": found.right - found.right_restarts, "steps": found.right - found.right_steps}
    more = max(falls, key=lambda name: falls[name])
    verdict = grade(round(falls[more], 6), FALL_OK, FALL_BAD)
    why = f"{size}, twice the restarts {found.right_restarts:.1%}, twice the steps {found.right_steps:.1%}."
    remedy = (
        "" if verdict == "ok" else f"The worst case still falls: search with more --{more}, and call it an upper bound."
    )
    return Finding("saturation", verdict, why, remedy, numbers)


def gradient(found: Found) -> Finding:
    """Does climbing find anything beyond a random donor?"""
    keys = ("images", "steps", "loss_random", "loss_random_many", "loss_climb")
    numbers = {key: getattr(found, key) for key in keys}
    if found.steps == 0:
        why = "The search takes no steps: it is a random one."
        return Finding("gradient", "not known", why, "--steps, where the classifier has gradients.", numbers)
    many, climb = found.steps, found.loss_climb
    why = f"Mean loss {found.loss_random:.3f} under a random donor, {climb:.3f} after {many} steps from there"
    if found.loss_climb < RISE * found.loss_random:
        remedy = "AdvMix is RandMix here: larger --radius and --step-size, more --steps, or a z⊥ that moves more."
        return Finding("gradient", "bad", f"{why}.", remedy, numbers)
    if found.loss_random_many is not None and found.loss_climb < found.loss_random_many:
        why = f"{why}, {found.loss_random_many:.3f} under the worst of {found.steps + 1} random donors."
        remedy = "Restarts find more than steps at equal cost: more --restarts, or a larger --radius."
        return Finding("gradient", "doubtful", why, remedy, numbers)
    return Finding("gradient", "ok", f"{why}.", "", numbers)


def belief(
    right: float, drawn: Verdict, kept: Verdict, checked: float | None, found: Found, small: bool = False
) -> Finding:
    """Can the worst case be believed? Not where generator or split may have made it.

    Args:
        right: accuracy on the images as they are.
        drawn: verdict on reconstructions.
        kept: verdict on label survival.
        checked: share of images that stay right where only those failures count whose worst mix still shows the label
            to the reference; None without one. What fools one network often fools another, so that this is kind to
            the classifier.
        found: the searches; the largest of them counts.
        small: whether audits show the classifier larger images.
    """
    worst_case = found.right_largest
    numbers = {"accuracy": right, "accuracy_worst_case": worst_case, "checked": checked, "images": found.images}
    apart: Verdict = "ok" if checked is None or checked - worst_case <= DROP_BAD else "doubtful"
    reasons = {"reconstruction": drawn, "label survival": kept, "lost labels": apart}
    why = f"{right:.1%} right{AT_SIZE if small else ' as they are'} and {worst_case:.1%} in the worst case"
    if checked is not None:
        why = f"{why} ({checked:.1%} where only failures count whose label the reference still sees)"
    blamed = [f"{name} ({verdict})" for name, verdict in reasons.items() if verdict != "ok"]
    why = f"{why}; see {', '.join(blamed)}." if blamed else f"{why}; reconstructions and labels hold."
    fall, remedy = right - (worst_case if checked is None else checked), ""
    if worst(drawn, kept) != "ok":
        remedy = "Settle these first: until then it says little about the classifier."
    elif fall > DROP_BAD:
        remedy = "The fall is real: the classifier looks at z⊥. Train it on mixes (advmix train --method advmix)."
    elif apart != "ok":
        remedy = "Blame the classifier for the figure in brackets alone; a smaller --radius loses fewer labels."
    return Finding("worst case", worst(*reasons.values()), why, remedy, numbers)


def worst(*verdicts: Verdict) -> Verdict:
    """The gravest of several; what is not known outweighs what is fine, and nothing else."""
    order: tuple[Verdict, ...] = ("ok", "not known", "doubtful", "bad")
    return max(verdicts, key=order.index)
