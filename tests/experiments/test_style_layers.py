"""MixStyle and DSU: against loops over images and channels, and where they stand in a network."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torchvision.models import resnet18

from advmix.classifiers.networks import build_network, conv_net
from advmix.utils.torch_tools import eval_mode, global_seed
from experiments.shifts.style_layers import DSU, FeatureStyle, MixStyle, with_style_layers
from tiny import assert_same_state, state_of

BOTH = pytest.mark.parametrize("kind", [MixStyle, DSU])


def features(count: int = 5, seed: int = 0) -> Tensor:
    with global_seed(seed):
        return torch.randn(count, 4, 6, 3, dtype=torch.float32) * torch.rand(count, 4, 1, 1) + torch.randn(4, 1, 1)


def statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means and deviations `(B, C)`, in loops."""
    means, deviations = torch.zeros(values.shape[:2]), torch.zeros(values.shape[:2])
    for row, image in enumerate(values):
        for place, channel in enumerate(image):
            mean = sum(channel.flatten().tolist()) / channel.numel()
            square = sum((value - mean) ** 2 for value in channel.flatten().tolist()) / (channel.numel() - 1)
            means[row, place], deviations[row, place] = mean, (square + 1e-6) ** 0.5
    return means, deviations


def restyled(values: Tensor, new_means: Tensor, new_deviations: Tensor) -> Tensor:
    means, deviations = statistics(values)
    out = torch.zeros_like(values)
    for row in range(len(values)):
        for place in range(values.shape[1]):
            normal = (values[row, place] - means[row, place]) / deviations[row, place]
            out[row, place] = normal * new_deviations[row, place] + new_means[row, place]
    return out


def test_mixstyle_is_the_papers() -> None:
    x = features()
    with global_seed(3):
        found = MixStyle(p=1.0, alpha=0.4)(x)
    with global_seed(3):
        torch.rand(())
        shares, order = Beta(0.4, 0.4).sample((5, 1, 1, 1)).flatten(), torch.randperm(5)
    means, deviations = statistics(x)
    mixed = [
        torch.stack([share * own[row] + (1 - share) * own[order[row]] for row, share in enumerate(shares)])
        for own in (means, deviations)
    ]
    assert not torch.equal(order, torch.arange(5))
    torch.testing.assert_close(found, restyled(x, *mixed), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_dsu_is_the_papers(factor: float) -> None:
    x = features()
    with global_seed(3):
        found = DSU(p=1.0, factor=factor)(x)
    with global_seed(3):
        torch.rand(())
        noises = [torch.randn(5, 4, 1, 1).flatten(1) for _ in range(2)]
    noisy = []
    for own, noise in zip(statistics(x), noises, strict=True):
        spread = torch.stack([(sum((one - own.mean(0)) ** 2 for one in own) / 4 + 1e-6).sqrt()] * 5)
        noisy.append(own + factor * noise * spread)
    torch.testing.assert_close(found, restyled(x, *noisy), atol=1e-5, rtol=1e-5)


@BOTH
def test_only_dsu_has_a_gradient_of_the_statistics(kind: type[FeatureStyle]) -> None:
    """Without one, a feature's gradient is what its channel is multiplied by."""
    x = features().requires_grad_()
    with global_seed(1):
        found = kind(p=1.0)(x)
    torch.autograd.backward(found.sum())
    assert x.grad is not None
    factor = statistics(found)[1] / statistics(x)[1]
    assert torch.allclose(x.grad, factor[..., None, None].expand_as(x), atol=1e-3) == (kind is MixStyle)


def test_features_of_one_pixel_stay() -> None:
    x = torch.rand(4, 5, 1, 1)
    assert torch.equal(DSU(p=1.0)(x), x)


@BOTH
def test_layer_changes_a_share_of_the_batches_and_none_in_eval_mode(kind: type[FeatureStyle]) -> None:
    x, layer = features(), kind(p=0.3)
    with global_seed(0):
        changed = [not torch.equal(layer(x), x) for _ in range(200)]
        assert 40 < sum(changed) < 80
        layer.eval()
        assert all(torch.equal(layer(x), x) for _ in range(20))


@BOTH
def test_statistics_are_exact_in_low_precision(kind: type[FeatureStyle]) -> None:
    x, layer = features(16), kind(p=1.0)
    with global_seed(2):
        exact = layer(x)
    with global_seed(2), torch.autocast("cpu", torch.bfloat16):
        rough = layer(x.to(torch.bfloat16))
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.02)


def called(network: nn.Module, images: Tensor) -> list[tuple[int, ...]]:
    """The shapes that the layers of a network see, in order."""
    shapes: list[tuple[int, ...]] = []
    for part in network.modules():
        if isinstance(part, FeatureStyle):
            part.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape[1:])))
    network(images)
    return shapes


def test_places_in_a_plain_network() -> None:
    images = torch.rand(2, 3, 16, 16)
    blocks = [(32, 16, 16), (64, 8, 8), (128, 4, 4)]
    assert called(with_style_layers(conv_net(4), MixStyle), images) == blocks[:2]
    assert called(with_style_layers(conv_net(4), DSU), images) == blocks
    assert called(with_style_layers(build_network("instnorm", 4, 3, 0), DSU), images) == blocks


def test_places_in_a_resnet() -> None:
    images = torch.rand(2, 3, 64, 64)
    stages = [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert called(with_style_layers(resnet18(num_classes=4), MixStyle), images) == stages[:3]
    network = nn.Sequential(nn.Identity(), resnet18(num_classes=4))
    assert called(with_style_layers(network, DSU), images) == [(64, 32, 32), (64, 16, 16), *stages]


def test_too_few_places_are_refused() -> None:
    with pytest.raises(ValueError, match="1 ReLU layers, but MixStyle follows the first 2"):
        with_style_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), MixStyle)


@BOTH
@pytest.mark.parametrize("make", [lambda: conv_net(4), lambda: resnet18(num_classes=4)], ids=["plain", "resnet"])
def test_weights_fit_the_network_without_layers(kind: type[FeatureStyle], make: Callable[[], nn.Module]) -> None:
    images = torch.rand(4, 3, 32, 32)
    with global_seed(0):
        plain = make()
    styled = with_style_layers(copy.deepcopy(plain), lambda: kind(p=1.0))
    assert_same_state(state_of(styled), state_of(plain))
    with eval_mode(plain, styled):
        assert torch.equal(styled(images), plain(images))
    twin = copy.deepcopy(styled)
    with global_seed(0):
        first = styled(images)
    with global_seed(0):
        assert torch.equal(twin(images), first)
    assert not torch.allclose(first, plain(images))
