"""Data sets: digits, Colored-MNIST and its relatives."""

from advmix.data.colored import ColoredDigits, DataConfig, GrayDigits
from advmix.data.images import ImageSet, epoch_batches, slices, to_bytes, to_float
from advmix.data.looks import Look, make_look

__all__ = [
    "ColoredDigits",
    "DataConfig",
    "GrayDigits",
    "ImageSet",
    "Look",
    "epoch_batches",
    "make_look",
    "slices",
    "to_bytes",
    "to_float",
]
