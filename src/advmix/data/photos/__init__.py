"""A user's own images: folders, tables, zip archives, torchvision's and Hugging Face's data sets."""

from advmix.data.photos.decode import Broken, PhotoOptions, PhotoShape
from advmix.data.photos.load import Native, Photos, PhotoSet, load_photos, load_pictures, native_photos

__all__ = [
    "Broken",
    "Native",
    "PhotoOptions",
    "PhotoSet",
    "PhotoShape",
    "Photos",
    "load_photos",
    "load_pictures",
    "native_photos",
]
