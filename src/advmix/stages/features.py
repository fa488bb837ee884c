"""Whose features compare images: any classifier, whoever made it."""

from __future__ import annotations

from advmix.classifiers import ClassifierOptions, OpenClassifier, open_classifier
from advmix.encoders.features import Activations
from advmix.errors import UserError


def open_features(classifier: str, image: tuple[int, int, int]) -> OpenClassifier:
    """A classifier of any classes, checked to have features that gradients pass through.

    Args:
        classifier: as `--classifier` names one; a .json file also says how images are brought to it.
        image: `(C, H, W)` of the images that are compared.

    Raises:
        UserError: not a classifier, or one whose features are of no use here.
    """
    opened = open_classifier(ClassifierOptions(classifier), image=image)
    if opened.image is not None and opened.image[0] != image[0]:
        raise UserError(f"--features {classifier}: for images of {opened.image[0]} channels, but these have {image[0]}")
    opened.check_gradients("--features learns through them")
    activations(opened)
    return opened


def activations(opened: OpenClassifier) -> Activations:
    """The outputs of its activation modules.

    Raises:
        UserError: it has none.
    """
    try:
        return Activations(opened.network)
    except ValueError as error:
        raise UserError(f"--features {opened.name}: {error}; name another classifier") from error


def features_input(opened: OpenClassifier | None) -> dict[str, str]:
    """What a run remembers of the classifier, if any: not where it lies, but which it is."""
    return {} if opened is None else {"features": opened.fingerprint}
