"""Attacks as functions `(model, x, y) -> x`: our search among them, and to foolbox and back.

>>> attack = MixAttack(AdvMix(parts.generator, split, restarts=5, steps=5), parts.encoder, parts.pool)
>>> worse = attack(model, images, labels)              # images in [0, 1], and so is what comes back
>>> attack = FoolboxAttack(foolbox.attacks.LinfPGD(), epsilon=8 / 255)
>>> to_foolbox(mix_attack)(fmodel, images, labels, epsilons=None)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advmix.encoders.base import Encoder
from advmix.errors import UserError
from advmix.latents import Latents
from advmix.mixing import Loss, Mixer, calibrated, cross_entropy
from advmix.modes import evaluating

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A classifier (images in [0, 1] to logits), images `(B, C, H, W)` in [0, 1] and labels `(B,)` to images of the same
shape and range that the classifier may get wrong.
"""


@dataclass(frozen=True, eq=False, repr=False)
class MixAttack:
    """A mixer's search as an attack: encode, look for the worst `z⊥` of the pool, decode.

    It is bounded by what other images show, not by a distance in pixels: the attacked image may lie far from the
    original. Search images that are not in the pool, or an image may be given its own `z⊥`.

    Args:
        mixer: the search, with the generator; `RandMix` for a random mix.
        encoder: of the images, the one that made the pool.
        pool: whose `z⊥` are borrowed; networks, pool and images are on one device.
        residual: whether the mix keeps what the generator cannot draw of the image.
        rng: CPU random generator of the donors; torch's global one when None.
        loss: logits and labels to `(B,)`, which is climbed; by default `advmix.mixing.calibrated` on the images.
    """

    mixer: Mixer
    encoder: Encoder
    pool: Latents
    residual: bool = True
    rng: torch.Generator | None = None
    loss: Loss | None = None

    def __repr__(self) -> str:
        return f"MixAttack({self.mixer!r}, residual={self.residual})"

    @torch.no_grad()
    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `Attack`.

        Raises:
            ValueError: the images are of another size than the generator's.
        """
        dec = self.mixer.generator
        shape = (dec.channels, dec.resolution, dec.resolution)
        if images.shape[1:] != shape:
            raise ValueError(f"images are {tuple(images.shape[1:])}, but the generator draws {shape}")
        with evaluating(self.encoder):
            latents = self.encoder(images)
        if self.residual:
            latents = dec.complete(latents, images)
        judge = model if self.mixer.needs_classifier else None
        loss = cross_entropy if judge is None else self.loss or calibrated(judge, images)
        return self.mixer(judge, latents, labels, self.pool, loss=loss, rng=self.rng).images


@dataclass(frozen=True)
class FoolboxAttack:
    """An attack of foolbox in our shape.

    Args:
        attack: an instance, `foolbox.attacks.LinfPGD(steps=20)`.
        epsilon: radius in the attack's norm, pixels in [0, 1]; None where the attack looks for the smallest change.
    """

    attack: Any
    epsilon: float | None = None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `Attack`."""
        with evaluating(model) as (inner,):
            target = import_foolbox().PyTorchModel(inner, bounds=(0, 1), device=images.device)
            attacked: Tensor = self.attack(target, images, labels, epsilons=self.epsilon)[1]
        return attacked


def to_foolbox(attack: Attack) -> Any:
    """Any attack of our shape as one of foolbox (`MinimizationAttack`, l∞), for evaluation code that is written so.

    It knows no radius: with `epsilons=None` its images count as they are; with a number foolbox clips them to it.
    The criterion is misclassification. The foolbox model may have any bounds.
    """
    foolbox = import_foolbox()

    class FromCallable(foolbox.attacks.base.MinimizationAttack):  # type: ignore[misc, name-defined]
        distance = foolbox.distances.linf

        def __init__(self) -> None:
            self.attack = attack

        def run(self, model: Any, inputs: Any, criterion: Any, *, early_stop: Any = None, **kwargs: Any) -> Any:
            foolbox.attacks.base.raise_if_kwargs(kwargs)
            if not isinstance(criterion := foolbox.attacks.base.get_criterion(criterion), foolbox.Misclassification):
                raise ValueError(f"{attack!r} looks for any wrong class, not for {criterion!r}")
            low, high = model.bounds
            images = (inputs - low) / (high - low)
            found = attack(_Plain(model.transform_bounds((0, 1))), images.raw, criterion.labels.raw)
            return foolbox.attacks.base.ep.astensor(found * (high - low) + low)

    return FromCallable()


class _Plain(nn.Module):
    """A foolbox model as a module; its network's mode is its owner's business."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to logits."""
        logits: Tensor = self.model(images)
        return logits


def import_foolbox() -> Any:
    """The package, imported without its warnings about other packages' futures.

    Raises:
        UserError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import foolbox
            import foolbox.attacks.base
    except ImportError as error:
        raise UserError("foolbox is not installed; pip install 'advmix[attacks]'") from error
    return foolbox
