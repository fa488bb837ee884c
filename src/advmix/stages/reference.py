"""The classifier whose answers `advmix inspect` counts: named or trained, and asked whether it reads the bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from advmix.audit.evaluate import accuracy
from advmix.classifiers import ClassifierOptions, OpenClassifier, open_classifier
from advmix.data import Data, ImageSet, painted_digits
from advmix.errors import UserError

UNBIASED = ("train", "test")
READS_BIAS = 0.9
"""A reference reads the bias when its accuracy on unbiased images is below this share of that on the generator's."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A trained classifier, in eval mode on its device, and what is known of its honesty.

    Attributes:
        network: images in [0, 1] to logits.
        method: how it was trained.
        accuracy: on the generator's own images.
        accuracy_unbiased: on images where the bias says nothing; None where there are none.
        bias: `no`, `unknown` or `yes`: whether it reads the bias of the generator's images.
        caveat: the same as a sentence.
    """

    network: nn.Module
    method: str
    accuracy: float
    accuracy_unbiased: float | None
    bias: str
    caveat: str


def open_reference(reference: str | Path, ours: ImageSet) -> OpenClassifier:
    """A classifier, whoever made it, checked to be for images like these.

    Args:
        reference: as `--classifier` names one.
        ours: the images that it will be asked about.

    Raises:
        UserError: not a classifier, or one of other images or classes.
    """
    opened = open_classifier(ClassifierOptions(str(reference)), ours.classes, ours.shape)
    if opened.image not in (None, ours.shape):
        raise UserError(
            f"{reference}: for images of {_size(opened.image)}, but the generator's are "
            f"{_size(ours.shape)}; name a classifier of these"
        )
    return opened


def judge_reference(opened: OpenClassifier, data: Data, unbiased: str | None, device: torch.device) -> Reference:
    """Test a classifier on the generator's images, and on the unbiased ones where they are named."""
    network = opened.network.to(device)
    right, right_unbiased = accuracy(network, data.train, device), None
    if unbiased is not None:
        digits = painted_digits(data, f"--unbiased {unbiased}")
        images = {"train": digits.train_unbiased, "test": digits.shuffled}[unbiased]
        right_unbiased = accuracy(network, images, device)
    bias, caveat = _honesty(opened, data.train, right, right_unbiased)
    return Reference(network, opened.method, right, right_unbiased, bias, caveat)


def _size(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels and {channels} channels"


def _honesty(opened: OpenClassifier, images: ImageSet, right: float, unbiased: float | None) -> tuple[str, str]:
    """Whether a reference shares the bias of the generator's images: measured, or known by its making, or unknown."""
    measured = ""
    if unbiased is not None:
        measured = f"right on {unbiased:.1%} of the unbiased images and on {right:.1%} of the generator's own"
        if unbiased < READS_BIAS * right:
            return (
                "yes",
                f"{measured}: it reads the bias, and the split is about what it looks at, not about the label.",
            )
    if opened.method == "ceiling":
        return "no", f"{measured}{', ' if measured else ''}trained on unbiased images: it does not read the bias."
    if measured:
        return "no", f"{measured}: no sign that it reads a bias of these."
    which = "unknown"
    if opened.metadata:
        which = "the generator's own" if opened.metadata["data_fingerprint"] == images.fingerprint else "other"
    return "unknown", (
        f"trained ({opened.method}) on {which} images. If these are biased it may read the bias, and the split is "
        "then about what it looks at, not about the label. --unbiased tests that, or trains a reference without it."
    )
