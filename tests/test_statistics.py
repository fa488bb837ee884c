from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from advmix.encoders.autoencoder import Autoencoder, fingerprint, load_autoencoder, save_autoencoder
from advmix.generators.image_statistics import KINDS, StatisticsConfig, from_opponent, to_opponent
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, RandMix, SearchOptions, with_layers
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from reference_statistics import REFERENCES
from tiny import no_gradients

EVERY = pytest.mark.parametrize("kind", KINDS)
CHANNELS = pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
SIZES = [(16, 16), (17, 31), (64, 48)]


def make(kind: str, channels: int = 3) -> Autoencoder:
    return Autoencoder(StatisticsConfig(kind, channels))


def pictures(count: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Random shades with noise: each image and channel with its own brightness and contrast; float64, in [0, 1]."""
    rng = seeded(seed, "tests", "pictures")
    coarse = torch.rand(count, channels, 4, 4, generator=rng, dtype=torch.float64)
    shades = nn.functional.interpolate(coarse, size, mode="bilinear")
    noise = torch.rand(count, channels, *size, generator=rng, dtype=torch.float64)
    ends = torch.rand(2, count, channels, 1, 1, generator=rng, dtype=torch.float64)
    low, high = ends.amin(dim=0), ends.amax(dim=0)
    return low + (high - low) * (0.7 * shades + 0.3 * noise)


def whole(model: Autoencoder) -> Split:
    return Split.fine(model.generator.layers, model.generator.layers)


def mixed(model: Autoencoder, images: Tensor, donors: Tensor) -> Tensor:
    """Before the clamp, in [0, 1]."""
    latents = whole(model).combine(model.encoder(images), model.encoder(donors))
    return (model.generator.decode_signed(latents) + 1) / 2


def test_every_kind_has_a_reference() -> None:
    assert KINDS.keys() == REFERENCES.keys()


@EVERY
@CHANNELS
@pytest.mark.parametrize("size", SIZES[:2])
def test_statistics_are_those_of_the_reference(kind: str, channels: int, size: tuple[int, int]) -> None:
    images = pictures(2, channels, size)
    latents = make(kind, channels).encoder(images)
    assert latents.grid is not None
    for image, styles, grid in zip(images.numpy(), latents.styles, latents.grid, strict=True):
        expected_styles, expected_grid = REFERENCES[kind](image)
        np.testing.assert_allclose(styles.detach(), expected_styles, rtol=0, atol=1e-9)
        np.testing.assert_allclose(grid.detach(), expected_grid, rtol=0, atol=1e-7)


@EVERY
@CHANNELS
@pytest.mark.parametrize("size", SIZES)
def test_an_image_comes_back_exactly(kind: str, channels: int, size: tuple[int, int]) -> None:
    model, images = make(kind, channels), pictures(3, channels, size)
    torch.testing.assert_close(model.generator(model.encoder(images)), images, rtol=0, atol=1e-12)
    single = model.generator(model.encoder(images.float()))
    torch.testing.assert_close(single, images.float(), rtol=0, atol=1e-5)


@EVERY
@given(height=st.integers(16, 40), width=st.integers(16, 40), seed=st.integers(0, 2**32), dark=st.booleans())
def test_any_image_of_any_size_comes_back(kind: str, height: int, width: int, seed: int, dark: bool) -> None:
    model, images = make(kind), pictures(1, 3, (height, width), seed) * (1e-3 if dark else 1)
    torch.testing.assert_close(model.generator(model.encoder(images)), images, rtol=0, atol=1e-9)


@EVERY
@CHANNELS
def test_a_flat_image_does_not_become_noise(kind: str, channels: int) -> None:
    """Rounding to 256 levels gets at most a sixth of the donor's contrast; without a floor it would get all of it."""
    model, donors = make(kind, channels), pictures(4, channels, (20, 24), seed=1)
    flat = torch.full((4, channels, 20, 24), 0.5, dtype=torch.float64)
    nearly = flat + (torch.rand(flat.shape, generator=seeded(0), dtype=torch.float64) - 0.5) / 256
    assert len(model.encoder(flat).not_finite) == 0
    plain, noisy = (mixed(model, x, donors) for x in (flat, nearly))
    assert donors.min() <= plain.min() <= plain.max() <= donors.max()
    contrast = (donors.var(dim=(2, 3)) + 0.02**2).sqrt()
    assert ((noisy - plain).std(dim=(2, 3)) < contrast / 6).all()


@EVERY
def test_gradient_in_the_statistics(kind: str) -> None:
    model, images = make(kind), pictures(2, 3, (16, 18))
    latents, split = model.encoder(images).detach(), whole(model)
    state, start = model.generator.prefix(latents, split), split.perp_of(latents)
    direction = torch.randn(2, 3, 16, 18, generator=seeded(0), dtype=torch.float64)

    def score(perp: Tensor) -> Tensor:
        return (model.generator.render_signed(state, perp) * direction).mean()

    assert torch.autograd.gradcheck(score, start.clone().requires_grad_())


@EVERY
@pytest.mark.parametrize("contrast", [0.0, 0.5], ids=["flat", "not flat"])
def test_gradient_through_encoder_and_generator_is_that_of_the_image(kind: str, contrast: float) -> None:
    model, images = make(kind), 0.25 + contrast * pictures(2, 3, (17, 20))
    images.requires_grad_()
    direction = torch.randn(images.shape, generator=seeded(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((model.generator(model.encoder(images)) * direction).sum(), images)
    torch.testing.assert_close(gradient, direction, rtol=0, atol=1e-9)


@EVERY
def test_layers_that_are_not_mixed_stay(kind: str) -> None:
    model, images, donors = make(kind), pictures(2, 3, (16, 20)), pictures(2, 3, (16, 20), seed=1)
    latents, lent = model.encoder(images), model.encoder(donors)
    for layer in range(model.generator.layers):
        split = Split(model.generator.layers, (layer,))
        found = model.generator.decode_signed(split.combine(latents, lent))
        state = model.generator.prefix(latents, split)
        torch.testing.assert_close(model.generator.render_signed(state, split.perp_of(lent)), found)
        assert (found - images * 2 + 1).abs().max() > 1e-3


@EVERY
def test_statistics_of_a_small_image_go_into_a_large_one(kind: str) -> None:
    model, large, small = make(kind), pictures(2, 3, (40, 24)), pictures(2, 3, (16, 16), seed=1)
    found = mixed(model, large, small)
    assert found.shape == large.shape
    difference = (found.mean(dim=(2, 3)) - small.mean(dim=(2, 3))).abs()
    assert difference.max() < 0.05
    assert difference.mean() < 0.2 * (large.mean(dim=(2, 3)) - small.mean(dim=(2, 3))).abs().mean()


def test_a_mix_has_the_donors_moments() -> None:
    """Deviations up to the floor: `s' * sqrt(1 - floor^2 / s^2)` of an image whose own, with the floor, is `s`."""
    images, donors = pictures(5, 3, (16, 20)), pictures(5, 3, (16, 20), seed=1)
    found = mixed(make("moments"), images, donors)
    torch.testing.assert_close(found.mean(dim=(2, 3)), donors.mean(dim=(2, 3)))
    own, lent = (x.var(dim=(2, 3), correction=0) + 0.02**2 for x in (images, donors))
    torch.testing.assert_close(found.var(dim=(2, 3), correction=0), lent * (1 - 0.02**2 / own))


@EVERY
@CHANNELS
def test_a_mix_has_the_donors_statistics(kind: str, channels: int) -> None:
    """Nearly: a floor is under them, and bands and cells overlap."""
    model = make(kind, channels)
    images, donors = (pictures(8, channels, (32, 24), seed) for seed in (0, 1))
    found, lent, own = (model.encoder(x).styles for x in (mixed(model, images, donors), donors, images))
    missed, before = ((x - lent).abs().mean(dim=(0, 2)) for x in (found, own))
    assert (missed < 0.35 * before).all()


@EVERY
@CHANNELS
def test_every_number_has_a_name(kind: str, channels: int) -> None:
    config = StatisticsConfig(kind, channels)
    latents = make(kind, channels).encoder(pictures(2, channels, (16, 19)))
    assert latents.styles.shape == (2, config.layers, config.style_dim)
    assert latents.grid is not None
    assert latents.grid.shape == (2, config.grid_shape[0], 16, 19)
    assert len(config.layer_names) == len(set(config.layer_names)) == config.layers
    assert [len(set(names)) for names in config.number_names] == [config.style_dim] * config.layers


@given(st.lists(st.floats(-4, 4, allow_subnormal=False), min_size=3, max_size=3))
def test_opponent_colours_are_invertible(colours: list[float]) -> None:
    rgb = torch.tensor([colours], dtype=torch.float64)
    torch.testing.assert_close(from_opponent(to_opponent(rgb)), rgb)


def classifier() -> nn.Module:
    """Of no size: it looks at what a mix changes."""
    with global_seed(0):
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)
        ).double()


@EVERY
def test_mixers_take_it_as_any_generator(kind: str) -> None:
    model, network = make(kind), classifier()
    latents = model.encoder(pictures(6, 3, (16, 22)))
    pool = model.encoder(pictures(9, 3, (16, 22), seed=1))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    split = with_layers(SearchOptions(), model.config).split(model.generator.layers)
    assert split == whole(model)
    random = RandMix(model.generator, split)(network, latents, labels, pool, rng=seeded(0))
    found = AdvMix(model.generator, split, restarts=1, steps=3)(network, latents, labels, pool, rng=seeded(0))
    assert random.losses is not None
    assert found.losses is not None
    assert torch.equal(random.donors, found.donors)
    assert (found.losses >= random.losses).all()
    assert (found.losses > random.losses).sum() >= 4
    assert found.images.shape == (6, 3, 16, 22)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert torch.equal(found.latents.grid, latents.grid)  # type: ignore[arg-type]
    assert found.vanished is not None
    assert not found.vanished.any()
    assert no_gradients(model, network)


@EVERY
@CHANNELS
def test_a_saved_one_is_the_same(kind: str, channels: int, tmp_path: Path) -> None:
    model, images = make(kind, channels), pictures(2, channels, (17, 20))
    save_autoencoder(tmp_path, model, {"made": "by a test"})
    loaded, metadata = load_autoencoder(tmp_path)
    assert loaded.has_encoder
    assert loaded.config == model.config
    assert metadata["made"] == "by a test"
    assert fingerprint(loaded.generator, loaded.config) == fingerprint(model.generator, model.config)
    assert torch.equal(loaded.encoder(images).styles, model.encoder(images).styles)
    assert torch.equal(loaded.generator(model.encoder(images)), model.generator(model.encoder(images)))


def test_kinds_have_different_fingerprints() -> None:
    marks = {fingerprint(make(kind).generator, StatisticsConfig(kind)) for kind in KINDS}
    assert len(marks) == len(KINDS)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="'median': unknown; use moments"):
        StatisticsConfig("median")


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_channels_are_refused(channels: int) -> None:
    with pytest.raises(UserError, match=f"{channels} channels"):
        StatisticsConfig(channels=channels)


