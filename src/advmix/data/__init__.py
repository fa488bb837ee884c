"""Data sets: digits, Colored-MNIST and its relatives."""

from advmix.data.colored import ColoredDigits, GrayDigits
from advmix.data.config import DataConfig
from advmix.data.images import ImageSet, balanced_batches, epoch_batches, slices, to_bytes, to_float
from advmix.data.looks import Look, make_look
from advmix.data.sources import Data, open_data, painted_digits

__all__ = [
    "ColoredDigits",
    "Data",
    "DataConfig",
    "GrayDigits",
    "ImageSet",
    "Look",
    "balanced_batches",
    "epoch_batches",
    "make_look",
    "open_data",
    "painted_digits",
    "slices",
    "to_bytes",
    "to_float",
]
