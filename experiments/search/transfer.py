"""What the search finds: is a worst mix still a recolouring of its digit, and can another classifier still read it?

A digit in flat colours is a linear function of the grey digit, pixel by pixel: `image = ground + gray * (paint -
ground)`. So linear regression on the grey digit says which colours a mix comes nearest to, and how much of it no
recolouring explains.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from advmix.audit.results import as_record
from advmix.data.digits import LUMA, MIN_BRIGHTNESS
from advmix.metrics import share
from advmix.mixing import RandMix, SearchOptions
from advmix.utils.torch_tools import generator
from experiments.search.generators import OWN
from experiments.search.measure import Bench, Record, search_of

QUANTILES = (0.1, 0.5, 0.9)


def flat_paint(images: Tensor, gray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The flat recolouring nearest to each image, by least squares.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        gray: `(N, 1, H, W)` in [0, 1], the digit without colour.

    Returns:
        Colour of the digit and of the ground, `(N, 3)` each, and the share of the image's variance that the
        recolouring leaves unexplained, `(N,)` in [0, 1]; 1 for an image without any variance.
    """
    x, g = images.double().flatten(2), gray.double().flatten(2)
    centred, basis = x - x.mean(dim=2, keepdim=True), g - g.mean(dim=2, keepdim=True)
    slope = (centred * basis).sum(dim=2) / basis.square().sum(dim=2)
    ground = x.mean(dim=2) - slope * g.mean(dim=2)
    rest = (centred - slope[:, :, None] * basis).square().sum(dim=(1, 2))
    whole = centred.square().sum(dim=(1, 2))
    unexplained = torch.where(whole > 0, rest / whole.clamp_min(1e-30), torch.ones_like(whole))
    return ground + slope, ground, unexplained


def describe(images: Tensor, gray: Tensor) -> dict[str, Any]:
    """Contrast and unexplained variance of images `(N, 3, H, W)`, as quantiles over the images.

    The contrast is the difference in Rec. 601 luma between the digit's and the ground's colour. `below_floor` is the
    share of images with less contrast than any colour of the grid of `colored` has on black.
    """
    paint, ground, unexplained = flat_paint(images.cpu(), gray)
    contrast = ((paint - ground) @ LUMA.double()).abs()
    return {
        "contrast": _quantiles(contrast),
        "unexplained": _quantiles(unexplained),
        "below_floor": share(contrast < MIN_BRIGHTNESS),
    }


def _quantiles(values: Tensor) -> list[float]:
    return [round(float(value), 6) for value in torch.quantile(values, torch.tensor(QUANTILES, dtype=values.dtype))]


def found(
    bench: Bench, method: str, search: SearchOptions, reference: nn.Module, shown: int
) -> tuple[Record, dict[str, Tensor]]:
    """The worst mixes of one classifier: what they look like, and whether `reference` still reads them.

    Returns:
        Numbers, and tensors of the first `shown` images for a picture.
    """
    judge, name = bench.classifier(method)
    searched, labels = bench.searched(OWN), bench.labels.cpu()
    nested = search_of(bench, judge, searched, search, f"{method}: worst mixes")
    own, other = (bench.read(model, nested.images) for model in (judge, reference))
    record = {
        "method": method,
        "seed": bench.cell.seed,
        **describe(nested.images, bench.gray.pixels.float() / 255),
        "accuracy_reconstruction": share(nested.plain),
        "accuracy_random_mixes": share(nested.right(search.restarts, 0)),
        "accuracy_worst_case": share(nested.right(search.restarts, search.steps)),
        "accuracy_reference": share(other.argmax(dim=1) == labels),
        "classifier": name,
        "key": as_record(bench.key(searched, search)),
    }
    confidence, predictions = own.max(dim=1)
    columns = {
        "originals": bench.images,
        "variations": nested.images,
        "labels": labels,
        "predictions": predictions,
        "confidence": confidence,
        "reference": other.argmax(dim=1),
    }
    return record, {key: column[:shown] for key, column in columns.items()}


@torch.no_grad()
def populations(bench: Bench, reference: nn.Module) -> list[Record]:
    """What the worst mixes are held against: images, their reconstructions, random mixes and recolourings; all of them
    as `reference` reads them."""
    labels, gray = bench.labels.cpu(), bench.gray.pixels.float() / 255
    return [
        {
            "population": name,
            "seed": bench.cell.seed,
            **describe(torch.cat([part.cpu() for part in parts]), gray.repeat(len(parts), 1, 1, 1)),
            "accuracy_reference": share(
                bench.read(reference, torch.cat(parts)).argmax(dim=1) == labels.repeat(len(parts))
            ),
        }
        for name, parts in _populations(bench).items()
    ]


def _populations(bench: Bench) -> dict[str, list[Tensor]]:
    """Sets of images of the bench's digits, each `(N, 3, H, W)`, several where there are several of every digit."""
    searched = bench.searched(OWN)
    decoder, codes, split = searched.model.generator, searched.latents, bench.split(searched)
    rng = generator(bench.cell.seed, "search", "random mixes")
    paints = list(bench.recolorings())
    lent = [split.combine(codes, bench.encode(searched.model, images)) for images in paints]
    return {
        "test images": [bench.images],
        "recolourings": paints,
        "reconstructions": [decoder(codes)],
        "recolourings, mixed": [decoder(latents) for latents in lent],
        "random mixes": [RandMix(decoder, split)(None, codes, bench.labels, searched.pool, rng=rng).images],
    }
