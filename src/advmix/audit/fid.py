"""How good generated images are: Fréchet distance of features, and how often each class is among them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advmix.encoders.features import Activations
from advmix.modes import evaluating


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


class _Given(nn.Module):
    """What torchmetrics asks of a network, where the features are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


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
    from torchmetrics.image.fid import FrechetInceptionDistance

    with evaluating(features) as (network,):
        found = [torch.cat([network(images).cpu().double() for images in batches]) for batches in (real, fake)]
    metric = FrechetInceptionDistance(_Given(found[0].shape[1]), sync_on_compute=False)  # one process has all images
    for part, is_real in zip(found, (True, False), strict=True):
        metric.update(part, real=is_real)
    return float(metric.compute())


@torch.no_grad()
def class_shares(images: Iterable[Tensor], classifier: nn.Module) -> Tensor:
    """The share of each class among images, as the classifier sees them: `(C,)`, sum 1.

    Args:
        images: batches `(B, C, H, W)` in [0, 1], one image at least.
        classifier: images to logits `(B, C)`; put in eval mode and back.
    """
    with evaluating(classifier) as (network,):
        logits = torch.cat([network(part).cpu() for part in images])
    return logits.argmax(dim=1).bincount(minlength=logits.shape[1]).double() / len(logits)
