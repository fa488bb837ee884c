"""Generators: `dec`, in two stages; the style network (AdaIN), StyleGAN's and StyleGAN2's."""

from advmix.generators.base import Generator, State
from advmix.generators.registry import build_generator, read_network, write_network
from advmix.generators.style import LayeredGenerator, NetworkConfig, StyleConfig, StyleGenerator
from advmix.generators.stylegan import MappedGenerator, StyleGan, StyleGanConfig
from advmix.generators.stylegan2 import StyleGan2, StyleGan2Config

__all__ = [
    "Generator",
    "LayeredGenerator",
    "MappedGenerator",
    "NetworkConfig",
    "State",
    "StyleConfig",
    "StyleGan",
    "StyleGan2",
    "StyleGan2Config",
    "StyleGanConfig",
    "StyleGenerator",
    "build_generator",
    "read_network",
    "write_network",
]
