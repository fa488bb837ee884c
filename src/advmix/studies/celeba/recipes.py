"""The methods of the face study by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.classifiers import conv_net
from advmix.data import ImageSet, slices, to_bytes, to_float
from advmix.encoders import Autoencoder, Encoder, encoded
from advmix.latents import Latents
from advmix.mixing import Mixer, RandMix
from advmix.report.style import REFIT
from advmix.seeds import derive, global_seed
from advmix.training.methods import LONG, BaselineOptions, Recipe, SearchOptions, passes_of
from advmix.training.objectives import Adversarial, Augment, FilteredMixing, Mixing, Mixup, Nominal, Objective

METHODS = ("nominal", "mixup", "linf4", "linf8", "randmix", "advmix")
CONTROLS = (
    "nominal-long",
    "randmix-long",
    "jitter",
    "augmix",
    "reconstructed",
    "advmix-small",
    "pretrained",
    "advmix-filtered",
    "advmix-decoded",
)
NEEDS_ALL = ("randmix", "randmix-long", "advmix", "advmix-filtered", "advmix-decoded", "reconstructed", "pretrained")
"""Methods that use the generator of all training images; `advmix-small` has one that saw the labelled ones alone."""
RADII = {"linf4": 4 / 255, "linf8": 8 / 255}
REFERENCE = "reference"
"""Not a method that is compared: a network of another kind, trained with another seed on the same labels."""
FILTERED = "advmix-filtered"
DECODED = "advmix-decoded"
"""Trains on mixes as they are decoded; the others add the residual `x - dec(enc(x))`, as does every search that judges.
"""
PRETRAINED = "pretrained"
"""The one method whose network is that of an encoder."""


def base_of(method: str) -> str:
    """The method whose features are refitted; any other is its own."""
    return method.removesuffix(REFIT)


def reference_net(classes: int) -> nn.Module:
    """A residual network with four blocks (ResNet-10, He et al., 2016) for three channels: unlike `conv_net` it has
    shortcuts, a pooled stem and three times the depth.
    """
    from torchvision.models.resnet import BasicBlock, ResNet

    network: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    return network.to(memory_format=torch.channels_last)


class EncoderClassifier(nn.Module):
    """A copy of an encoder with a linear layer on its latents: what the encoder's training alone is worth.

    Args:
        encoder: where the weights come from; they are trained further.
        latents: of any image, for their number.
        classes: of the output.
    """

    def __init__(self, encoder: Encoder, latents: Latents, classes: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.linear = nn.Linear(sum(part[0].numel() for part in latents.tensors().values()), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] to logits."""
        latents = self.encoder(images)
        logits: Tensor = self.linear(torch.cat([part.flatten(1) for part in latents.tensors().values()], dim=1))
        return logits


@dataclass(frozen=True, eq=False)
class Kit:
    """What recipes are made of.

    Args:
        images: labelled.
        model: generator and encoder of the method.
        search: Algorithm 1's settings.
        baseline: settings of the other methods.
        seed: of the first weights.
        reference: says which mixes lost their label, for `advmix-filtered`.
    """

    images: ImageSet
    model: Autoencoder | None
    search: SearchOptions
    baseline: BaselineOptions
    seed: int
    reference: nn.Module | None = None

    def recipe(self, method: str) -> Recipe:
        """What a method trains with."""
        images = reconstructed(self.images, self.autoencoder) if method == "reconstructed" else self.images
        objective = self._objective(method.removesuffix(LONG))
        return Recipe(self.network(method), objective, images, {}, passes_of(method, self.baseline))

    @property
    def autoencoder(self) -> Autoencoder:
        """Generator and encoder, where they are needed."""
        assert self.model is not None
        return self.model

    def network(self, method: str) -> nn.Module:
        """The classifier, with its first weights."""
        channels, classes = int(self.images.pixels.shape[1]), len(self.images.classes)
        if method == REFERENCE:
            with global_seed(derive(self.seed, REFERENCE)):
                return reference_net(classes)
        with global_seed(self.seed):
            if method != PRETRAINED:
                return conv_net(classes, channels)
            encoder = self.autoencoder.encoder
            with torch.no_grad():
                latents = encoder(self.images.batch(slice(0, 1))[0].to(next(encoder.parameters()).device))
            return EncoderClassifier(encoder, latents, classes).cpu()

    def _objective(self, method: str) -> Objective:
        baseline, weight = self.baseline, self.baseline.clean_weight
        if method == "mixup":
            return Mixup(len(self.images.classes), baseline.mixup_alpha)
        if method in RADII:
            return Adversarial(RADII[method], baseline.linf_steps)
        if method in ("jitter", "augmix"):
            return Augment(_transform(method, baseline.jitter), weight)
        if method in ("randmix", "advmix", "advmix-small", DECODED):
            return self._mixing(method)
        if method == FILTERED:
            assert self.reference is not None
            return FilteredMixing(self._mixing(method), self.reference)
        return Nominal()

    def _mixing(self, method: str) -> Mixing:
        model = self.autoencoder
        split = self.search.split(model.generator.layers)
        mixer: Mixer = RandMix(model.generator, split) if method == "randmix" else self.search.mixer(model)
        pool, residual = encoded(self.images, model.encoder), self.baseline.residual and method != DECODED
        return Mixing(mixer, pool, self.baseline.clean_weight, model.encoder, residual)


@torch.no_grad()
def reconstructed(images: ImageSet, model: Autoencoder) -> ImageSet:
    """What the generator makes of a set."""
    latents = encoded(images, model.encoder)
    parts = [to_bytes(model.generator(latents[part])).cpu() for part in slices(len(images), 256)]
    return ImageSet(torch.cat(parts), images.labels, images.classes)


def _transform(method: str, strength: float) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    if method == "jitter":
        jitter: Callable[[Tensor], Tensor] = v2.ColorJitter(strength, strength, strength, strength)
        return jitter
    augmix = v2.AugMix()
    return lambda image: to_float(augmix(to_bytes(image))[None])[0]
