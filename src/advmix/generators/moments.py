"""A style network whose images are corrected to means and deviations that are two styles of their own.

What a network draws comes near to the statistics of an image that lends its styles; here every image has exactly those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from advmix.generators.base import Generator, State
from advmix.generators.image_statistics import StatisticsConfig, put_moments, take_moments
from advmix.generators.style import StyleConfig, StyleGenerator
from advmix.latents import Latents, Split


@dataclass(frozen=True)
class MomentsConfig:
    """Shape of a style network with two more styles: mean colour and contrast.

    Args:
        network: the style network.
    """

    network: StyleConfig

    @property
    def resolution(self) -> int:
        """The network's."""
        return self.network.resolution

    @property
    def channels(self) -> int:
        """The network's."""
        return self.network.channels

    @property
    def style_dim(self) -> int:
        """The network's; of mean colour and contrast the first C are in use."""
        return self.network.style_dim

    @property
    def start(self) -> int:
        """The network's."""
        return self.network.start

    @property
    def grid_shape(self) -> tuple[int, int, int] | None:
        """The network's."""
        return self.network.grid_shape

    @property
    def any_size(self) -> bool:
        """Whether the network draws images of any size."""
        return self.network.any_size

    @property
    def layers(self) -> int:
        """The network's, then mean colour and contrast."""
        return self.network.layers + len(self._moments.layer_names)

    @property
    def spatial_layers(self) -> int:
        """The network's."""
        return self.network.layers

    def layer_name(self, layer: int) -> str:
        """The network's, or what it holds."""
        if layer < self.network.layers:
            return self.network.layer_name(layer)
        return self._moments.layer_name(layer - self.network.layers)

    @property
    def number_names(self) -> tuple[tuple[str, ...], ...]:
        """None: most of its numbers were learned."""
        return ()

    @property
    def _moments(self) -> StatisticsConfig:
        return StatisticsConfig("moments", self.channels)


class MomentsGenerator(Generator):
    """A style network draws, the residual is added, and the image gets the moments that its last two styles say.

    >>> model = advmix.load("photo:moments", "photos")
    >>> model.generator(model.split.combine(model.generator.complete(model.encoder(x), x), model.encoder(donors)))

    Attributes:
        network: the style network.
    """

    def __init__(self, config: MomentsConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.channels, self.layers = config.resolution, config.channels, config.layers
        self.any_size = config.any_size
        self.network = StyleGenerator(config.network)

    def prefix(self, latents: Latents, split: Split) -> State:
        """The network's own."""
        self.check_split(split, has_grid=self.config.grid_shape is not None)
        state = self.network.prefix(self._learned(latents), self._inner(split))
        return State(state.features, latents, split)

    def _learned(self, latents: Latents) -> Latents:
        return replace(latents, styles=latents.styles[:, : self.network.layers])

    def _inner(self, split: Split) -> Split:
        """Of the network's layers; all of them where moments alone are z⊥."""
        perp = tuple(layer for layer in split.perp if layer < self.network.layers)
        return Split(self.network.layers, perp or tuple(range(self.network.layers)), split.grid)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """Without the residual: around [-1, 1]."""
        inner, latents = self._finished(state, perp)
        drawn = self.network.render_signed(inner, inner.split.perp_of(inner.latents))
        return 2 * _put(latents, (drawn + 1) / 2) - 1

    def render_unclamped(self, state: State, perp: Tensor) -> Tensor:
        """With the residual, under the moments: around [0, 1]."""
        inner, latents = self._finished(state, perp)
        return _put(latents, self.network.render_unclamped(inner, inner.split.perp_of(inner.latents)))

    def _finished(self, state: State, perp: Tensor) -> tuple[State, Latents]:
        """The network's state with the latents that it shall draw, and all latents."""
        latents = state.split.with_perp(state.latents, perp)
        return State(state.features, self._learned(latents), self._inner(state.split)), latents

    def with_residual(self, latents: Latents, images: Tensor) -> Latents:
        """What the network cannot draw, before the correction."""
        found = self.network.with_residual(self._learned(latents), images)
        return replace(latents, residual=found.residual, drawn=found.drawn)


def _put(latents: Latents, images: Tensor) -> Tensor:
    """Images `(B, C, H, W)` with the moments of their latents."""
    moments = latents.styles[:, -2:, : images.shape[1]]
    return put_moments(moments, take_moments(images.to(moments))[1])
