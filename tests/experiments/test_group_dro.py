"""GroupDRO, and the groups that are found by the light."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.classifiers.networks import conv_net
from advmix.data.colored import ColoredDigits
from advmix.data.images import ImageSet
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Batch, Nominal
from advmix.utils.device import make_fabric
from advmix.utils.torch_tools import generator, global_seed
from experiments.shifts.group_dro import GroupDRO
from experiments.shifts.lights import Lights


def test_weights_follow_the_losses_of_the_groups(digits: ColoredDigits) -> None:
    groups = torch.where(torch.arange(96) % 3 == 0, 4, torch.where(torch.arange(96) < 90, -1, 9))
    objective, weights, names = GroupDRO(digits.train, groups, step=0.5), [1 / 3, 1 / 3, 1 / 3], (-1, 4, 9)
    with global_seed(0):
        network = conv_net(10, widths=(8, 16))
    for step in range(4):
        batch = Batch(*digits.train.batch(slice(0, 5)), torch.arange(5))
        drawn, index = objective.draw(5, generator(step))
        assert [names[place] for place in drawn] == groups[index].tolist()
        x, y = digits.train.batch(index)
        losses = F.cross_entropy(network(x), y, reduction="none").tolist()
        means = []
        for place in range(3):
            own = [loss for loss, group in zip(losses, drawn.tolist(), strict=True) if group == place]
            means.append(sum(own) / len(own) if own else 0.0)
        grown = [weight * math.exp(0.5 * mean) for weight, mean in zip(weights, means, strict=True)]
        weights = [one / sum(grown) for one in grown]
        loss = objective(network, batch, generator(step))
        assert objective.weights.tolist() == pytest.approx(weights, rel=1e-5)
        assert loss.item() == pytest.approx(sum(w * m for w, m in zip(weights, means, strict=True)), rel=1e-4)
        assert not objective.weights.requires_grad
        torch.autograd.backward(loss)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_all_groups_and_all_their_members_are_equally_likely(digits: ColoredDigits) -> None:
    groups = torch.where(torch.arange(96) < 90, 7, torch.where(torch.arange(96) < 92, 3, 5))
    drawn, index = GroupDRO(digits.train, groups).draw(9000, generator(0))
    assert all(2800 < count < 3200 for count in drawn.bincount().tolist())
    seen = index.bincount(minlength=96)
    assert seen[:90].min() > 10
    assert seen[:90].max() < 70
    assert (seen[90:92] > 1300).all()
    assert (seen[92:] > 600).all()


class Shown(nn.Module):
    """Keeps what it is shown."""

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return images.flatten(1)[:, :10]


def test_drawn_images_are_mirrored_where_the_batch_is(digits: ColoredDigits) -> None:
    shown, groups = Shown(), torch.arange(96) % 4
    for augmented in (False, True):
        batch = Batch(*digits.train.batch(slice(0, 30)), torch.arange(30), augmented)
        GroupDRO(digits.train, groups)(shown, batch, generator(1))
        _, index = GroupDRO(digits.train, groups).draw(30, generator(1))
        plain = digits.train.batch(index)[0]
        same = (shown.images == plain).flatten(1).all(1)
        mirrored = (shown.images == plain.flip(-1)).flatten(1).all(1)
        assert (same | mirrored).all()
        assert bool(same.all()) != augmented


def patches(count: int = 240, against: int = 12) -> tuple[ImageSet, torch.Tensor]:
    """Class 1 is warm, but for a few; a bright corner tells it always. The second number is 1 where light is warm."""
    rng = generator(0, "tests", "patches")
    labels = torch.arange(count) % 2
    warm = labels.clone()
    warm[:against] = 1 - warm[:against]
    pixels = torch.randint(60, 160, (count, 3, 16, 16), dtype=torch.uint8, generator=rng)
    pixels[warm == 1, 0] += 50
    pixels[labels == 1, :, :5, :5] += 30
    return ImageSet(pixels, labels, ("cold", "warm")), warm


def trained(objective: Nominal | GroupDRO, images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of the steps, and those of the images in the end."""
    with global_seed(0):
        network = conv_net(2, widths=(8, 8))
    options, loop = TrainOptions(epochs=8, batch=60, lr=3e-3), Loop("test", 32, log_every=1)
    loop.train(ClassifierTrainee(network, objective, images, options, 0, make_fabric("cpu")))
    x, y = images.batch(slice(None))
    with torch.no_grad():
        losses = F.cross_entropy(network.eval()(x), y, reduction="none")
    return torch.tensor([line["loss"] for line in loop.history]), losses


def test_the_worst_group_is_served_better() -> None:
    images, warm = patches()
    groups = 2 * images.labels + warm
    objective = GroupDRO(images, groups, step=0.1)
    history, losses = trained(objective, images)
    assert history[-6:].mean() < 0.9 * history[:6].mean()
    rare = warm != images.labels
    assert losses[rare].mean() < trained(Nominal(), images)[1][rare].mean()
    assert float(objective.weights.sum()) == pytest.approx(1, abs=1e-5)


def test_lights_are_found_and_known_again() -> None:
    images, warm = patches()
    lights = Lights(images, kinds=2, seed=0)
    kinds = lights.kinds(images)
    assert torch.equal(kinds, warm) or torch.equal(kinds, 1 - warm)
    assert torch.equal(lights.groups(images), 2 * images.labels + kinds)
    assert torch.equal(lights.kinds(images[50:53]), kinds[50:53])
    assert torch.equal(Lights(images, kinds=2, seed=0).kinds(images), kinds)
    assert set(Lights(images, seed=3).kinds(images).tolist()) == {0, 1, 2, 3}
