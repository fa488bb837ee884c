from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.encoders.autoencoder import FILE, Autoencoder, load_autoencoder, save_autoencoder
from advmix.generators.layers import EqualizedConv2d, EqualizedLinear
from advmix.generators.stylegan import NoisyLayer, StyleGan, StyleGanConfig
from advmix.latents import Latents, Split
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors, write_tensors
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from tiny import assert_same_state

TINY = StyleGanConfig(resolution=16, style_dim=4, mapping_layers=2, widths=(6, 6, 5))


def make(config: StyleGanConfig = TINY, seed: int = 0) -> StyleGan:
    """In float64, with noise that can be seen."""
    with global_seed(seed):
        network = StyleGan(config).double()
        for name, parameter in network.named_parameters():
            if name.endswith(("strength", "bias")):
                nn.init.normal_(parameter, std=0.3)
    return network


def codes(count: int, seed: int = 0) -> Latents:
    rng = seeded(seed, "tests", "stylegan")
    return Latents(torch.randn(count, TINY.layers, TINY.style_dim, generator=rng, dtype=torch.float64))


def literal_image(network: StyleGan, styles: Tensor) -> Tensor:
    """One image as the paper writes it, from the stored weights: `(L, D)` to `(C, H, W)`."""
    assert network.constant is not None
    x: Tensor = network.constant
    for index, layer in enumerate(network.synthesis):
        assert isinstance(layer, NoisyLayer)
        if index > 0:
            if index % 2 == 0:
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
            assert isinstance(layer.conv, EqualizedConv2d)
            weight = layer.conv.weight * math.sqrt(2) / math.sqrt(9 * x.shape[1])
            x = F.conv2d(x, weight, layer.conv.bias, padding=1)
        x = x + layer.strength[:, None, None] * layer.noise
        x = torch.where(x > 0, x, 0.2 * x)
        mean, variance = x.mean(dim=(2, 3), keepdim=True), x.var(dim=(2, 3), correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        assert isinstance(layer.affine, EqualizedLinear)
        y = layer.affine.weight @ styles[index] / math.sqrt(len(styles[index])) + layer.affine.bias
        scale, shift = y[: x.shape[1], None, None], y[x.shape[1] :, None, None]
        x = (1 + scale) * x + shift
    to_image = network.to_image
    assert isinstance(to_image, EqualizedConv2d)
    assert to_image.bias is not None
    weight = to_image.weight[:, :, 0, 0] / math.sqrt(x.shape[1])
    return torch.einsum("oc,chw->ohw", weight, x[0]) + to_image.bias[:, None, None]


def literal_style(network: StyleGan, z: Tensor) -> Tensor:
    """`(D,)` to `(D,)`."""
    x = z / (z.square().sum() / len(z) + 1e-8).sqrt()
    for layer in network.mapping.layers:
        assert isinstance(layer, EqualizedLinear)
        x = 0.01 * math.sqrt(2 / len(z)) * layer.weight @ x + 0.01 * layer.bias
        x = torch.where(x > 0, x, 0.2 * x)
    return x


@torch.no_grad()
def test_images_equal_the_paper_written_out() -> None:
    network, latents = make(), codes(3)
    expected = torch.stack([literal_image(network, styles) for styles in latents.styles])
    torch.testing.assert_close(network.decode_signed(latents), expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_styles_equal_the_paper_written_out() -> None:
    network = make()
    z, crossover = network.draw(5, seeded(0, "tests"), mixing=1.0)
    styles = network.styles(z, crossover)
    for index, cut in enumerate(crossover.tolist()):
        first, second = (literal_style(network, number) for number in z[index].double())
        expected = torch.stack([first] * cut + [second] * (TINY.layers - cut))
        torch.testing.assert_close(styles[index], expected, rtol=0, atol=1e-12)


def test_upsampling_is_nearest_with_a_binomial_blur() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    kernel = torch.tensor([1.0, 2, 1], dtype=torch.float64) / 4
    nearest = F.interpolate(x, scale_factor=2, mode="nearest").flatten(0, 1)[:, None]
    expected = F.conv2d(nearest, (kernel[:, None] * kernel)[None, None]).unflatten(0, (2, 3))[:, :, 0]
    bilinear = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(bilinear[:, :, 1:-1, 1:-1], expected.reshape(2, 3, 14, 14))


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_equalised_layers_store_unit_weights_and_keep_the_variance(gain: float) -> None:
    with global_seed(0):
        linear, conv = EqualizedLinear(256, 400, gain), EqualizedConv2d(32, 64, 3, gain=gain)
        x, maps = torch.randn(200, 256), torch.randn(8, 32, 16, 16)
    with torch.no_grad():
        inner = conv(maps)[:, :, 1:-1, 1:-1]
    for weight, found in ((linear.weight, linear(x)), (conv.weight, inner)):
        assert float(weight.detach().std()) == pytest.approx(1, rel=0.03)
        assert float(found.detach().std()) == pytest.approx(gain, rel=0.05)


def test_learning_rate_multiplier_changes_the_speed_and_not_the_layer() -> None:
    layers = [EqualizedLinear(3, 2, lr_multiplier=multiplier) for multiplier in (1.0, 0.01)]
    x, moved = torch.tensor([[1.0, 2, 3]]), []
    with torch.no_grad():
        layers[1].weight.copy_(layers[0].weight * 100)
    torch.testing.assert_close(layers[0](x), layers[1](x))
    for layer in layers:
        before = layer(x).detach()
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
        layer(x).sum().backward()
        optimizer.step()
        moved.append(float((layer(x) - before).detach().abs().mean()))
    assert moved[1] == pytest.approx(0.01 * moved[0], rel=0.01)


@torch.no_grad()
def test_two_stages_equal_the_whole_for_every_split() -> None:
    network, latents, other = make(), codes(2, 1), codes(2, 2)
    subsets = [perp for count in range(1, 7) for perp in itertools.combinations(range(6), count)]
    for split in (Split(6, perp) for perp in subsets):
        state = network.prefix(latents, split)
        mixed = split.combine(latents, other)
        torch.testing.assert_close(network.render(state, split.perp_of(other)), network(mixed), rtol=0, atol=1e-10)
        assert torch.equal(network.prefix(mixed, split).features, state.features)


def test_every_latent_number_reaches_the_image() -> None:
    network, latents = make(), codes(1)
    latents.styles.requires_grad_()
    (gradient,) = torch.autograd.grad(network.decode_signed(latents)[0, 0, 3, 5], latents.styles)
    assert (gradient.abs() > 0).all()


@torch.no_grad()
def test_noise_is_fixed_unless_it_is_asked_for() -> None:
    network, latents = make(), codes(2)
    twice = Latents(latents.styles[:1].expand(2, -1, -1))
    fixed = network(twice)
    torch.testing.assert_close(fixed[0], fixed[1])
    with network.fresh_noise(2, seeded(0, "noise")):
        fresh = network(twice)
    assert float((fresh[0] - fresh[1]).abs().max()) > 1e-3
    with network.fresh_noise(2, seeded(0, "noise")):
        assert torch.equal(network(twice), fresh)
    with pytest.raises(RuntimeError, match="on purpose"), network.fresh_noise(2):
        raise RuntimeError("on purpose")
    assert torch.equal(network(twice), fixed)


@torch.no_grad()
def test_training_images_are_those_of_the_drawn_styles_with_fresh_noise() -> None:
    network = make()
    z, crossover = network.draw(3, seeded(0, "tests"), mixing=0.5)
    found = network.synthesize(z, crossover, seeded(0, "noise"))
    with network.fresh_noise(3, seeded(0, "noise")):
        expected = network.decode_signed(Latents(network.styles(z, crossover)))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])
