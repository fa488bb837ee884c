"""Images of which nothing is known but their names."""

from __future__ import annotations

from contextlib import closing

from torch import Tensor

from advmix.data.photos.decode import Broken, decode_all, open_bytes
from advmix.data.photos.files import open_files
from advmix.data.photos.layouts import is_picture
from advmix.data.photos.load import broken_words, say_left_out
from advmix.data.photos.options import PhotoOptions
from advmix.errors import UserError
from advmix.options import expanded


def load_pictures(data: str, options: PhotoOptions) -> tuple[Tensor, tuple[str, ...], tuple[Broken, ...]]:
    """All images of a folder or a zip archive, in the order of their names; no labels are looked for.

    Returns:
        Pixels `(N, C, size, size)` uint8, N names, and the images that were left out.

    Raises:
        UserError: no images, or broken ones, unless `skip_broken`.
    """
    place = expanded(data, "data")
    with closing(open_files(place)) as files:
        names = sorted(name for name in files.names if is_picture(name))[: options.limit]
        if not names:
            raise UserError(f"{place}: no images in it")
        decoded = decode_all(
            lambda name: open_bytes(files.read(name)), names, options.size, options.channels, options.crop
        )
    if decoded.broken and not (options.skip_broken and len(decoded.kept)):
        raise UserError(broken_words(str(place), decoded.broken, len(names)))
    say_left_out(str(place), decoded.broken, len(names))
    return decoded.pixels, tuple(names[row] for row in decoded.kept.tolist()), decoded.broken
