from __future__ import annotations

import itertools

import pytest
import torch

from advmix.generators.style import StyleConfig, StyleGenerator
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError
from tiny import SPATIAL, VECTOR, make_generator, make_latents


def every_split(config: StyleConfig) -> list[Split]:
    subsets = [
        perp for count in range(config.layers + 1) for perp in itertools.combinations(range(config.layers), count)
    ]
    grids = (False, True) if config.grid_channels else (False,)
    return [Split(config.layers, perp, grid) for grid in grids for perp in subsets if perp or grid]


@pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])
def test_two_stages_equal_the_whole_for_every_split(config: StyleConfig) -> None:
    generator, latents, other = make_generator(config), make_latents(config, 2, 1), make_latents(config, 2, 2)
    with torch.no_grad():
        for split in every_split(config):
            images = generator.render(generator.prefix(latents, split), split.perp_of(other))
            whole = generator(split.combine(latents, other))
            torch.testing.assert_close(images, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])
def test_first_stage_does_not_depend_on_perp(config: StyleConfig) -> None:
    generator, latents, other = make_generator(config), make_latents(config, 2, 1), make_latents(config, 2, 2)
    with torch.no_grad():
        for split in every_split(config):
            if split.grid:
                continue
            state = generator.prefix(latents, split)
            assert torch.equal(generator.prefix(split.combine(latents, other), split).features, state.features)


def test_second_stage_of_the_reversed_split_ignores_the_old_grid() -> None:
    generator, latents, other = make_generator(SPATIAL), make_latents(SPATIAL, 2, 1), make_latents(SPATIAL, 2, 2)
    split = Split(4, (), grid=True)
    with torch.no_grad():
        images = [
            generator.render(generator.prefix(own, split), split.perp_of(other))
            for own in (latents, Latents(latents.styles, torch.zeros(2, 8, 4, 4, dtype=torch.float64)))
        ]
    assert torch.equal(*images)


@pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])
def test_every_latent_number_reaches_the_image(config: StyleConfig) -> None:
    generator, latents = make_generator(config), make_latents(config, 1)
    numbers = [latents.styles.requires_grad_()] + ([] if latents.grid is None else [latents.grid.requires_grad_()])
    for gradient in torch.autograd.grad(generator.decode_signed(latents)[0, 0, 3, 5], numbers):
        assert (gradient.flatten(2).abs().amax(dim=2) > 0).all()


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_images_are_in_range(scale: float) -> None:
    generator, latents = make_generator(), make_latents(VECTOR, 3)
    with torch.no_grad():
        images = generator(Latents(latents.styles * scale))
        signed = generator.decode_signed(Latents(latents.styles * scale))
    assert images.shape == (3, 3, 8, 8)
    assert 0 <= images.min() < images.max() <= 1
    torch.testing.assert_close(images, ((signed + 1) / 2).clamp(0, 1))


def test_single_channel_images() -> None:
    generator = StyleGenerator(StyleConfig(resolution=8, channels=1, style_dim=4, widths=(4, 4)))
    assert generator(Latents(torch.zeros(2, 4, 4))).shape == (2, 1, 8, 8)


def test_generator_says_what_it_makes() -> None:
    generator = make_generator(SPATIAL)
    assert (generator.resolution, generator.channels, generator.layers) == (8, 3, 4)
    assert SPATIAL.grid_shape == (8, 4, 4)
    assert VECTOR.grid_shape is None


def test_state_is_indexed_and_repeated_row_by_row() -> None:
    generator, latents, split = make_generator(SPATIAL), make_latents(SPATIAL, 3), Split.fine(4, 2)
    state = generator.prefix(latents, split)
    twice, some = state.repeat(2), state[torch.tensor([2, 0])]
    assert torch.equal(twice.features, torch.cat([state.features, state.features]))
    assert torch.equal(twice.latents.styles[3:], latents.styles)
    assert torch.equal(some.features, state.features[[2, 0]])
    assert torch.equal(some.latents.styles, latents.styles[[2, 0]])


@pytest.mark.parametrize(("widths", "end"), [((8, 8), 8), ((8, 8, 8, 8), 32)])
def test_widths_must_lead_to_the_resolution(widths: tuple[int, ...], end: int) -> None:
    with pytest.raises(UserError, match=f"end at {end} pixels, not at resolution 16"):
        StyleConfig(resolution=16, widths=widths)


def test_split_of_another_network_is_refused() -> None:
    with pytest.raises(UserError, match="5 layers, but the generator has 6"):
        make_generator().prefix(make_latents(VECTOR, 1), Split.fine(5, 1))


def test_grid_split_without_a_grid_is_refused() -> None:
    with pytest.raises(UserError, match="no grid"):
        make_generator().prefix(make_latents(VECTOR, 1), Split(6, (1,), grid=True))


def test_latents_without_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="the latents have none"):
        make_generator(SPATIAL)(Latents(make_latents(SPATIAL, 1).styles))
