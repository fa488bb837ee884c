"""Data sets: digits, Colored-MNIST."""

from advmix.data.colored import ColoredDigits, DataConfig, GrayDigits, color_grid, paint, uniform_colors
from advmix.data.images import ImageSet, epoch_batches, slices, to_bytes, to_float

__all__ = [
    "ColoredDigits",
    "DataConfig",
    "GrayDigits",
    "ImageSet",
    "color_grid",
    "epoch_batches",
    "paint",
    "slices",
    "to_bytes",
    "to_float",
    "uniform_colors",
]
