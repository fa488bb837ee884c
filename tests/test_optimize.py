from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net
from advmix.encoders.network import Encoder
from advmix.encoders.optimize import Activations, Encoding, OptimizeEncoder, OptimizeOptions
from advmix.generators.style import StyleConfig
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import global_seed
from tiny import SPATIAL, VECTOR, make_generator, make_latents, no_gradients

CONFIGS = pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])


def make_features() -> Activations:
    with global_seed(3):
        network = conv_net(10, widths=(6, 6)).double()
    return Activations(network)


def make_encoder(
    config: StyleConfig = VECTOR, features: bool = False, start: Encoder | None = None, **options: Any
) -> OptimizeEncoder:
    return OptimizeEncoder(
        make_generator(config),
        Split.fine(config.layers, 2),
        make_latents(config, 12, seed=2),
        features=make_features() if features else None,
        start=start,
        options=OptimizeOptions(**({"optimize_steps": 12} | options)),
    )


def targets(config: StyleConfig, count: int = 3) -> Tensor:
    """Images in [-1, 1] decoded from known latents."""
    with torch.no_grad():
        images: Tensor = make_generator(config)(make_latents(config, count, seed=1)) * 2 - 1
    return images


def pixel_error(encoder: OptimizeEncoder, latents: Latents, signed: Tensor) -> Tensor:
    with torch.no_grad():
        return (encoder.generator.decode_signed(latents) - signed).square().flatten(1).mean(1)


def mean_of_pool(encoder: OptimizeEncoder, count: int) -> Latents:
    grid = encoder.pool.grid
    styles = encoder.pool.styles.mean(0).expand(count, -1, -1)
    return Latents(styles, None if grid is None else grid.mean(0).expand(count, -1, -1, -1))


class Guess(Encoder):
    """Always the same latents, for images that are not looked at."""

    def __init__(self, latents: Latents) -> None:
        super().__init__()
        self.latents = latents
        self.dropout = nn.Dropout()

    def encode_signed(self, images: Tensor) -> Latents:
        return self.latents[: len(images)]


@CONFIGS
@pytest.mark.parametrize("features", [True, False])
def test_images_of_known_latents_are_approached(config: StyleConfig, features: bool) -> None:
    encoder, signed = make_encoder(config, features, optimize_steps=60), targets(config)
    found = encoder.optimize(signed)
    start = pixel_error(encoder, mean_of_pool(encoder, len(signed)), signed)
    assert (pixel_error(encoder, found.latents, signed) < 0.4 * start).all()
    assert (found.losses[-1] < found.losses[0]).all()


@CONFIGS
@pytest.mark.parametrize("features", [True, False])
def test_batch_equals_each_image_alone(config: StyleConfig, features: bool) -> None:
    encoder, signed = make_encoder(config, features), targets(config)
    whole = encoder.optimize(signed)
    for one in range(3):
        alone = encoder.optimize(signed[one : one + 1])
        torch.testing.assert_close(alone.latents.styles[0], whole.latents.styles[one], rtol=0, atol=1e-8)
        torch.testing.assert_close(alone.losses[:, 0], whole.losses[:, one], rtol=0, atol=1e-8)
        if alone.latents.grid is not None and whole.latents.grid is not None:
            torch.testing.assert_close(alone.latents.grid[0], whole.latents.grid[one], rtol=0, atol=1e-8)


@CONFIGS
@pytest.mark.parametrize("features", [True, False])
def test_mixing_loss_changes_what_is_found(config: StyleConfig, features: bool) -> None:
    signed = targets(config)
    without, little, much = (
        make_encoder(config, features, mixing_weight=weight).optimize(signed) for weight in (0.0, 0.1, 1.0)
    )
    assert not torch.equal(without.latents.styles, little.latents.styles)
    assert (much.losses[0] > little.losses[0]).all()
    assert (little.losses[0] > without.losses[0]).all()


def test_first_loss_is_the_weighted_pixel_error() -> None:
    encoder, signed = make_encoder(mixing_weight=0.0, pixel_weight=3.0, optimize_steps=1), targets(VECTOR)
    start = mean_of_pool(encoder, len(signed))
    torch.testing.assert_close(encoder.optimize(signed).losses[0], 3 * pixel_error(encoder, start, signed))


def test_losses_and_frames_have_a_row_for_each_step() -> None:
    encoder, signed = make_encoder(optimize_steps=6), targets(VECTOR)
    found = encoder.optimize(signed, frame_steps=(0, 6, 2, 9))
    assert found.losses.shape == (7, 3)
    assert found.frame_steps == (0, 2, 6)
    assert found.frames.shape == (3, 3, 3, 8, 8)
    assert 0 <= found.frames.min() <= found.frames.max() <= 1
    with torch.no_grad():
        torch.testing.assert_close(found.frames[2], encoder.generator(found.latents))


def test_without_frames_asked_for_there_are_none() -> None:
    found = make_encoder(optimize_steps=1).optimize(targets(VECTOR))
    assert found.frames.shape == (0, 3, 3, 8, 8)
    assert found.frame_steps == ()


@CONFIGS
def test_start_is_the_mean_of_the_pool(config: StyleConfig) -> None:
    encoder = make_encoder(config, optimize_steps=0)
    found, pool = encoder.optimize(targets(config)).latents, make_latents(config, 12, seed=2)
    torch.testing.assert_close(found.styles, pool.styles.mean(0).expand(3, -1, -1))
    if found.grid is not None and pool.grid is not None:
        torch.testing.assert_close(found.grid, pool.grid.mean(0).expand(3, -1, -1, -1))


