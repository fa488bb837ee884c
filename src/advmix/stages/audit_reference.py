"""The reference that votes whether a mix still shows its label: another architecture, another seed, the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from advmix.audit.evaluate import accuracy
from advmix.classifiers import ClassifierOptions, OpenClassifier, conv_net, open_classifier
from advmix.data import ImageSet
from advmix.encoders import fingerprint
from advmix.files import read_tensors, write_tensors
from advmix.seeds import derive, generator, global_seed
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Nominal

FILE = "reference.safetensors"
IMAGES = 6000
"""A reference of our own is trained on at most so many of the training images: minutes on two cores."""


@dataclass(frozen=True, eq=False)
class Voter:
    """A reference in eval mode, on its device.

    Attributes:
        network: images of the generator's size, in [0, 1], to logits.
        name: what a person reads.
        fingerprint: of weights and architecture.
    """

    network: nn.Module
    name: str
    fingerprint: str


def residual_net(classes: int, channels: int, side: int) -> nn.Module:
    """A residual network of ten layers, torchvision's blocks (He et al., 2016): unlike the studies' `conv_net`."""
    from torchvision.models.resnet import BasicBlock, ResNet

    network: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    network.conv1 = nn.Conv2d(channels, 64, 3, stride=2 if side >= 32 else 1, padding=1, bias=False)
    return network


def named_reference(name: str, images: ImageSet, device: torch.device) -> Voter:
    """Somebody's classifier of these images.

    Raises:
        UserError: it cannot be read, or tells other classes apart.
    """
    channels, height, width = images.pixels.shape[1:]
    opened = open_classifier(ClassifierOptions(name), images.classes, (channels, height, width))
    return Voter(opened.network.to(device), opened.name, opened.fingerprint)


def train_reference(
    folder: Path, images: ImageSet, audited: Sequence[OpenClassifier], seed: int, fabric: Fabric
) -> None:
    """Train a reference into `folder`, unless it is there; goes on where it was stopped.

    Args:
        folder: of the reference.
        images: the training images.
        audited: the classifiers under audit, whose architecture it must not share.
        seed: of the audit; the reference's own follows from it.
        fabric: the machine.
    """
    if (folder / FILE).is_file():
        return
    own = derive(seed, "audit", "reference") % 2**31
    chosen = images[torch.randperm(len(images), generator=generator(own, "images"))[:IMAGES]]
    architecture = "residual" if any(opened.method != "unknown" for opened in audited) else "plain"
    network, options = _built(architecture, images, own), TrainOptions()
    trainee = ClassifierTrainee(network, Nominal(), chosen, options, own, fabric)
    loop = Loop("train reference", options.steps(chosen), folder, f"reference {chosen.fingerprint} {architecture}")
    loop.train(trainee)
    write_tensors(folder / FILE, "reference", network.state_dict(), {"architecture": architecture, "images": len(chosen)})
    loop.finish()


def own_reference(folder: Path, images: ImageSet, device: torch.device) -> Voter:
    """What `train_reference` wrote.

    Raises:
        UserError: missing or damaged.
    """
    tensors, metadata = read_tensors(folder / FILE, "reference")
    network = _built(metadata["architecture"], images, 0)
    network.load_state_dict(tensors)
    words = {"residual": "a small residual network", "plain": "a small convolutional network"}
    name = f"{words[metadata['architecture']]}, trained on {metadata['images']:,} of the training images"
    return Voter(network.eval().requires_grad_(False).to(device), name, fingerprint(network))


def votes_right(voter: Voter, images: ImageSet, device: torch.device) -> float:
    """Its accuracy on images of the generator's size."""
    return accuracy(voter.network, images, device)


def _built(architecture: str, images: ImageSet, seed: int) -> nn.Module:
    with global_seed(seed):
        classes, channels, side = len(images.classes), int(images.pixels.shape[1]), int(images.pixels.shape[2])
        return residual_net(classes, channels, side) if architecture == "residual" else conv_net(classes, channels)
