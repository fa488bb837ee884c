"""Methods that only the studies train: controls that could refute the others, and variants for faces.

Importing this module makes them methods of `train`, and gives them a name and a colour in every figure and table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from advmix.commands.train import TrainConfig
from advmix.data.datasets import Data, open_data, painted_digits
from advmix.data.digits import Painting
from advmix.data.settings import DataConfig
from advmix.report import drawing
from advmix.report.drawing import Method
from advmix.training import methods
from advmix.training.methods import METHODS, BaselineOptions
from advmix.training.objectives import Augment, Batch, Mixing, Objective, WithCopy
from advmix.utils.torch_tools import answers, eval_mode

EPOCHS_FACTOR = {"nominal-long": 8, "randmix-long": 2}
"""Another method for so many times the epochs, as long as AdvMix takes."""

BEST, BEST_OF = "randmix-best", 4
"""Trains on the worst of so many random mixes, as long as AdvMix takes: AdvMix without a gradient."""

EQUAL_COMPUTE = (*EPOCHS_FACTOR, BEST)

LONG, REFIT = "-long", "-refit"
"""End the name of a method that is another one for more epochs; of one whose last layer was fitted again."""

NEEDS_LATENTS = (*methods.NEEDS_LATENTS, "randmix-long", BEST)

CONTROLS = ("ceiling", "recolor", "jitter", "permute", "grayscale", "instnorm", *EQUAL_COMPUTE)


class Recolor(WithCopy):
    """The oracle augmentation: the same digit in random paint (a control that knows what the nuisance is).

    Args:
        gray: the training digits without colour, `(N, 1, H, W)` uint8, in the training set's order.
        look: how digits are painted.
        clean_weight: see `WithCopy`.
    """

    def __init__(self, gray: Tensor, look: Painting, clean_weight: float = 0.5) -> None:
        super().__init__(clean_weight)
        self.gray, self.look = gray, look

    def copy(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Repainted digits."""
        gray = self.gray[batch.index].float() / 255
        painted = self.look.paint(gray, self.look.anything(len(gray), rng))
        return painted.to(batch.images.device).contiguous(memory_format=torch.channels_last)


class FilteredMixing(Mixing):
    """`Mixing` without mixes that lost their label: where a reference does not see it, the clean image stands instead.

    So the weights of the two losses stay what they are, and a batch its size; a mix that is dropped would change both.

    Args:
        mixing: what makes the mixes.
        reference: images in [0, 1] to logits, on the classifier's device; it should not share the classifier's errors.
    """

    def __init__(self, mixing: Mixing, reference: nn.Module) -> None:
        super().__init__(mixing.mixer, mixing.pool, mixing.clean_weight, mixing.encoder, mixing.residual)
        self.reference = reference

    def copy(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """The mixes whose label the reference sees, and the other images as they are."""
        mixes = super().copy(classifier, batch, rng)
        with torch.no_grad(), eval_mode(self.reference) as (reference,):
            kept = answers(reference(mixes)) == batch.labels
        return torch.where(kept[:, None, None, None], mixes, batch.images)


def _recolor(data: Data, options: BaselineOptions) -> tuple[Objective, dict[str, Any]]:
    digits, weight = painted_digits(data, "method recolor"), options.clean_weight
    return Recolor(digits.gray_train.pixels, digits.look, weight), {"clean_weight": weight}


def _permute(data: Data, options: BaselineOptions) -> tuple[Objective, dict[str, Any]]:
    from torchvision.transforms import v2

    return Augment(v2.RandomChannelPermutation(), options.clean_weight), {"clean_weight": options.clean_weight}


methods.OBJECTIVES |= {"recolor": _recolor, "permute": _permute}


def check_method(name: str) -> None:
    """Refuse a method that does not exist.

    Raises:
        UserError: with the names that do.
    """
    methods.check_method(name, EQUAL_COMPUTE)


def check_methods(names: tuple[str, ...]) -> None:
    """Refuse a list of methods that is empty, or names one that does not exist, or one twice.

    Raises:
        UserError: saying which.
    """
    methods.check_methods(names, EQUAL_COMPUTE)


def passes_of(method: str) -> int:
    """How many times the usual epochs a method is trained for."""
    return EPOCHS_FACTOR.get(method, 1)


def training(method: str, config: TrainConfig, data: DataConfig) -> TrainConfig:
    """`config` for a method; a control of equal compute is another method, for longer or with another search."""
    if method == BEST:
        return replace(config, method="advmix", search=replace(config.search, restarts=BEST_OF, steps=0))
    if method not in EPOCHS_FACTOR:
        return replace(config, method=method)
    longer = config.train.times(EPOCHS_FACTOR[method], open_data(data, config.seed).train)
    return replace(config, method=method.removesuffix(LONG), train=longer)


STYLES = {
    "linf4": Method("l∞ 4/255", "#dd9fc3", "Images with every pixel moved by up to 4/255, to hurt most."),
    "linf8": Method("l∞ 8/255", "#a0447c", "Images with every pixel moved by up to 8/255, to hurt most."),
    "augmix": Method("AugMix", "#b07d2b", "Each image also as a mixture of chains of usual augmentations.", True),
    "reconstructed": Method(
        "Reconstructions", "#777777", "Nominal training on what the generator makes of the images.", True
    ),
    "advmix-small": Method(
        "AdvMix, few images", "#6a51a3", "AdvMix with a generator that saw the labelled images alone.", True
    ),
    "advmix-filtered": Method(
        "AdvMix, filtered", "#5b9bd5", "AdvMix without the mixes that a reference no longer labels alike.", True
    ),
    "advmix-decoded": Method(
        "AdvMix, as decoded", "#1f3b73", "AdvMix on mixes without what the autoencoder could not reconstruct.", True
    ),
    "pretrained": Method("From the encoder", "#117733", "Nominal training that begins with the encoder.", True),
    "recolor": Method(
        "Recolour", "#d55e00", "Each image also repainted in a random colour: a perfect generator.", True
    ),
    "permute": Method("Permuted RGB", "#882255", "Each image also with its colour channels in a random order.", True),
    "nominal-long": Method(
        "Nominal, longer", "#7f858e", "Ordinary training for more epochs, to take about as long as AdvMix.", True
    ),
    "randmix-long": Method(
        "RandMix, longer", "#44aa99", "RandMix for more epochs, to take about as long as AdvMix.", True
    ),
    "randmix-best": Method(
        "RandMix, worst of n", "#8a7fd6", "The worst of several random mixes: AdvMix without a gradient.", True
    ),
}

ORDER = (
    *METHODS,
    *("linf4", "linf8", "augmix", "reconstructed"),
    *("advmix-small", "advmix-filtered", "advmix-decoded", "pretrained"),
    *CONTROLS,
)
"""Of the lines in tables."""


def _add_styles() -> None:
    known = drawing.METHODS | STYLES
    drawing.METHODS.clear()
    drawing.METHODS.update({name: known[name] for name in ORDER})
    for name in ORDER:
        meaning = f"{known[name].meaning} Then the last layer again, on balanced groups."
        refitted = Method(f"{known[name].label}, refitted", known[name].color, meaning, control=True)
        drawing.METHODS[name + REFIT] = refitted


_add_styles()
