"""Other people's generators, read without running anything of theirs."""

from advmix.pretrained.read import Imported, import_generator, read_generator

__all__ = ["Imported", "import_generator", "read_generator"]
