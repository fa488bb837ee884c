"""Controls that only the studies train."""

from __future__ import annotations

import pytest
import torch

from advmix.classifiers.networks import build_network
from advmix.commands.train import TrainConfig
from advmix.data.colored import ColoredDigits
from advmix.data.settings import DataConfig
from advmix.mixing import SearchOptions
from advmix.training.classify import TrainOptions
from advmix.training.methods import BaselineOptions, make_recipe
from advmix.training.objectives import Augment, Batch
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator
from experiments.controls import CONTROLS, Recolor, check_methods, training

DATA = DataConfig(train_images=40, test_images=20)


def test_recolor_paints_the_same_digits(digits: ColoredDigits) -> None:
    index = torch.arange(30)
    images, labels = digits.train.batch(index)
    recolor = make_recipe("recolor", digits, 0, SearchOptions(), BaselineOptions(clean_weight=0.25)).objective
    assert isinstance(recolor, Recolor)
    assert recolor.clean_weight == 0.25
    copy = recolor.copy(build_network("nominal", 10, 3, 0), Batch(images, labels, index), generator(0))
    gray = digits.gray_train.pixels[index, 0].float() / 255
    shapes = copy.amax(dim=1) / copy.amax(dim=(1, 2, 3))[:, None, None]
    torch.testing.assert_close(shapes, gray / gray.amax(dim=(1, 2))[:, None, None])
    assert (copy - images).abs().amax(dim=(1, 2, 3)).min() > 0


def test_permute_changes_the_order_of_the_channels(digits: ColoredDigits) -> None:
    index = torch.arange(30)
    images, labels = digits.train.batch(index)
    permute = make_recipe("permute", digits, 0, SearchOptions(), BaselineOptions()).objective
    assert isinstance(permute, Augment)
    copy = permute.copy(build_network("nominal", 10, 3, 0), Batch(images, labels, index), generator(0))
    torch.testing.assert_close(copy.sort(dim=1).values, images.sort(dim=1).values)
    assert not torch.equal(copy, images)


def test_the_controls_of_equal_compute() -> None:
    nominal = training("nominal-long", TrainConfig(), DATA)
    assert (nominal.method, nominal.train.epochs) == ("nominal", 8 * 15)
    longer = training("randmix-long", TrainConfig(train=TrainOptions(epochs=3)), DATA)
    assert (longer.method, longer.train.epochs) == ("randmix", 6)
    best = training("randmix-best", TrainConfig(), DATA)
    assert (best.method, best.search.restarts, best.search.steps) == ("advmix", 4, 0)
    assert training("mixup", TrainConfig(), DATA) == TrainConfig(method="mixup")


def test_every_control_is_known_and_none_twice() -> None:
    check_methods(("nominal", "advmix", *CONTROLS))
    with pytest.raises(UserError, match=r"method 'advmix-long': unknown; choose from nominal .* permute nominal-long"):
        check_methods(("advmix-long",))
    with pytest.raises(UserError, match="names one twice"):
        check_methods(("nominal-long", "nominal-long"))
