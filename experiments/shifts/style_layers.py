"""Rivals that act inside a network, on the means and deviations of its features, while it is trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torchvision.models import ResNet

from advmix.training.objectives import Batch, Nominal, Objective
from advmix.utils.torch_tools import draw_seed, global_seed

EPS = 1e-6
"""Added to a variance before its root, as in both papers' code."""


class FeatureStyle(nn.Module):
    """Other means and deviations for the channels of features, in train mode, with probability `p` for the whole batch;
    in eval mode it does nothing. Random numbers are torch's global ones, see `Seeded`.

    Args:
        p: probability that a batch is changed, in [0, 1].

    Attributes:
        blocks: how many of a plain network's first convolutions it follows.
        stages: which parts of torchvision's ResNet it follows.
        constant: whether the statistics are constants for a gradient.
    """

    blocks: ClassVar[int]
    stages: ClassVar[tuple[str, ...]]
    constant: ClassVar[bool]

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape and type; statistics are float32 under autocast, too. Features of a single
        pixel have no deviation, and stay as they are.
        """
        pixels = features[0, 0].numel()
        if not self.training or torch.rand(()) >= self.p or pixels == 1:
            return features
        with torch.autocast(features.device.type, enabled=False):
            exact = features.float()
            mean = self.constants(exact.mean(dim=(2, 3), keepdim=True))
            centred = exact - mean
            variance = self.constants(centred).square().sum(dim=(2, 3), keepdim=True) / (pixels - 1)
            deviation = (variance + EPS).sqrt()
            new_mean, new_deviation = self.changed(mean, deviation)
            return torch.addcmul(new_mean, centred, new_deviation / deviation).to(features.dtype)

    def constants(self, statistics: Tensor) -> Tensor:
        """The same, without a gradient where the layer has none of statistics."""
        return statistics.detach() if self.constant else statistics

    @abstractmethod
    def changed(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Both `(B, C, 1, 1)`."""


class MixStyle(FeatureStyle):
    """Statistics are mixed with those of another image of the batch, in a share `Beta(alpha, alpha)` per image (Zhou et
    al., "Domain generalization with MixStyle", 2021, with random shuffling: it needs no sites).

    After the first three stages of a ResNet, as the authors have it on PACS; of a plain network here after all but the
    last of three convolutions.
    """

    blocks, stages, constant = 2, ("layer1", "layer2", "layer3"), True

    def __init__(self, p: float = 0.5, alpha: float = 0.1) -> None:
        super().__init__(p)
        self.alpha = alpha

    def changed(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Both mixed alike."""
        share = Beta(self.alpha, self.alpha).sample((len(mean), 1, 1, 1)).to(mean.device)
        other = torch.randperm(len(mean)).to(mean.device)
        return torch.lerp(mean[other], mean, share), torch.lerp(deviation[other], deviation, share)


class DSU(FeatureStyle):
    """Statistics get Gaussian noise, of the deviation that they have over the batch times `factor` (Li et al.,
    "Uncertainty modeling for out-of-distribution generalization", 2022).

    After the first convolution, the pooling and all four stages of a ResNet, as in the paper; of a plain network here
    after all three convolutions.
    """

    blocks, stages, constant = 3, ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"), False

    def __init__(self, p: float = 0.5, factor: float = 1.0) -> None:
        super().__init__(p)
        self.factor = factor

    def changed(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Each with noise of its own."""
        return self.noisy(mean), self.noisy(deviation)

    def noisy(self, statistic: Tensor) -> Tensor:
        """`(B, C, 1, 1)` to the same shape."""
        spread = (statistic.var(dim=0, keepdim=True) + EPS).sqrt()
        return torch.addcmul(statistic, torch.randn(statistic.shape).to(spread), spread, value=self.factor)


def with_style_layers(network: nn.Module, make_layer: Callable[[], FeatureStyle]) -> nn.Module:
    """The network itself, with layers where their class says.

    They have no weights and change no name, so that trained weights fit the network without them.

    Args:
        network: a ResNet of torchvision, or a plain network whose convolutions each end in a `ReLU` of its own; also
            inside another module.
        make_layer: makes one layer.

    Raises:
        ValueError: a network with fewer convolutions.
    """
    for place in _places(network, make_layer()):
        place.add_module("style", make_layer())
        place.register_forward_hook(_restyled)
    return network


def _places(network: nn.Module, layer: FeatureStyle) -> list[nn.Module]:
    inner = next((part for part in network.modules() if isinstance(part, ResNet)), None)
    if inner is not None:
        return [_last(inner.get_submodule(stage)) for stage in layer.stages]
    ends: list[nn.Module] = [part for part in network.modules() if isinstance(part, nn.ReLU)]
    if len(ends) < layer.blocks:
        raise ValueError(f"{len(ends)} ReLU layers, but {type(layer).__name__} follows the first {layer.blocks}")
    return ends[: layer.blocks]


def _last(part: nn.Module) -> nn.Module:
    """The last of a sequence: a sequence would run a layer that is added to it by itself."""
    while isinstance(part, nn.Sequential):
        part = part[-1]
    return part


def _restyled(place: nn.Module, inputs: Any, features: Tensor) -> Tensor:
    styled: Tensor = place.get_submodule("style")(features)
    return styled


class Seeded(Objective):
    """Another objective of a network that draws random numbers itself: they follow from `rng`.

    >>> network = with_style_layers(conv_net(5), MixStyle)
    >>> loss = Seeded()(network, batch, rng)
    """

    def __init__(self, objective: Objective | None = None) -> None:
        self.objective = objective or Nominal()

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        with global_seed(draw_seed(rng)):
            return self.objective(classifier, batch, rng)
