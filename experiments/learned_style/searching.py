"""What a search through each generator's styles finds, and how much of it are means and deviations."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import start_latents
from advmix.generators.image_statistics import put_moments, take_moments
from advmix.latents import Latents, Split
from advmix.metrics import share
from advmix.mixing import AdvMix
from advmix.utils.torch_tools import generator
from experiments.learned_style.reproduction import shared


def search_row(
    model: Autoencoder, pool: Latents, network: nn.Module, images: ImageSet, steps: int, seed: int
) -> dict[str, Any]:
    """A search from random donors, one restart.

    Args:
        model: generator and encoder.
        pool: the donors' styles.
        network: the classifier that is searched.
        images: judged ones.
        steps: of the search.
        seed: of the donors, the same for every generator.

    Returns:
        `start_change` and `moved`: root mean square of what the random donor changes, and of what the steps change of
        that, pixels in [0, 1]; `moments`: share of the latter that are means and deviations alone; `loss_start` and
        `loss`: mean cross-entropy; `right_start` and `right`: shares of right answers.
    """
    pixels, labels = images.batch(slice(None))
    dec = model.generator
    split = Split(dec.layers, tuple(range(dec.layers)))
    latents = start_latents(dec, model.encoder, pixels, None, residual=True)
    begun, ended = (
        AdvMix(dec, split, restarts=1, steps=count)(
            network, latents, labels, pool, rng=generator(seed, "learned style search")
        )
        for count in (0, steps)
    )
    return {
        "start_change": _rms(begun.images - pixels),
        "moved": _rms(ended.images - begun.images),
        "moments": shared(begun.images, ended.images, with_moments_of(begun.images, ended.images)),
        "loss_start": _mean(begun.losses),
        "loss": _mean(ended.losses),
        "right_start": share(begun.withstood),
        "right": share(ended.withstood),
    }


def with_moments_of(images: Tensor, others: Tensor) -> Tensor:
    """Images `(B, C, H, W)` with the means and deviations of others."""
    return put_moments(take_moments(others)[0], take_moments(images)[1])


def _rms(change: Tensor) -> float:
    return float(change.square().mean().sqrt())


def _mean(losses: Tensor | None) -> float:
    assert losses is not None
    return float(losses.double().mean())