def test_mixing_is_the_share_of_samples_with_two_styles(mixing: float) -> None:
    styles = make().sample(400, seeded(0, "tests"), mixing=mixing).styles
    changes = (styles[:, 1:] != styles[:, :-1]).any(dim=2).sum(dim=1)
    assert set(changes.tolist()) <= {0, 1}
    assert float((changes == 1).double().mean()) == pytest.approx(mixing, abs=0.06 if 0 < mixing < 1 else 0)


def test_every_layer_can_be_the_first_of_the_second_style() -> None:
    styles = make().sample(200, seeded(0, "tests"), mixing=1.0).styles
    changed = (styles[:, 1:] != styles[:, :-1]).any(dim=2)
    assert changed.any(dim=0).tolist() == [True] * (TINY.layers - 1)


def test_truncation_draws_towards_the_mean_style() -> None:
    network = make()
    network.mean_style.normal_(generator=seeded(0, "mean"))
    drawn = {psi: network.sample(4, seeded(0, "tests"), truncation=psi).styles for psi in (0.0, 0.25, 1.0)}
    assert torch.equal(drawn[0.0], network.mean_style.expand_as(drawn[0.0]))
    torch.testing.assert_close(drawn[0.25], 0.25 * drawn[1.0] + 0.75 * network.mean_style)
    assert torch.equal(network.sample(4, seeded(0, "tests")).styles, drawn[1.0])
    assert not torch.equal(network.sample(4, seeded(1, "tests")).styles, drawn[1.0])


