"""Generators: `dec`, in two stages, and the style network (AdaIN)."""

from advmix.generators.base import Generator, State
from advmix.generators.style import StyleConfig, StyleGenerator

__all__ = ["Generator", "State", "StyleConfig", "StyleGenerator"]
