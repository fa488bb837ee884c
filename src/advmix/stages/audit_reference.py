"""The reference that votes whether a mix still shows its label: another architecture, another seed, the same images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from advmix.audit.evaluate import accuracy
from advmix.audit.patches import patch_net
from advmix.data import ImageSet
from advmix.encoders import fingerprint
from advmix.errors import UserError
from advmix.files import read_tensors, write_tensors
from advmix.seeds import derive, generator, global_seed
from advmix.stages.audit_config import AuditConfig
from advmix.stages.reference import open_reference
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Nominal

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FILE = "reference.safetensors"
IMAGES = 6000
"""A reference of our own is trained on at most so many of the training images: a minute or two on two cores."""


@dataclass(frozen=True, eq=False)
class Voter:
    """A reference in eval mode, on its device.

    Attributes:
        network: images of the generator's size, in [0, 1], to logits.
        name: what a person reads.
        fingerprint: of weights and architecture.
        right_train: its accuracy on training images, 1,000 at most.
    """

    network: nn.Module
    name: str
    fingerprint: str
    right_train: float

    def to_dict(self) -> dict[str, Any]:
        """As it goes into a file."""
        return {"name": self.name, "fingerprint": self.fingerprint, "right_train": self.right_train}


def named_reference(config: AuditConfig, images: ImageSet, device: torch.device) -> Voter | None:
    """Somebody's classifier of these images, where one is named.

    Raises:
        UserError: it cannot be read, tells other classes apart, or is for images of another size.
    """
    if not config.reference:
        return None
    opened = open_reference(config.reference, images, config.trust_code)
    return _voter(opened.network, opened.name, opened.fingerprint, images, device)


def train_reference(folder: Path, images: ImageSet, seed: int, fabric: Fabric) -> None:
    """Train a reference into `folder`, unless it is there; goes on where it was stopped.

    Args:
        folder: of the reference.
        images: the training images.
        seed: of the audit; the reference's own follows from it.
        fabric: the machine.
    """
    if (folder / FILE).is_file():
        return
    own = derive(seed, "audit", "reference") % 2**31
    chosen = images[torch.randperm(len(images), generator=generator(own, "images"))[:IMAGES]]
    network, options = _built(images, own), TrainOptions()
    trainee = ClassifierTrainee(network, Nominal(), chosen, options, own, fabric)
    loop = Loop("train reference", options.steps(chosen), folder, f"reference {chosen.fingerprint} {own}")
    loop.train(trainee)
    write_tensors(folder / FILE, "reference", network.state_dict(), {"images": len(chosen)})
    loop.finish()


def own_reference(folder: Path, images: ImageSet, device: torch.device) -> Voter:
    """What `train_reference` wrote.

    Raises:
        UserError: missing or damaged, or trained on images of another size or number of classes.
    """
    tensors, metadata = read_tensors(folder / FILE, "reference")
    network = _built(images, 0)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        channels, side, _ = images.shape
        raise UserError(
            f"{folder / FILE}: not trained on images like these ({side}x{side} pixels, {channels} channels, "
            f"{len(images.classes)} classes); name a --reference of these"
        ) from error
    name = f"a small ConvMixer, trained on {metadata['images']:,} of the training images"
    return _voter(network.eval().requires_grad_(False), name, fingerprint(network), images, device)


def _voter(network: nn.Module, name: str, mark: str, images: ImageSet, device: torch.device) -> Voter:
    some = images[torch.randperm(len(images), generator=generator(0, "audit", "right_train"))[:1000]]
    network = network.to(device)
    return Voter(network, name, mark, accuracy(network, some, device))


def _built(images: ImageSet, seed: int) -> nn.Module:
    channels, side, _ = images.shape
    with global_seed(seed):
        return patch_net(len(images.classes), channels, side)
