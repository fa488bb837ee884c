"""How good generated images are: Fréchet distance of features, and how often each class is among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.encoders.autoencoder import FILE as GENERATOR
from advmix.encoders.autoencoder import fingerprint
from advmix.encoders.optimize import Activations
from advmix.training.discriminator import FILE, DiscriminatorFeatures, load_discriminator
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import eval_mode


class PenultimateFeatures(nn.Module):
    """The last activations of a classifier, averaged over the pixels where they have any: `(B, F)`.

    Args:
        classifier: images in [0, 1] to logits; any with an activation module in it.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.activations = Activations(classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] to `(B, F)`."""
        maps: list[Tensor] = self.activations(images)
        last = maps[-1]
        return last.flatten(2).mean(dim=2) if last.ndim > 2 else last


@torch.no_grad()
def frechet_distance(real: Iterable[Tensor], fake: Iterable[Tensor], features: nn.Module) -> float:
    """Distance of two normal distributions fitted to the features of two sets of images: FID with our own features.

    `|m - m'|² + tr(C + C' - 2 (C C')^½)`, in squared units of the features: it compares generators under the same
    features, and with no published number. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017).

    Args:
        real: batches of images `(B, C, H, W)` in [0, 1], two images at least.
        fake: the same.
        features: such images to `(B, F)`, `PenultimateFeatures(classifier)` say; put in eval mode and back.
    """
    with eval_mode(features) as (network,):
        found = [torch.cat([network(images).cpu().double() for images in batches]) for batches in (real, fake)]
    (mean, cov), (other_mean, other_cov) = [(part.mean(dim=0), torch.atleast_2d(part.T.cov())) for part in found]
    root = torch.linalg.eigvals(cov @ other_cov).sqrt().real.sum()
    return float((mean - other_mean).square().sum() + cov.trace() + other_cov.trace() - 2 * root)


@torch.no_grad()
def class_shares(images: Iterable[Tensor], classifier: nn.Module) -> Tensor:
    """The share of each class among images, as the classifier sees them: `(C,)`, sum 1.

    Args:
        images: batches `(B, C, H, W)` in [0, 1], one image at least.
        classifier: images to logits `(B, C)`; put in eval mode and back.
    """
    with eval_mode(classifier) as (network,):
        logits = torch.cat([network(part).cpu() for part in images])
    return logits.argmax(dim=1).bincount(minlength=logits.shape[1]).double() / len(logits)


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
            f"--features {name}: has a generator but no {FILE}, which fit writes with --regime gan; "
            "name another folder, or a classifier"
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
