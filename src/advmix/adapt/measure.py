"""How right a classifier is at home, with the styles of a site, and at the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet, slices, to_bytes
from advmix.encoders.network import start_latents
from advmix.intervals import balanced_share, wilson
from advmix.metrics import DRAWN_TOGETHER, predict_in_turns, predict_pixels
from advmix.mixing import Mix, RandMix, draw_all_donors
from advmix.pools import FittedModel
from advmix.utils.device import in_turns
from advmix.utils.memory import in_parts
from advmix.utils.torch_tools import answers, eval_mode, generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOSS_ALLOWED = 0.02
"""Balanced accuracy that a classifier may lose at home, on validation images as they are."""


PARTIAL = 0.1
"""So much lower a forecast with statistics of the site may be than one without: it is partial to weights alone, which
were trained on the very styles that it is about. On four made changes of stain the statistics helped in three, where
the forecast fell by up to eight points, and did harm in one, where it fell by more than thirty.
"""


@dataclass(frozen=True, eq=False)
class SiteStyles:
    """The styles of a site, to be put into images.

    Args:
        model: generator, encoder, and the pool of the site's styles, on their device.
        strength: how far towards a donor, in [0, 1].
        seed: fixes the donors.
    """

    model: FittedModel
    strength: float
    seed: int

    @property
    def mixer(self) -> RandMix:
        """Puts the style of a random image of the site into an image."""
        return RandMix(self.model.generator, self.model.split, self.strength)

    @property
    def residual(self) -> bool:
        """Whether images keep what the generator cannot draw of them: it was not fitted to them."""
        return self.model.generator.any_size

    @torch.no_grad()
    def put_into(self, images: Tensor, *place: int | str) -> tuple[Tensor, Tensor]:
        """Images with a style of the site each, and whose it is.

        Args:
            images: `(B, C, H, W)` in [0, 1].
            place: names the draw; the same one has the same donors.

        Returns:
            `(B, C, H, W)` in [0, 1], and `(B,)`, numbers of images of the site.
        """
        pool, rng = self.model.pool, generator(self.seed, "adapt", *place)
        donors = draw_all_donors(self.mixer.search, len(images), len(pool), None, rng)
        parts = in_parts(lambda rows: self._mix(images[rows], donors[..., rows]), len(images), pool.styles.device)
        return torch.cat([mix.images for mix in parts]), torch.cat([mix.donors for mix in parts])

    def _mix(self, images: Tensor, donors: Tensor) -> Mix:
        """All of them at once."""
        model, shown = self.model, images.to(self.model.pool.styles.device)
        with eval_mode(model.encoder) as (encoder,):
            own = None if model.generator.any_size else encoder(shown)
            start = start_latents(model.generator, model.encoder, shown, own, self.residual)
        labels = torch.zeros(len(shown), dtype=torch.int64, device=shown.device)
        return self.mixer(None, start, labels, model.pool, donors=donors)

    def imitate(self, images: ImageSet, count: int) -> ImageSet:
        """So many images of home with a style of the site each: what the site would be if style were all."""
        order = torch.randperm(len(images), generator=generator(self.seed, "adapt", "imitate"))[:count]
        parts = [images[order[part]] for part in slices(len(order), DRAWN_TOGETHER)]
        found = [self.put_into(part.batch(slice(None))[0], "imitate", i)[0].cpu() for i, part in enumerate(parts)]
        return ImageSet(to_bytes(torch.cat(found)), images.labels[order], images.classes)


@torch.no_grad()
def right_with_styles(
    network: nn.Module,
    images: ImageSet,
    styles: SiteStyles,
    donors: int,
    advance: Callable[[int, str], None],
    fabric: Fabric | None = None,
) -> Tensor:
    """For each image the share of its donors with whose styles the classifier is right: `(N,)`.

    Args:
        network: images to logits, on the device of the styles.
        images: labelled.
        styles: of the site.
        donors: for each image; the same ones for every classifier.
        advance: is told how many images are done.
        fabric: the processes that take turns with the images; None for one.
    """
    with eval_mode(network) as (model,):

        def measure(part: slice) -> Tensor:
            shown, labels = images.batch(part)
            hits = torch.zeros(len(labels), dtype=torch.float64)
            for number in range(donors):
                mixed = styles.put_into(shown, images.fingerprint, part.start, number)[0]
                hits += answers(predict_pixels(model, mixed)) == labels
            advance(len(labels), "")
            return hits / donors

        return torch.cat(in_turns(fabric, list(slices(len(images), DRAWN_TOGETHER)), measure))


def share_entry(hits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracies with their intervals, and the accuracy of each class that there is, as they go into `results.json`.

    Args:
        hits: `(N,)`, boolean or in [0, 1].
        labels: `(N,)`.
        classes: names.
    """
    of_class = {}
    for label in labels.unique().tolist():
        own = hits[labels == label].double()
        of_class[classes[label]] = {"accuracy": float(own.mean()), "images": len(own)}
    return {
        "balanced": balanced_share(hits, labels).to_dict(),
        "accuracy": wilson(float(hits.double().sum()), len(hits)).to_dict(),
        "images": len(hits),
        "by_class": of_class,
    }


def right_as_it_is(network: nn.Module, images: ImageSet, fabric: Fabric) -> Tensor:
    """Whether a classifier is right on each image: `(N,)`."""
    return answers(predict_in_turns(fabric, network, images, fabric.device)) == images.labels


def mean_confidence(network: nn.Module, images: ImageSet, fabric: Fabric) -> float:
    """Mean probability of the answers, whatever the labels are."""
    return float(predict_in_turns(fabric, network, images, fabric.device).amax(dim=1).nan_to_num(0.0).mean())


WEIGHTS_OF = {"none": "none", "normalisation": "none", "styles": "styles", "both": "styles"}
"""Of a candidate, the one with the same weights and normalisation statistics of home."""


def hurts(entries: Sequence[Mapping[str, Any]], keep_home: bool) -> list[bool]:
    """Which candidates lose too much at home, on validation images as they are.

    Normalisation statistics belong to a place: a candidate with those of the site is judged by its weights, with
    statistics of home, unless it shall serve home as it is.

    Args:
        entries: of each candidate, that of the classifier as it is first.
        keep_home: whether one classifier shall serve both.
    """
    at_home = {entry["name"]: entry["validation"]["home"]["balanced"]["value"] for entry in entries}
    judged = [at_home[entry["name"] if keep_home else WEIGHTS_OF[entry["name"]]] for entry in entries]
    return [judged[0] - value > LOSS_ALLOWED + 1e-9 for value in judged]


def choose(entries: Sequence[Mapping[str, Any]], keep_home: bool) -> int:
    """The candidate that is kept: of those that do not hurt at home the best on validation images with styles of the
    site, the first among equals. No label of the site is known here.

    Weights that were trained on the styles of the site take its statistics, too, where that costs no more than
    `PARTIAL` and is still better than the classifier as it is.

    Args:
        entries: of each candidate, that of the classifier as it is first.
        keep_home: whether one classifier shall serve both.
    """
    forecasts = {entry["name"]: float(entry["validation"]["styles"]["balanced"]["value"]) for entry in entries}
    hurt = hurts(entries, keep_home)
    allowed = [entry["name"] for entry, bad in zip(entries, hurt, strict=True) if not bad]
    best = max(allowed, key=lambda name: forecasts[name])
    if best == "styles" and "both" in allowed and forecasts["both"] > forecasts["none"]:
        best = "both" if forecasts["styles"] - forecasts["both"] <= PARTIAL else best
    return list(forecasts).index(best)
