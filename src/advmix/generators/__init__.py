"""Generators: `dec`, in two stages; the style network (AdaIN) and StyleGAN's."""

from advmix.generators.base import Generator, State
from advmix.generators.layered import LayeredGenerator, NetworkConfig
from advmix.generators.registry import build_generator, read_network, write_network
from advmix.generators.style import StyleConfig, StyleGenerator
from advmix.generators.stylegan import StyleGan, StyleGanConfig

__all__ = [
    "Generator",
    "LayeredGenerator",
    "NetworkConfig",
    "State",
    "StyleConfig",
    "StyleGan",
    "StyleGanConfig",
    "StyleGenerator",
    "build_generator",
    "read_network",
    "write_network",
]
