from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.optimize import Activations
from advmix.latents import Split
from advmix.training.autoencode import (
    AutoencoderTrainee,
    FitOptions,
    perceptual_error,
    reconstruction_mse,
    style_config,
)
from advmix.training.loop import Loop
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import global_seed


def photographs(side: int = 64, count: int = 60) -> ImageSet:
    """Patches of scikit-learn's two photographs, a temple and a flower."""
    rows = [torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in load_sample_images().images]
    patches = [row.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).flatten(0, 1) for row in rows]
    pixels = torch.cat([patch[: count // 2] for patch in patches]).contiguous()
    return ImageSet(pixels, torch.arange(count) // (count // 2), ("temple", "flower"))


@pytest.fixture(scope="module")
def photos() -> ImageSet:
    return photographs()


def small_images(side: int) -> ImageSet:
    return ImageSet(torch.zeros(2, 3, side, side, dtype=torch.uint8), torch.zeros(2, dtype=torch.long), ("only",))


@pytest.mark.parametrize(("side", "grid"), [(16, None), (32, None), (64, (8, 16, 16)), (128, (8, 32, 32))])
def test_photographs_get_a_grid_and_digits_do_not(side: int, grid: tuple[int, int, int] | None) -> None:
    config = style_config(small_images(side), FitOptions())
    assert config.grid_shape == grid
    assert config.resolution == side


def test_grid_can_be_asked_for_and_left_out() -> None:
    assert style_config(small_images(16), FitOptions(grid_channels=3)).grid_shape == (3, 4, 4)
    assert style_config(small_images(64), FitOptions(grid_channels=0)).grid_shape is None


@pytest.mark.parametrize(("side", "channels"), [(50, None), (48, 0), (66, 8)])
def test_sizes_that_no_network_has_are_refused(side: int, channels: int | None) -> None:
    with pytest.raises(UserError, match=f"images of {side} pixels: fit takes"):
        style_config(small_images(side), FitOptions(grid_channels=channels))


def test_errors_are_added_up(photos: ImageSet) -> None:
    """Squared alone for small images; for large ones with the absolute one; perceptual where there are features."""
    features = Activations(conv_net(2, widths=(4, 4)))
    options = FitOptions(fit_steps=1, l1_weight=0.5, perceptual_weight=2.0)
    trainee = AutoencoderTrainee(photos, options, 0, make_fabric("cpu"), features=features)
    decoded, signed = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    difference = decoded - signed
    expected = difference.square().mean() + 0.5 * difference.abs().mean()
    expected = expected + 2.0 * perceptual_error(features, decoded, signed)
    torch.testing.assert_close(trainee.error(decoded, signed), expected)
    plain = AutoencoderTrainee(small_images(16), FitOptions(fit_steps=1), 0, make_fabric("cpu"))
    small = decoded[..., :16, :16], signed[..., :16, :16]
    torch.testing.assert_close(plain.error(*small), (small[0] - small[1]).square().mean())


def test_perceptual_error_is_the_mean_over_the_layers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 5, 3), nn.ReLU()).double()
    a, b = (torch.rand(3, 3, 6, 6, dtype=torch.float64) for _ in range(2))
    first = network[:2](a) - network[:2](b)
    second = network(a) - network(b)
    expected = (first.pow(2).mean() + second.pow(2).mean()) / 2
    torch.testing.assert_close(perceptual_error(Activations(network), 2 * a - 1, 2 * b - 1), expected)
    plain = (network(a) - network(b)).pow(2).mean()
    torch.testing.assert_close(perceptual_error(network, 2 * a - 1, 2 * b - 1), plain)


def test_perceptual_error_teaches_the_autoencoder_and_leaves_the_features_alone(photos: ImageSet) -> None:
    with global_seed(0):
        network = conv_net(2, widths=(4, 4))
    before = {name: part.clone() for name, part in network.state_dict().items()}
    options = FitOptions(fit_steps=2, fit_batch=4, perceptual_weight=1.0)
    trainee = AutoencoderTrainee(
        photos, options, 0, make_fabric("cpu"), features=Activations(network.requires_grad_(False))
    )
    Loop("test", 2).train(trainee)
    assert all(torch.equal(part, before[name]) for name, part in network.state_dict().items())
    assert network.training


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_features_and_their_weight_go_together(photos: ImageSet, weight: float) -> None:
    features = None if weight else Activations(conv_net(2))
    with pytest.raises(UserError, match="goes together with --features"):
        AutoencoderTrainee(photos, FitOptions(perceptual_weight=weight), 0, make_fabric("cpu"), features=features)


def test_photographs_are_reconstructed_and_styles_carry_the_light(photos: ImageSet) -> None:
    """A few steps already tell light from layout: a mix has its own layout and is as bright as the other image."""
    photos = ImageSet(photos.pixels[..., ::2, ::2].contiguous(), photos.labels, photos.classes)
    options = FitOptions(fit_steps=60, fit_batch=16, grid_channels=8, l1_weight=1.0)
    trainee = AutoencoderTrainee(photos, options, 0, make_fabric("cpu"))
    flat = float(photos.pixels.double().div(127.5).flatten(1).var(1).mean())
    Loop("test", 60).train(trainee)
    model = trainee.model.eval()
    assert reconstruction_mse(model, photos, torch.device("cpu")) < 0.5 * flat
    images, _ = photos.batch(slice(None))
    light, dark = images.mean((1, 2, 3)).argsort()[[-1, 0]]
    split = Split(6, tuple(range(6)))
    with torch.no_grad():
        latents = model.encoder(images[[int(light), int(dark)]])
        plain, mixed = model.generator(latents), model.generator(split.combine(latents, latents[torch.tensor([1, 0])]))
    own, other = plain.mean((1, 2, 3)), mixed.mean((1, 2, 3))
    assert own[0] - own[1] > 0.1
    assert (other[0] - own[1]).abs() < (other[0] - own[0]).abs()


def test_reconstruction_error_is_that_of_images_all_over_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted by class, as folders are: the first ones alone would say little."""
    pixels = torch.arange(0, 120, 6, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 3, 16, 16).contiguous()
    images = ImageSet(pixels, torch.arange(20) // 10, ("dark", "light"))
    with global_seed(0):
        model = Autoencoder(style_config(images, FitOptions())).eval()
    cpu = torch.device("cpu")
    whole, first = (reconstruction_mse(model, part, cpu) for part in (images, images[:10]))
    monkeypatch.setattr("advmix.training.autoencode.ERROR_IMAGES", 10)
    assert abs(reconstruction_mse(model, images, cpu) - whole) < 0.1 * abs(first - whole)


def test_a_fit_can_start_from_the_weights_of_photo(photos: ImageSet) -> None:
    fabric, ready = make_fabric("cpu"), load_autoencoder(Path("photo"))[0]
    trainee = AutoencoderTrainee(photos, FitOptions(start="photo"), 0, fabric)
    assert trainee.config.grid_shape is not None
    assert trainee.config.grid_shape[1:] == (16, 16)
    for name, weight in ready.state_dict().items():
        assert torch.equal(trainee.model.state_dict()[name], weight), name
    assert (trainee.options.steps(64), FitOptions().steps(64)) == (375, 1500)
    scratch = AutoencoderTrainee(photos, FitOptions(), 0, fabric).model
    device = torch.device("cpu")
    assert reconstruction_mse(trainee.model, photos, device) < 0.5 * reconstruction_mse(scratch, photos, device)


def test_auto_starts_from_photo_where_that_is_possible(photos: ImageSet) -> None:
    auto = FitOptions(start="auto")
    assert auto.begun(3, 64).start == "photo"
    assert {auto.begun(*shape).start for shape in ((1, 64), (3, 16), (3, 50))} == {"scratch"}
    grey = ImageSet(photos.pixels[:, :1], photos.labels, photos.classes)
    assert style_config(grey, auto) == style_config(grey, FitOptions())
    with pytest.raises(UserError, match="--start photo: for colour images"):
        style_config(grey, FitOptions(start="photo"))
    with pytest.raises(UserError, match="--start warm: unknown"):
        FitOptions(start="warm")
