"""The page of `advmix adapt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from markupsafe import Markup
from torch import Tensor

from advmix.adapt import words
from advmix.adapt.inputs import AdaptInputs
from advmix.adapt.measure import SiteStyles
from advmix.audit.page import image_uri
from advmix.data.images import to_float
from advmix.report.page import environment, resource
from advmix.utils.torch_tools import generator


@dataclass(frozen=True, eq=False)
class SitePictures:
    """Images `(B, C, H, W)` in [0, 1].

    Attributes:
        home: images of home.
        mixed: the same with the style of an image of the site each.
        donors: whose style it is.
        site: more images of the site.
    """

    home: Tensor
    mixed: Tensor
    donors: Tensor
    site: Tensor


def site_pictures(inputs: AdaptInputs, styles: SiteStyles, count: int, seed: int) -> SitePictures:
    """Drawn at random, at most `count` of each."""
    test, pixels = inputs.home.test, inputs.site.images.pixels
    shown = test.batch(drawn_places(len(test), count, seed, "home"))[0]
    mixed, donors = styles.put_into(shown, "pictures")
    more = pixels[drawn_places(len(pixels), 2 * count, seed, "site")]
    return SitePictures(shown, mixed.cpu(), to_float(pixels[donors.cpu()]), to_float(more))


def drawn_places(total: int, count: int, seed: int, what: str) -> Tensor:
    """At most `count` places of `total`, at random."""
    return torch.randperm(total, generator=generator(seed, "adapt", "pictures", what))[:count]


def render_adapt(results: Mapping[str, Any], pictures: SitePictures) -> str:
    """One self-contained page.

    Args:
        results: as in `results.json`.
        pictures: of home and site.
    """
    triples = zip(pictures.home, pictures.mixed, pictures.donors, strict=True)
    return (
        environment()
        .from_string(resource("adapt.html.j2"))
        .render(
            results=results,
            style=Markup(resource("report.css") + resource("audit.css")),
            before=words.before(results),
            after=words.after(results),
            triples=[[image_uri(image) for image in triple] for triple in triples],
            site=[image_uri(image) for image in pictures.site],
            side=pictures.home.shape[-1],
            words=words,
        )
    )
