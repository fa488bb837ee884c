"""One page of augmentations: the same images under each, the rescaled differences, a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor

from advmix.report.drawing import INK, METHODS, MUTED, TRACK, Canvas, method_color, method_label, shorten
from advmix.report.figures import rescaled_difference

SIZE, PITCH = 0.7, 0.76
LEFT, TOP, SECTION, GAP, NUMBER = 2.0, 0.72, 0.36, 0.3, 0.86
SECTIONS = {
    "Usual augmentations": ("mixup", "cutmix", "erasing", "augmix"),
    "Adversarial pixels": ("linf",),
    "Mixed latents": ("reconstruction", "randmix", "advmix"),
    "The true decoder": ("recolor",),
}
TEXTS = {
    "mixup": ("mixup", "weighted average of two"),
    "cutmix": ("CutMix", "a patch of another image"),
    "erasing": ("Random erasing", "a rectangle set to 0"),
    "augmix": ("AugMix", "average of random chains"),
    "linf": ("l∞ attack", "each pixel moved a little"),
    "reconstruction": ("Reconstruction", "z∥ and z⊥ of the image"),
    "randmix": ("RandMix", "z⊥ of a random image"),
    "advmix": ("AdvMix", "z⊥ found by the search"),
    "recolor": ("Recolour", "the digit in any paint"),
}


@dataclass(frozen=True, eq=False)
class Augmented:
    """One row of the page.

    Args:
        name: a key of `TEXTS`.
        images: `(N, 3, H, W)` in [0, 1].
        pixel_change: mean absolute change of a pixel, in [0, 1].
        label_kept: share of images in which the reference still sees the label.
        attacked_right: share of images on which the attacked classifier is right.
    """

    name: str
    images: Tensor
    pixel_change: float
    label_kept: float
    attacked_right: float

    def numbers(self) -> tuple[str, str, str]:
        """As they are printed."""
        return f"{self.pixel_change:.3f}", f"{100 * self.label_kept:.1f}", f"{100 * self.attacked_right:.1f}"


def augmentations_page(
    originals: Tensor, classes: Sequence[str], rows: Sequence[Augmented], attacked: str, attacked_right: float
) -> Figure:
    """A row for each augmentation: the images, beside them what was changed, and the numbers.

    Args:
        originals: `(N, 3, H, W)` in [0, 1].
        classes: N class names.
        rows: the augmentations.
        attacked: method of the classifier that was attacked.
        attacked_right: share of unchanged images on which it is right.
    """
    wide = len(originals) * PITCH
    tops = _tops({row.name for row in rows})
    name = method_label(attacked)
    canvas = Canvas(LEFT + 2 * wide + GAP + 3 * NUMBER, max(tops.values()) + PITCH + 0.48)
    _head(canvas, originals, classes, (name, attacked_right))
    for title, top in tops.items():
        if title in SECTIONS:
            canvas.text(0.1, top + SECTION - 0.11, title, 9, ha="left", color=MUTED, weight="bold")
            canvas.axes(0.1, top + SECTION - 0.28, canvas.width - 0.2, 0.015).set_facecolor(TRACK)
    for row in rows:
        _row(canvas, originals, row, tops[row.name])
    notes = (
        f"Label kept: as a reference trained on unbiased paint sees it.   {name}: what l∞ and AdvMix attack.",
        "mixup and CutMix mix the labels too, so that losing one is no fault of theirs.",
    )
    for line, note in enumerate(notes):
        canvas.text(0.1, canvas.height - 0.32 + 0.19 * line, note, 8.5, ha="left", color=MUTED)
    return canvas.figure


def _tops(names: set[str]) -> Mapping[str, float]:
    """Where each section's title and each row begins, in inches from the top."""
    tops, top = {}, TOP + PITCH
    for title, members in SECTIONS.items():
        shown = [name for name in members if name in names]
        if shown:
            tops[title] = top
            top += SECTION
        for name in shown:
            tops[name] = top
            top += PITCH
    return tops


def _head(canvas: Canvas, originals: Tensor, classes: Sequence[str], attacked: tuple[str, float]) -> None:
    """The images as they are, and what the columns show."""
    wide, middle = len(originals) * PITCH, TOP + SIZE / 2
    name, right = attacked
    canvas.text(0.1, middle - 0.1, "Test image", 11, ha="left", weight="bold")
    canvas.text(0.1, middle + 0.12, "painted as in training", 8.5, ha="left", color=MUTED)
    canvas.text(LEFT + wide / 2 - 0.03, 0.2, "Image", 11, weight="bold")
    canvas.text(LEFT + wide + GAP + wide / 2, 0.2, "Difference, each scaled to its maximum", 11, weight="bold")
    for column, (image, label) in enumerate(zip(originals, classes, strict=True)):
        canvas.image(image, LEFT + column * PITCH, TOP, SIZE, SIZE)
        canvas.text(LEFT + column * PITCH + SIZE / 2, TOP - 0.14, shorten(label, 9), 9.5)
    for place, head in enumerate(("pixel\nchange", "label\nkept, %", f"{name}\nright, %")):
        canvas.text(_number_place(len(originals), place), 0.34, head, 9, color=INK, va="center", linespacing=1.25)
    canvas.text(_number_place(len(originals), 2), middle, f"{100 * right:.1f}", 11, color=MUTED)


def _number_place(count: int, place: int) -> float:
    return LEFT + 2 * count * PITCH + GAP + (place + 0.55) * NUMBER


def _row(canvas: Canvas, originals: Tensor, row: Augmented, top: float) -> None:
    name, hint = TEXTS[row.name]
    indent = 0.1
    if row.name in METHODS:
        canvas.text(indent, top + SIZE / 2 - 0.1, "■", 12, ha="left", color=method_color(row.name))
        indent += 0.2
    canvas.text(indent, top + SIZE / 2 - 0.1, name, 11, ha="left", weight="bold")
    canvas.text(0.1, top + SIZE / 2 + 0.12, hint, 8.5, ha="left", color=MUTED)
    shown = (row.images, rescaled_difference(originals, row.images))
    for block, images in enumerate(shown):
        for column, image in enumerate(images):
            left = LEFT + block * (len(originals) * PITCH + GAP) + column * PITCH
            canvas.image(image, left, top, SIZE, SIZE)
    for place, number in enumerate(row.numbers()):
        canvas.text(_number_place(len(originals), place), top + SIZE / 2, number, 11)
