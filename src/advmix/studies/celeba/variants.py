"""Ways to train the photo autoencoder, by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from advmix.audit.evaluate import predict
from advmix.data import ImageSet
from advmix.encoders.features import Activations
from advmix.errors import UserError
from advmix.training.autoencode import FitOptions
from advmix.training.mixes import MixOptions, MixTrainee

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BASE = "base"


@dataclass(frozen=True)
class Variant:
    """What is another than in the studies' own generator.

    Args:
        meaning: in words.
        changes: fields of `FitOptions`.
        longer: times the steps.
        mix: what is asked of mixes.
        perp: layers that are z⊥ unless a study is told others; none for all styles, beside a grid.
    """

    meaning: str
    changes: tuple[tuple[str, Any], ...] = ()
    longer: int = 1
    mix: MixOptions = field(default_factory=MixOptions)
    perp: tuple[int, ...] = ()

    def options(self, fit: FitOptions, side: int) -> FitOptions:
        """How it is trained, for images of this size."""
        longer = {"fit_steps": self.longer * fit.steps(side)} if self.longer > 1 else {}
        return replace(fit, **{**longer, **dict(self.changes)})

    @property
    def is_taught(self) -> bool:
        """Whether it learns from a classifier: by its features, or by what it recognises."""
        return self.mix.survival_weight > 0 or dict(self.changes).get("perceptual_weight", 0) > 0

    def trainee(
        self, images: ImageSet, options: FitOptions, seed: int, fabric: Fabric, teacher: nn.Module | None
    ) -> MixTrainee:
        """Generator and encoder, to be trained.

        Args:
            images: without labels.
            options: how they are trained, as `options` says.
            seed: fixes them.
            fabric: the machine.
            teacher: on its device; trained on the labelled images alone. What it takes the others for stands for their
                labels, so that no more labels are used.
        """
        features, reference = None, teacher if self.mix.survival_weight else None
        if teacher is not None and options.perceptual_weight:
            features = Activations(teacher.requires_grad_(False))
        if reference is not None:
            logits = predict(reference, images, fabric.device)
            images = ImageSet(images.pixels, logits.argmax(dim=1), tuple(map(str, range(logits.shape[1]))))
        return MixTrainee(images, options, seed, fabric, self.mix, reference=reference, features=features)


VARIANTS = {
    BASE: Variant("the studies' own"),
    "longer": Variant("four times the steps", longer=4),
    "perceptual": Variant("with the error of a classifier's features", (("perceptual_weight", 0.1),)),
    "adversarial": Variant("a discriminator on reconstructions and mixes", mix=MixOptions(adversarial_weight=0.1)),
    "survival": Variant("a classifier must recognise mixes", mix=MixOptions(survival_weight=0.1)),
    "grid4": Variant("a grid of 4 channels", (("grid_channels", 4),)),
    "grid16": Variant("a grid of 16 channels", (("grid_channels", 16),)),
    "vector": Variant("styles alone, no grid", (("grid_channels", 0),), perp=(-4, -3, -2, -1)),
}


def check_variant(name: str, flag: str) -> None:
    """Refuse a name that is none.

    Raises:
        UserError: naming the flag and all variants.
    """
    if name not in VARIANTS:
        raise UserError(f"{flag} {name}: unknown; choose from {' '.join(VARIANTS)}")
