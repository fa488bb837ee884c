"""Other people's generators, read without running anything of theirs."""

from advmix.imports.read import read_generator

__all__ = ["read_generator"]