def test_running_mean_is_that_of_the_styles() -> None:
    network = make()
    z = torch.randn(3, 2, 4, generator=seeded(0, "tests"), dtype=torch.float64)
    styles = torch.stack([literal_style(network, number) for number in z.flatten(0, 1)]).detach()
    network.track(z, decay=0.9)
    torch.testing.assert_close(network.mean_style, 0.1 * styles.mean(dim=0))
    network.track(z, decay=0.9)
    torch.testing.assert_close(network.mean_style, 0.19 * styles.mean(dim=0))


def test_generator_says_what_it_makes() -> None:
    network = StyleGan(StyleGanConfig(resolution=8, channels=1, style_dim=4, mapping_layers=1, widths=(4, 4)))
    assert (network.resolution, network.channels, network.layers) == (8, 1, 4)
    images = network(network.sample(2))
    assert images.shape == (2, 1, 8, 8)
    assert 0 <= images.min() < images.max() <= 1


def test_widths_must_lead_to_the_resolution() -> None:
    with pytest.raises(UserError, match="2 widths from 4 pixels end at 8 pixels, not at resolution 16"):
        StyleGanConfig(widths=(8, 8))


class TestFile:
    @pytest.fixture
    def model(self) -> Autoencoder:
        with global_seed(0):
            return Autoencoder(TINY)

    def test_what_is_saved_is_loaded(self, model: Autoencoder, tmp_path: Path) -> None:
        save_autoencoder(tmp_path, model, {})
        loaded, metadata = load_autoencoder(tmp_path)
        assert isinstance(loaded.generator, StyleGan)
        assert loaded.config == TINY
        assert metadata["architecture"] == "stylegan"
        assert_same_state(loaded.state_dict(), model.state_dict())
        images = torch.rand(2, 3, 16, 16)
        with torch.no_grad():
            assert torch.equal(loaded.generator(loaded.encoder(images)), model.generator(model.encoder(images)))

    def test_unknown_network_is_refused(self, model: Autoencoder, tmp_path: Path) -> None:
        save_autoencoder(tmp_path, model, {})
        tensors, metadata = read_tensors(tmp_path / FILE, "autoencoder")
        write_tensors(tmp_path / FILE, "autoencoder", tensors, {**metadata, "architecture": "biggan"})
        with pytest.raises(UserError, match=rf"{FILE}: holds a 'biggan' generator, but .* knows style, stylegan"):
            load_autoencoder(tmp_path)
