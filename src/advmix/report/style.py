"""How methods are called and coloured, the same in every figure and table.

Colours after Okabe and Ito, safe for colour-blind readers and dark enough on white;
the two mixing methods are the two blues.
"""

from __future__ import annotations

from dataclasses import dataclass

INK = "#1c2430"
MUTED = "#6a7383"
TRACK = "#eceff3"
RIGHT = "#1a8a4a"
WRONG = "#c8321f"
DPI = 200


@dataclass(frozen=True)
class Method:
    """One way of training: display name, colour, a sentence about it; a control is there to be compared with: it knows
    what the others may not know, or is what else could explain their difference.
    """

    label: str
    color: str
    meaning: str
    control: bool = False


METHODS = {
    "nominal": Method("Nominal", "#4a4f57", "Ordinary training on the biased images."),
    "mixup": Method("mixup", "#e69f00", "Weighted averages of two training images, and of their labels."),
    "linf": Method("l∞ adversarial", "#cc79a7", "Images with every pixel moved, within a small bound, to hurt most."),
    "randmix": Method("RandMix", "#56b4e9", "Each image also with the z⊥ of another one, drawn at random."),
    "advmix": Method(
        "AdvMix", "#0072b2", "Each image also with the z⊥ that a search found to hurt the classifier most."
    ),
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
    "ceiling": Method(
        "Ceiling", "#009e73", "Trained on digits whose colours say nothing: the data one would want.", True
    ),
    "recolor": Method(
        "Recolour", "#d55e00", "Each image also repainted in a random colour: a perfect generator.", True
    ),
    "jitter": Method(
        "Colour jitter", "#999933", "Each image also with brightness, contrast, saturation and hue changed.", True
    ),
    "permute": Method("Permuted RGB", "#882255", "Each image also with its colour channels in a random order.", True),
    "grayscale": Method("Greyscale", "#9aa1ab", "Sees no colour, because somebody knew that colour misleads.", True),
    "instnorm": Method(
        "Instance norm", "#332288", "Sees every channel less its mean, over its deviation: nearly no colour.", True
    ),
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


REFIT = "-refit"
"""Ends the name of a method whose last layer was fitted again on balanced groups."""


def method(name: str) -> Method:
    """What is known of a method; one that is not known is called by its own name, in grey."""
    base = METHODS.get(name.removesuffix(REFIT), Method(name, MUTED, ""))
    if name not in METHODS and name.endswith(REFIT) and base.meaning:
        meaning = f"{base.meaning} Then the last layer again, on balanced groups."
        return Method(f"{base.label}, refitted", base.color, meaning, control=True)
    return base


def method_label(name: str) -> str:
    """Display name, `"linf"` to `"l∞ adversarial"`."""
    return method(name).label


def method_color(name: str) -> str:
    """Colour as `#rrggbb`."""
    return method(name).color
