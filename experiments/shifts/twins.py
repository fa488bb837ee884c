"""Does a classifier that withstands our mixes withstand the true twin? On images whose twins are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from advmix.metrics import predict
from advmix.utils.torch_tools import answers, generator
from experiments.shifts.sets import SiteImages
from experiments.shifts.worst_case import withstood

IMAGES = 400
"""Twins that are searched."""


def measure_twins(network: nn.Module, site: SiteImages, device: torch.device, seed: int) -> dict[str, Any]:
    """How right a classifier is on twins from the site, by whether it withstands mixes of the plain ones with styles of
    the site's unlabelled images. Asked of judged images whose plain twin it knows.

    Args:
        network: on its device.
        site: with twins.
        device: where to ask.
        seed: of the donors, and of which images.

    Returns:
        `images`, that were asked; `withstood`, the share of them; `right_withstood` and `right_flipped`, how right it
        is on the true twins of those that withstood and of the others (None of none).
    """
    assert site.twins is not None
    judged = site.is_judged.nonzero()[:, 0]
    rows = judged[torch.randperm(len(judged), generator=generator(seed, "shifts", "twins"))[:IMAGES]]
    plain, true = site.twins[rows], site.images[rows]
    known = answers(predict(network, plain, device)) == plain.labels
    right = answers(predict(network, true, device)) == true.labels
    safe = withstood(network, plain, site.unlabelled, device, seed)
    return {
        "images": int(known.sum()),
        "withstood": _share(safe[known]),
        "right_withstood": _share(right[known & safe]),
        "right_flipped": _share(right[known & ~safe]),
    }


def _share(mask: Tensor) -> float | None:
    return float(mask.double().mean()) if len(mask) else None
