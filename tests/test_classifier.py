from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.classifiers.networks import Grayscale, conv_net
from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import Classifier
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded

IMAGES = torch.rand(4, 3, 8, 8, generator=seeded(0), dtype=torch.float64)


class Record(nn.Module):
    """Keeps what it is shown; answers with the mean of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images.mean(dim=(2, 3))


class OneLogit(nn.Module):
    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, images: Tensor) -> Tensor:
        logit = images.mean(dim=(1, 2, 3)) * 20 - 10
        return logit if self.flat else logit[:, None]


def test_images_are_normalised_per_channel() -> None:
    network = Record()
    Classifier(network, mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 2.0))(IMAGES)
    for channel, (mean, std) in enumerate(((0.5, 0.5), (0.0, 1.0), (0.25, 2.0))):
        torch.testing.assert_close(network.seen[:, channel], (IMAGES[:, channel] - mean) / std)


def test_without_settings_images_and_logits_pass_unchanged() -> None:
    network = Record()
    logits = Classifier(network)(IMAGES)
    assert torch.equal(network.seen, IMAGES)
    assert torch.equal(logits, network(IMAGES))


@pytest.mark.parametrize("side", [4, 8, 12])
def test_images_are_resized_to_what_the_network_wants(side: int) -> None:
    network = Record()
    Classifier(network, size=side)(IMAGES)
    assert network.seen.shape == (4, 3, side, side)
    assert torch.equal(network.seen, IMAGES) == (side == 8)
    torch.testing.assert_close(network.seen.mean(), IMAGES.mean(), rtol=0.05, atol=0)


@pytest.mark.parametrize("side", [2, 5, 12])
def test_gradients_pass_the_resize(side: int) -> None:
    classifier = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * side**2, 2)).double(), (0.5,) * 3, (0.2,) * 3, side
    )
    images = IMAGES[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: classifier(x).sum(), (images,))
    (gradient,) = torch.autograd.grad(classifier(images)[0, 0], images)
    assert (gradient != 0).all()


@pytest.mark.parametrize("flat", [True, False])
def test_single_logit_becomes_two_with_the_binary_loss(flat: bool) -> None:
    network, labels = OneLogit(flat), torch.tensor([0, 1, 1, 0])
    logits = Classifier(network)(IMAGES)
    assert logits.shape == (4, 2)
    plain = network(IMAGES).flatten()
    binary = F.binary_cross_entropy_with_logits(plain, labels.double(), reduction="none")
    torch.testing.assert_close(F.cross_entropy(logits, labels, reduction="none"), binary)
    assert torch.equal(logits.argmax(dim=1), (plain > 0).long())


def test_normalisation_is_not_among_the_weights() -> None:
    network = conv_net(10, widths=(4,))
    names = set(Classifier(network, (0.5,) * 3, (0.5,) * 3).state_dict())
    assert names == {f"network.{name}" for name in network.state_dict()}


def test_grayscale_sees_no_colour() -> None:
    gray = Grayscale()(IMAGES)
    assert gray.shape == IMAGES.shape
    torch.testing.assert_close(gray, Grayscale()(IMAGES[:, [2, 0, 1]]))
    for channel in range(3):
        torch.testing.assert_close(gray[:, channel], (IMAGES[:, 0] + IMAGES[:, 1] + IMAGES[:, 2]) / 3)


@pytest.mark.parametrize(("channels", "side"), [(3, 16), (1, 32), (3, 9)])
def test_network_of_the_studies_takes_any_size(channels: int, side: int) -> None:
    for pool in (2, 4):
        network = conv_net(7, channels, pool=pool)
        assert network(torch.rand(2, channels, side, side)).shape == (2, 7)
        assert network[-1].in_features == 128 * pool**2


@pytest.mark.parametrize("arguments", ["[1]", "{"])
def test_arguments_must_be_a_json_object(arguments: str) -> None:
    with pytest.raises(UserError, match="--classifier-args"):
        ClassifierOptions("shop:net", classifier_args=arguments)
