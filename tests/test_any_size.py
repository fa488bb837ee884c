"""Images of any size: encoded at a working size, mixed there, and changed in their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.base import FLATNESS, RADIUS, enlarge
from advmix.generators.style import StyleConfig
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed

SHAPE = StyleConfig(16, 3, 4, (6, 5), start=8, grid_channels=3, working_size=32)


def network() -> Autoencoder:
    with global_seed(0):
        return Autoencoder(SHAPE).double().eval()


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=seeded(seed, "any size"), dtype=torch.float64)


def edges(side: int) -> Tensor:
    """A bright disc with a sharp edge on a dark ground, with a soft gradient over both: `(1, 3, side, side)`."""
    y, x = torch.meshgrid(*[(torch.arange(side, dtype=torch.float64) + 0.5) / side] * 2, indexing="ij")
    disc = (((x - 0.5) ** 2 + (y - 0.5) ** 2) < 0.09).double()
    return torch.stack([0.15 + 0.5 * disc + 0.2 * x, 0.3 + 0.3 * disc + 0.1 * y, 0.6 - 0.4 * disc + 0.1 * x])[None]


def guided(change: np.ndarray, small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Algorithm 2 of He and Sun (2015) for one channel, window by window; the maps are enlarged by torch."""
    height, width = small.shape

    def windows(values: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        for i in range(height):
            for j in range(width):
                part = values[max(0, i - RADIUS) : i + RADIUS + 1, max(0, j - RADIUS) : j + RADIUS + 1]
                out[i, j] = part.mean()
        return out

    variance = windows(small**2) - windows(small) ** 2
    covariance = windows(small * change) - windows(small) * windows(change)
    gain = covariance / (variance + FLATNESS)
    offset = windows(change) - gain * windows(small)
    maps = torch.from_numpy(np.stack([windows(gain), windows(offset)]))[None]
    size = (large.shape[0], large.shape[1])
    a, b = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0].numpy()
    return np.asarray(a * large + b)


def test_a_change_is_enlarged_as_by_the_guided_filter_of_the_paper() -> None:
    small, large, change = pixels(1, 2, 9, 7), pixels(1, 2, 23, 17, seed=1), pixels(1, 2, 9, 7, seed=2) - 0.5
    found = enlarge(change, small, large)[0].numpy()
    for channel in range(2):
        expected = guided(change[0, channel].numpy(), small[0, channel].numpy(), large[0, channel].numpy())
        np.testing.assert_allclose(found[channel], expected, rtol=0, atol=1e-12)


def test_a_change_of_light_leaves_no_halo_at_an_edge() -> None:
    large = edges(256)
    small = torch.nn.functional.interpolate(large, (64, 64), mode="bilinear", antialias=True)

    def relight(images: Tensor) -> Tensor:
        return 0.4 * images + 0.3

    wanted, change = relight(large) - large, relight(small) - small
    plain = torch.nn.functional.interpolate(change, (256, 256), mode="bilinear", align_corners=False)
    halo, ours = (float((found - wanted).abs().amax()) for found in (plain, enlarge(change, small, large)))
    assert halo > 0.1
    assert ours < 0.1 * halo


@pytest.mark.parametrize("size", [(16, 16), (33, 17), (64, 64), (40, 100), (32, 31)])
def test_an_image_of_any_size_is_itself_with_its_residual(size: tuple[int, int]) -> None:
    model, images = network(), pixels(2, 3, *size)
    with torch.no_grad():
        latents = model.generator.complete(model.encoder(images), images)
        torch.testing.assert_close(model.generator(latents), images, rtol=0, atol=1e-12)
        other = model.generator(Split(4, (0, 1, 2, 3)).combine(latents, latents[torch.tensor([1, 0])]))
    assert other.shape == images.shape
    assert not torch.allclose(other, images)


@pytest.mark.parametrize(
    ("size", "grid"), [((16, 16), (8, 8)), ((33, 17), (16, 9)), ((64, 32), (16, 8)), ((200, 50), (16, 4))]
)
def test_images_are_worked_at_no_more_than_the_working_size(size: tuple[int, int], grid: tuple[int, int]) -> None:
    latents = network().encoder(pixels(1, 3, *size))
    assert latents.grid is not None
    assert latents.grid.shape == (1, 3, *grid)


def test_another_working_size_is_another_generator_of_the_same_weights() -> None:
    model, images = network(), pixels(1, 3, 64, 64)
    model.resize(64)
    latents = model.encoder(images)
    assert latents.grid is not None
    assert latents.grid.shape == (1, 3, 32, 32)


def test_styles_of_one_size_are_put_into_an_image_of_another() -> None:
    model, images = network(), pixels(1, 3, 20, 28)
    donor = Latents(model.encoder(pixels(1, 3, 64, 64, seed=3)).styles)
    with torch.no_grad():
        mix = model.generator(Split(4, (0, 1, 2, 3)).combine(model.encoder(images), donor))
    assert mix.shape == (1, 3, 20, 28)


def test_a_mix_keeps_its_own_image_when_it_is_repeated_and_chosen() -> None:
    model, images, split = network(), pixels(3, 3, 48, 40), Split(4, (2, 3))
    with torch.no_grad():
        latents = model.generator.complete(model.encoder(images), images)
        state = model.generator.prefix(latents, split).repeat(2)[torch.tensor([5, 0])]
        found = model.generator.render(state, split.perp_of(latents)[[2, 0]])
    torch.testing.assert_close(found, images[[2, 0]], rtol=0, atol=1e-12)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="images of 40x15 pixels"):
        network().encoder(pixels(1, 3, 15, 40))


def test_a_network_of_any_size_needs_a_grid() -> None:
    with pytest.raises(UserError, match="working_size 32: only of a network with a grid"):
        StyleConfig(working_size=32)
