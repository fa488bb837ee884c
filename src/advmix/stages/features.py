"""Whose features compare images: any classifier, whoever made it, or the discriminator that a generator came with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from advmix.classifiers import ClassifierOptions, OpenClassifier, open_classifier
from advmix.encoders import fingerprint
from advmix.encoders.autoencoder import FILE as GENERATOR
from advmix.encoders.features import Activations
from advmix.errors import UserError
from advmix.training.discriminator import FILE, DiscriminatorFeatures, load_discriminator


@dataclass(frozen=True, eq=False)
class Features:
    """What compares images.

    Attributes:
        network: images in [0, 1] to a list of tensors.
        fingerprint: which it is.
    """

    network: nn.Module
    fingerprint: str


def open_features(name: str, image: tuple[int, int, int], trust_code: bool = False) -> Features:
    """Features that gradients pass through: of a classifier of any classes, or of a discriminator.

    Args:
        name: a classifier as `--classifier` names one, where a .json file also says how images are brought to it; or a
            folder that `fit` wrote, for the discriminator in it.
        image: `(C, H, W)` of the images that are compared.
        trust_code: whether a .json file may name a function.

    Raises:
        UserError: neither, or one whose features are of no use here.
    """
    folder = Path(name)
    if (folder / FILE).is_file():
        found = load_discriminator(folder)
        _check_channels(name, found.channels, image)
        return Features(DiscriminatorFeatures(found), fingerprint(found))
    if (folder / GENERATOR).is_file():
        raise UserError(
            f"--features {name}: has a generator but no {FILE}, which fit writes with --regime gan or "
            "--adversarial-weight; name another folder, or a classifier"
        )
    opened = open_classifier(ClassifierOptions(name, trust_code=trust_code), image=image)
    if opened.image is not None:
        _check_channels(name, opened.image[0], image)
    opened.check_gradients("--features learns through them")
    return Features(activations(opened), opened.fingerprint)


def _check_channels(name: str, channels: int, image: tuple[int, int, int]) -> None:
    if channels != image[0]:
        raise UserError(f"--features {name}: for images of {channels} channels, but these have {image[0]}")


def activations(opened: OpenClassifier) -> Activations:
    """The outputs of its activation modules.

    Raises:
        UserError: it has none.
    """
    try:
        return Activations(opened.network)
    except ValueError as error:
        raise UserError(f"--features {opened.name}: {error}; name another classifier") from error


def features_input(opened: Features | OpenClassifier | None) -> dict[str, str]:
    """What a run remembers of them, if any: not where they lie, but which they are."""
    return {} if opened is None else {"features": opened.fingerprint}