@CONFIGS
def test_start_may_be_a_networks_guess(config: StyleConfig) -> None:
    known, signed = make_latents(config, 3, seed=1), targets(config)
    encoder = make_encoder(config, start=Guess(known), optimize_steps=0)
    assert torch.equal(encoder.optimize(signed).latents.styles, known.styles)
    refined = make_encoder(config, start=Guess(make_latents(config, 3, seed=9))).optimize(signed)
    assert (refined.losses[-1] < refined.losses[0]).all()


def test_nothing_is_left_behind() -> None:
    guess = Guess(make_latents(VECTOR, 3, seed=9))
    encoder = make_encoder(features=True, start=guess, optimize_steps=3)
    assert encoder.features is not None
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    latents = encoder.optimize(targets(VECTOR)).latents
    assert no_gradients(encoder)
    assert not latents.styles.requires_grad
    assert guess.latents.styles.grad is None
    assert encoder.pool.styles.grad is None
    assert all(part.training for part in encoder.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_it_is_an_encoder_and_works_where_gradients_are_switched_off() -> None:
    encoder, signed = make_encoder(optimize_steps=4), targets(VECTOR)
    with torch.no_grad():
        found = encoder((signed + 1) / 2)
    torch.testing.assert_close(found.styles, encoder.optimize(signed).latents.styles)


def test_same_seed_same_latents() -> None:
    signed = targets(VECTOR)
    first, again, other = (
        make_encoder(optimize_steps=5, optimize_seed=seed).optimize(signed).latents.styles for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_features_of_a_single_pixel_are_taken() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU()).double()
    encoder = OptimizeEncoder(
        make_generator(), Split.fine(6, 2), make_latents(VECTOR, 4), Activations(network), options=OptimizeOptions(2)
    )
    assert torch.isfinite(encoder.optimize(targets(VECTOR)).losses).all()


def test_features_may_be_plain_vectors() -> None:
    encoder = OptimizeEncoder(
        make_generator(),
        Split.fine(6, 2),
        make_latents(VECTOR, 4),
        nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double(),
        options=OptimizeOptions(optimize_steps=10),
    )
    losses = encoder.optimize(targets(VECTOR)).losses
    assert (losses[-1] < losses[0]).all()


@pytest.mark.parametrize("name", ["optimize_steps", "optimize_lr", "pixel_weight", "feature_weight", "mixing_weight"])
def test_negative_setting_is_refused_by_its_flag(name: str) -> None:
    wrong: dict[str, Any] = {name: -1}
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} -1: must be at least 0"):
        OptimizeOptions(**wrong)


def test_activations_are_those_after_every_kind_asked_for() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Flatten(0))
    images = torch.rand(5, 2)
    found = Activations(network)(images)
    assert [tuple(part.shape) for part in found] == [(5, 3), (5, 4)]
    assert torch.equal(found[1].flatten(), network(images))
    assert [tuple(part.shape) for part in Activations(network, (nn.Linear,))(images)] == [(5, 3), (5, 4)]
    assert not any(part._forward_hooks for part in network.modules())


def test_network_without_such_activations_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no ReLU or .* in Linear"):
        Activations(nn.Linear(2, 2))


def test_codes_do_not_depend_on_how_many_images_are_optimised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, seen = make_encoder(), list[int]()
    real = encoder.optimize

    def optimize(signed: Tensor, steps: int | None = None) -> Encoding:
        if steps is None:
            seen.append(len(signed))
        return real(signed, steps=steps)

    monkeypatch.setattr(encoder, "optimize", optimize)
    images = make_generator(VECTOR)(make_latents(VECTOR, 6, seed=4)).detach()
    together = encoder(images)
    assert max(seen) == 6
    seen.clear()
    monkeypatch.setattr("advmix.utils.machine.MACHINE.memory", 1)
    alone = encoder(images)
    assert max(seen) == 1
    torch.testing.assert_close(alone.styles, together.styles)


def test_one_style_is_found_where_one_was_drawn() -> None:
    """W: all layers alike. Images of one style are approached, and all layers of what is found are the same."""
    with torch.no_grad():
        drawn = make_latents(VECTOR, 3, seed=1).styles[:, :1].expand(-1, VECTOR.layers, -1)
        signed = make_generator(VECTOR)(Latents(drawn.contiguous())) * 2 - 1
    encoder = make_encoder(one_style=True, optimize_steps=150)
    styles = encoder.optimize(signed).latents.styles
    assert styles.is_contiguous()
    assert torch.equal(styles, styles[:, :1].expand_as(styles))
    start = pixel_error(encoder, mean_of_pool(encoder, 3), signed)
    assert (pixel_error(encoder, Latents(styles), signed) < 0.4 * start).all()
    free = make_encoder(optimize_steps=150).optimize(signed).latents.styles
    assert not torch.equal(free, free[:, :1].expand_as(free))


def test_one_style_starts_at_the_mean_of_the_guess() -> None:
    guess = make_latents(VECTOR, 2, seed=5)
    found = make_encoder(start=Guess(guess), one_style=True, optimize_steps=0).optimize(targets(VECTOR, 2)).latents
    torch.testing.assert_close(found.styles, guess.styles.mean(dim=1, keepdim=True).expand(-1, VECTOR.layers, -1))
