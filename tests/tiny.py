"""Small parts that the tests build with: networks of a few numbers, seeded latents."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from advmix.cli import main
from advmix.generators.style import StyleConfig, StyleGenerator
from advmix.latents import Latents
from advmix.training.loop import Stepper
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed

VECTOR = StyleConfig(resolution=8, style_dim=4, widths=(6, 6, 5), start=2)
SPATIAL = StyleConfig(resolution=8, style_dim=4, widths=(6, 5), start=4, grid_channels=8)


def make_generator(config: StyleConfig = VECTOR, seed: int = 0) -> StyleGenerator:
    """In float64, with a last layer strong enough for images that differ well."""
    with global_seed(seed):
        network = StyleGenerator(config).double()
        nn.init.normal_(network.to_image.weight, std=0.5)
    return network


def make_latents(config: StyleConfig, count: int, seed: int = 0) -> Latents:
    """Seeded normal numbers in float64, of another spread in every layer."""
    rng = seeded(seed, "tests", "latents")
    scale = torch.linspace(0.5, 1.5, config.layers, dtype=torch.float64)[:, None]
    styles = torch.randn(count, config.layers, config.style_dim, generator=rng, dtype=torch.float64) * scale
    if config.grid_shape is None:
        return Latents(styles)
    return Latents(styles, torch.randn(count, *config.grid_shape, generator=rng, dtype=torch.float64))


def make_classifier(classes: int = 3, seed: int = 0) -> nn.Sequential:
    """In float64 and train mode; its batch normalisation has seen a few images."""
    with global_seed(seed):
        last = nn.Linear(384, classes)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), last
        ).double()
        nn.init.normal_(last.weight, std=0.3)
        network(torch.rand(16, 3, 8, 8, dtype=torch.float64))
    return network


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same_state(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def no_gradients(*modules: nn.Module) -> bool:
    return all(parameter.grad is None for module in modules for parameter in module.parameters())


def interrupt_at(step: int, trainee: Stepper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C while the trainee is in this step."""
    loss = trainee.loss

    def interrupted(current: int) -> Tensor:
        if current == step:
            signal.raise_signal(signal.SIGINT)
        return loss(current)

    monkeypatch.setattr(trainee, "loss", interrupted)


def cli(words: Sequence[str]) -> int:
    """Run a command whose later flags take the place of earlier ones of the same name; its exit code."""
    return main(last_of_each(words))


def last_of_each(words: Sequence[str]) -> list[str]:
    """A command line without the flags that come again further on, and their values."""
    groups: dict[str, list[str]] = {"": []}
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag = word
            groups[flag] = []
        groups[flag].append(word)
    return [word for group in groups.values() for word in group]
