"""Other people's generators, read without running anything of theirs."""

from advmix.imports.read import format_of, read_generator

__all__ = ["format_of", "read_generator"]
