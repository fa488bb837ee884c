"""`photo:moments`: mixes have exactly the donor's means and deviations, and one's own style gives the image back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import advmix
from advmix.audit.measure import swaps
from advmix.encoders.autoencoder import load_autoencoder
from advmix.generators.image_statistics import FLOOR
from advmix.latents import Split
from advmix.mixing import AdvMix
from advmix.pools import FittedModel
from advmix.utils.errors import UserError


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return advmix.load("photo:moments", "photos")


def pictures(size: int, seed: int, low: float = 0.1, high: float = 0.9) -> Tensor:
    """Coloured blots `(4, 3, size, size)`, far from black and white."""
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(4, 3, 5, 5, generator=rng)
    return low + (high - low) * torch.nn.functional.interpolate(small, (size, size), mode="bilinear")


@pytest.mark.parametrize("size", [20, 32, 64, 200])
def test_the_own_styles_give_the_image_back(model: FittedModel, size: int) -> None:
    images = torch.cat([pictures(size, 0), torch.rand(1, 3, size, size), torch.full((1, 3, size, size), 0.5)])
    latents = model.generator.complete(model.encoder(images), images)
    assert (model.generator(latents) - images).abs().max() < 1e-6


@pytest.mark.parametrize("size", [32, 200])
def test_a_mix_has_the_donors_means_and_deviations(model: FittedModel, size: int) -> None:
    images, donors = pictures(size, 0), pictures(size, 1, 0.35, 0.65)
    latents = model.generator.complete(model.encoder(images), images)
    mixes = model.generator(model.split.combine(latents, model.encoder(donors)))
    assert (mixes.mean(dim=(2, 3)) - donors.mean(dim=(2, 3))).abs().max() < 1e-5
    wanted = donors.std(dim=(2, 3), correction=0).square() + FLOOR**2
    variance = mixes.std(dim=(2, 3), correction=0).square()
    assert torch.all(variance < wanted)  # the floor keeps the noise of flat images down
    assert torch.all(variance > 0.8 * wanted)
    assert (mixes - images).abs().mean() > 0.02


def test_it_is_the_network_corrected_after_the_residual(model: FittedModel) -> None:
    images, donors = pictures(32, 0), pictures(32, 1)
    network, encoder = load_autoencoder(Path("photo"))[0].generator, model.encoder
    own, lent = encoder(images), encoder(donors)
    drawn = [network(advmix.Latents(styles[:, : network.layers], own.grid)) for styles in (own.styles, lent.styles)]
    raw = images + drawn[1] - drawn[0]
    mean, deviation = raw.mean(dim=(2, 3), keepdim=True), raw.var(dim=(2, 3), correction=0, keepdim=True)
    normal = (raw - mean) / (deviation + FLOOR**2).sqrt()
    spread = (donors.var(dim=(2, 3), correction=0, keepdim=True) + FLOOR**2).sqrt()
    wanted = (donors.mean(dim=(2, 3), keepdim=True) + spread * normal).clamp(0, 1)
    found = model.generator(model.split.combine(model.generator.complete(own, images), lent))
    assert (found - wanted).abs().max() < 1e-5


def test_with_moments_alone_it_mixes_as_statistics_do(model: FittedModel) -> None:
    images, donors = pictures(32, 0), pictures(32, 1)
    latents = model.generator.complete(model.encoder(images), images)
    mixes = model.generator(Split.fine(model.generator.layers, 2).combine(latents, model.encoder(donors)))
    other = advmix.load("statistics", "photos")
    wanted = other.generator(other.split.combine(other.encoder(images), other.encoder(donors)))
    assert (mixes - wanted).abs().max() < 1e-6


def test_a_search_moves_learned_styles_and_moments(model: FittedModel) -> None:
    torch.manual_seed(0)
    classifier = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2)
    )
    images, labels = pictures(32, 0), torch.tensor([0, 1, 0, 1])
    classifier(images)
    latents = model.generator.complete(model.encoder(images), images)
    start, end = (
        AdvMix(model.generator, model.split, restarts=1, steps=steps)(
            classifier, latents, labels, model.pool, rng=torch.Generator().manual_seed(0)
        )
        for steps in (0, 3)
    )
    assert start.losses is not None
    assert end.losses is not None
    assert torch.all(end.losses > start.losses)
    moved = (end.latents.styles != start.latents.styles).any(dim=0)
    assert moved[:-2].all()
    assert moved[-2:, :3].all()
    assert not moved[-2:, 3:].any()  # padding


def test_the_pool_is_of_the_same_crops(model: FittedModel) -> None:
    learned, moments = advmix.load("photo", "photos").pool.styles, advmix.load("statistics", "photos").pool.styles
    assert torch.equal(model.pool.styles[:, :-2], learned)
    assert torch.equal(model.pool.styles[:, -2:, :3], moments)
    assert not model.pool.styles[:, -2:, 3:].any()


def test_another_kind_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="photo is of no kind 'other'; use photo or photo:moments"):
        load_autoencoder(Path("photo:other"))


def test_mean_colour_and_contrast_have_no_resolution(model: FittedModel) -> None:
    found = {swap.name: (swap.resolution, swap.split.perp) for swap in swaps(model.model.config, model.split, 32)}
    assert found["layer 5"] == (32, (5,))
    assert found["layers 4 5"] == (32, (4, 5))
    assert found["mean colour"] == (None, (6,))
    assert found["contrast"] == (None, (7,))
    assert "layers 6 7" not in found
