"""Statistics of batch normalisation, taken anew from unlabelled images.

Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation" (2020); Nado et al.,
"Evaluating prediction-time batch normalization for robustness under covariate shift" (2020).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advmix.data.images import ImageSet, epoch_batches
from advmix.utils.torch_tools import eval_mode

LEAST_IMAGES = 100
"""With fewer, statistics of the images are too much by chance, and a classifier that takes them loses accuracy."""


def norm_layers(network: nn.Module) -> list[_BatchNorm]:
    """The layers that normalise by statistics which they keep."""
    layers = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    return [layer for layer in layers if layer.running_mean is not None]


@torch.no_grad()
def estimate_norm(network: nn.Module, images: ImageSet, device: torch.device, seed: int, batch: int = 128) -> None:
    """Put the statistics of these images in the place of those that the normalisation layers keep: the mean over
    batches in random order, each weighted by its images.

    Args:
        network: images `(B, C, H, W)` in [0, 1] to logits, on the device; changed in place, its weights are not.
        images: labels are not looked at.
        device: of the network.
        seed: fixes the order.
        batch: images at once.
    """
    layers, seen = norm_layers(network), 0
    momenta = [layer.momentum for layer in layers]
    with eval_mode(network):
        for index in epoch_batches(len(images), batch, seed, 0):
            seen += len(index)
            for layer in layers:
                layer.train()
                layer.momentum = len(index) / seen
            network(images.batch(index)[0].to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
