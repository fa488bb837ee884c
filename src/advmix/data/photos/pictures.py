"""Images of which nothing is known but their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from PIL import Image
from torch import Tensor

from advmix.data.photos.decode import Broken, decode_all, open_bytes
from advmix.data.photos.files import open_files
from advmix.data.photos.layouts import left_out
from advmix.data.photos.load import broken_words, is_of_library, open_source, say_left_out, say_notes
from advmix.data.photos.options import PhotoOptions
from advmix.data.photos.tree import is_picture
from advmix.errors import UserError
from advmix.options import expanded

Named = tuple[list[str], Callable[[str], Image.Image], list[str]]
"""Names, how to open what is called so, and remarks."""


def load_pictures(
    data: str, options: PhotoOptions, part: str = "test"
) -> tuple[Tensor, tuple[str, ...], tuple[Broken, ...]]:
    """All images of a folder or a zip archive, in the order of their names, or of one part of a library's data set; no
    labels are looked for.

    Args:
        data: where they are.
        options: how many are read, and in which shape.
        part: `train`, `val` or `test`, of what has parts.

    Returns:
        Pixels `(N, C, size, size)` uint8, N names, and the images that were left out.

    Raises:
        UserError: no images, or broken ones, unless `skip_broken`.
    """
    with (_of_library if is_of_library(data) else _of_files)(data, options, part) as (found, opener, notes):
        names = found[: options.limit]
        if not names:
            raise UserError("; ".join([f"{data}: no images in it", *notes]))
        decoded = decode_all(opener, names, options.size, options.channels, options.crop)
    if decoded.broken and not (options.skip_broken and len(decoded.kept)):
        raise UserError(broken_words(data, decoded.broken, len(names)))
    say_left_out(data, decoded.broken, len(names))
    say_notes(data, notes)
    return decoded.pixels, tuple(names[row] for row in decoded.kept.tolist()), decoded.broken


@contextmanager
def _of_files(data: str, options: PhotoOptions, part: str) -> Iterator[Named]:
    with closing(open_files(expanded(data, "data"))) as files:
        names = [name for name in files.names if is_picture(name)]
        yield names, lambda name: open_bytes(files.read(name)), left_out(files)


@contextmanager
def _of_library(data: str, options: PhotoOptions, part: str) -> Iterator[Named]:
    with closing(open_source(data, options)) as source:
        names = [row.name for row in source.rows if row.split in (part, None)]
        if source.rows and not names:
            raise UserError(f"--part {part}: {data} has {' '.join(sorted({str(row.split) for row in source.rows}))}")
        yield names, source.open, list(source.notes)