@EVERY
def test_images_that_have_no_statistics_are_refused(kind: str) -> None:
    model = make(kind)
    with pytest.raises(UserError, match="images of 64x15 pixels"):
        model.encoder(torch.rand(1, 3, 15, 64))
    with pytest.raises(UserError, match="images of 1 channels, but statistics of 3"):
        model.encoder(torch.rand(1, 1, 16, 16))


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_that_is_mixed_too_leaves_nothing_of_the_image(kind: str) -> None:
    model = make(kind)
    first, other = pictures(1, 3, (16, 16)), pictures(2, 3, (16, 16))[1:]
    split = Split(model.generator.layers, tuple(range(model.generator.layers)), grid=True)
    with torch.no_grad():
        mix = split.combine(model.encoder(first), model.encoder(other))
        torch.testing.assert_close(model.generator(mix), other, rtol=0, atol=1e-5)


def test_latents_of_another_generator_are_refused() -> None:
    model = make("moments")
    latents = model.encoder(pictures(1, 3, (16, 16)))
    with pytest.raises(UserError, match="made for 3 layers, but the generator has 2"):
        model.generator.prefix(latents, Split(3, (0,)))
    with pytest.raises(ValueError, match="spatial grid"):
        model.generator.prefix(Latents(latents.styles), Split(2, (0,)))
