"""Two networks for grey digits of 24x24 pixels, alike in accuracy, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet, epoch_batches
from advmix.utils.files import write_tensors
from advmix.utils.progress import track
from advmix.utils.torch_tools import global_seed

SIDE, CLASSES = 24, 10
EPOCHS, BATCH, RATE = 40, 50, 2e-3


def dense_net() -> nn.Module:
    """One hidden layer over all pixels: it knows nothing of place.

    Returns:
        Images `(B, 1, 24, 24)` in [0, 1] to logits `(B, 10)`.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 256), nn.ReLU(), nn.Linear(256, CLASSES))


def robust_net() -> nn.Module:
    """Convolutions.

    Returns:
        Images `(B, 1, 24, 24)` in [0, 1] to logits `(B, 10)`.
    """
    return conv_net(CLASSES, channels=1)


LIGHT = v2.ColorJitter(brightness=0.6, contrast=0.6)
"""Grey digits have no other style than light and contrast."""

LIGHT_AND_PLACE = v2.Compose(
    [v2.RandomAffine(25, translate=(0.15, 0.15), scale=(0.7, 1.3)), v2.GaussianBlur(3, (0.1, 1.0)), LIGHT]
)

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {
    "dense": (dense_net, LIGHT),
    "robust": (robust_net, LIGHT_AND_PLACE),
}
"""By name: a network, and how its training images are changed, each by itself."""


def train_network(name: str, images: ImageSet, path: Path) -> None:
    """Train a network of `NETWORKS` from nothing, unless the file of its weights is there.

    Args:
        name: of the network.
        images: the training images.
        path: of the file.
    """
    if path.is_file():
        return
    make, change = NETWORKS[name]
    steps = EPOCHS * len(list(epoch_batches(len(images), BATCH, 0, 0)))
    with global_seed(0), track(f"train {name}", steps) as advance:
        network = make().train()
        optimizer = torch.optim.Adam(network.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
        for epoch in range(EPOCHS):
            for rows in epoch_batches(len(images), BATCH, 0, epoch):
                pixels, labels = images.batch(rows)
                loss = functional.cross_entropy(network(torch.stack([change(image) for image in pixels])), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                advance(1, f"loss {float(loss.detach()):.3f}")
    write_tensors(path, "weights", network.state_dict(), {})
