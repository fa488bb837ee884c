"""Data sets: digits, Colored-MNIST and its relatives."""

from advmix.data.datasets import ColoredDigits, Data, GrayDigits, open_data, open_images, painted_digits
from advmix.data.images import ImageSet, balanced_batches, epoch_batches, slices, to_bytes, to_float
from advmix.data.painting import Painting, make_painting
from advmix.data.settings import DataConfig

__all__ = [
    "ColoredDigits",
    "Data",
    "DataConfig",
    "GrayDigits",
    "ImageSet",
    "Painting",
    "balanced_batches",
    "epoch_batches",
    "make_painting",
    "open_data",
    "open_images",
    "painted_digits",
    "slices",
    "to_bytes",
    "to_float",
]
