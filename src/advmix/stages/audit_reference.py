"""The reference that votes whether a mix still shows its label: another architecture, another seed, the same images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from advmix.audit.evaluate import accuracy
from advmix.data import ImageSet
from advmix.encoders import fingerprint
from advmix.files import make_folder, write_tensors
from advmix.seeds import derive, generator
from advmix.stages.audit_config import AuditConfig
from advmix.stages.reference import OWN, built, open_reference, own_network
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Nominal

if TYPE_CHECKING:
    from lightning_fabric import Fabric

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
    if (folder / OWN).is_file():
        return
    make_folder(folder)
    own = derive(seed, "audit", "reference") % 2**31
    chosen = images[torch.randperm(len(images), generator=generator(own, "images"))[:IMAGES]]
    network, options = built(images, own), TrainOptions()
    trainee = ClassifierTrainee(network, Nominal(), chosen, options, own, fabric)
    loop = Loop("train reference", options.steps(chosen), folder, f"reference {chosen.fingerprint} {own}")
    loop.train(trainee)
    write_tensors(folder / OWN, "reference", network.state_dict(), {"images": len(chosen)})
    loop.finish()


def own_reference(folder: Path, images: ImageSet, device: torch.device) -> Voter:
    """What `train_reference` wrote.

    Raises:
        UserError: missing or damaged, or trained on images of another size or number of classes.
    """
    network, trained_on = own_network(folder, images)
    name = f"a small ConvMixer, trained on {trained_on:,} of the training images"
    return _voter(network, name, fingerprint(network), images, device)


def _voter(network: nn.Module, name: str, mark: str, images: ImageSet, device: torch.device) -> Voter:
    some = images[torch.randperm(len(images), generator=generator(0, "audit", "right_train"))[:1000]]
    network = network.to(device)
    return Voter(network, name, mark, accuracy(network, some, device))
