"""A user's data set in memory: `load_photos`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.data.images import ImageSet
from advmix.data.photos.decode import Broken, Decoded, PhotoOptions, decode_all, is_picture, open_bytes
from advmix.data.photos.folders import left_out, open_files, open_path
from advmix.data.photos.libraries import open_hugging_face, open_torchvision
from advmix.data.photos.pixel_cache import decode_once
from advmix.data.photos.rows import Source, Table, first_few, make_table
from advmix.data.photos.stream import STREAM, open_stream
from advmix.utils.config import expanded
from advmix.utils.errors import UserError, printable
from advmix.utils.progress import console


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """The images of one split.

    Args:
        images: pixels, labels and classes.
        groups: `(N,)` int64, indices into the groups' names; zeros without groups.
        sites: `(N,)` int64, indices into the sites' names; zeros without sites.
        units: `(N,)` int64, the same for images that `split_by` keeps together; each image its own without it.
        names: `(N,)`, of the images in their source.
    """

    images: ImageSet
    groups: Tensor
    sites: Tensor
    units: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Photos:
    """A data set with its splits.

    >>> photos = load_photos("faces", PhotoOptions(target="Smiling", group=("Male",)))
    >>> photos.train.images.pixels.shape, photos.classes, photos.groups
    (torch.Size([24995, 3, 64, 64]), ('not Smiling', 'Smiling'), ('not Male', 'Male'))

    Args:
        splits: by name, in the order train, val, test; those that there are.
        classes: names.
        groups: names of the groups; empty where none were asked for.
        sites: names of the sites, likewise.
        broken: images that could not be read, and are in no split.
        sizes: how many images have a width and height in pixels, as stored.
        modes: how many images have a mode of Pillow, as stored.
        unlabelled: how many images lie there without a label.
        notes: remarks about what was passed over or may be wrong, a line each.
    """

    splits: Mapping[str, PhotoSet]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    sites: tuple[str, ...]
    broken: tuple[Broken, ...]
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    unlabelled: int
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> PhotoSet:
        """Training images."""
        return self._first("train")

    @property
    def test(self) -> PhotoSet:
        """Test images; those of `val` where there is no test."""
        return self._first("test", "val")

    def _first(self, *names: str) -> PhotoSet:
        found = next((self.splits[name] for name in names if name in self.splits), None)
        if found is None:
            raise UserError(f"the data have no {names[0]} images, only {' and '.join(self.splits)}")
        return found


def load_photos(data: str, options: PhotoOptions, seed: int = 0) -> Photos:
    """Read a data set.

    Args:
        data: a folder, a .zip or .csv file, shards of WebDataset, `torchvision:NAME` or `hf:NAME`; `$NAME` in a path is
            an environment variable.
        options: what is read of it.
        seed: fixes what `limit` leaves.

    Raises:
        UserError: the data are not as they should be; images are broken, unless `skip_broken`.
    """
    with closing(open_source(data, options)) as source:
        table = make_table(source, options, seed)
        order = sorted(range(len(table.entries)), key=lambda place: SPLIT_NAMES.index(table.entries[place].split))
        names = [table.entries[place].name for place in order]
        decoded = _decoded(source, names, options)
    places = {entry.name: place for place, entry in enumerate(table.entries)}
    broken = tuple(sorted(decoded.broken, key=lambda image: places[image.name]))
    if broken and not (options.skip_broken and len(decoded.kept)):
        raise UserError(broken_words(source.place, broken, len(names)))
    return Photos(
        _split_sets(table, order, decoded),
        table.classes,
        table.groups,
        table.sites,
        broken,
        decoded.sizes,
        decoded.modes,
        table.unlabelled,
        (*source.notes, *table.notes),
    )


def _decoded(source: Source, names: Sequence[str], options: PhotoOptions) -> Decoded:
    decoded = source.decoded(names)
    if decoded is None:
        stamp = source.stamp(names)
        decoded = decode_once(source.open, names, stamp, options.size, options.channels, options.crop)
    return decoded


@dataclass(frozen=True, eq=False)
class Native:
    """Images of a data set in another size than they were loaded in, read from their files when asked for.

    >>> with native_photos("faces", options) as native:
    ...     native.pixels(photos.test.names[:10], size=224).shape
    torch.Size([10, 3, 224, 224])
    """

    source: Source
    options: PhotoOptions

    def pixels(self, names: Sequence[str], size: int) -> Tensor:
        """`(N, C, size, size)` uint8, cropped as all of the data are.

        Raises:
            UserError: an image cannot be read any more.
        """
        options = self.options
        decoded = decode_all(self.source.open, names, size, options.channels, options.crop)
        if decoded.broken:
            raise UserError(broken_words(self.source.place, decoded.broken, len(names)))
        return decoded.pixels


@contextmanager
def native_photos(data: str, options: PhotoOptions) -> Iterator[Native]:
    """The images of a data set, open meanwhile; arguments as of `load_photos`.

    Raises:
        UserError: the data are not there.
    """
    with closing(open_source(data, options)) as source:
        yield Native(source, options)


def is_of_library(data: str) -> bool:
    """Whether it names a data set of torchvision or Hugging Face."""
    return data.partition(":")[0] in ("torchvision", "hf", STREAM)


def open_source(data: str, options: PhotoOptions) -> Source:
    """The rows of a data set, none of its images decoded yet.

    Raises:
        UserError: as `load_photos`.
    """
    library, _, name = data.partition(":")
    if library == "torchvision":
        return open_torchvision(name, expanded(options.data_dir, "data-dir"), options.download)
    if library == "hf":
        return open_hugging_face(name, options.download)
    if library == STREAM:
        return open_stream(name, options)
    return open_path(expanded(data, "data"))


def broken_words(
    place: str, broken: tuple[Broken, ...], count: int, then: str = "mend them, or leave them out with --skip-broken"
) -> str:
    """One line that names the first of the broken images, and says what is done about them."""
    listed = first_few(f"{image.name} ({image.reason})" for image in broken)
    return f"{printable(place)}: {len(broken):,} of {count:,} images cannot be read: {listed}; {then}"


def say_left_out(place: str, broken: tuple[Broken, ...], count: int) -> None:
    """The same on the console, where there are any and they were left out."""
    if broken:
        console.print(f"  {broken_words(place, broken, count, 'left out')}", markup=False, style="yellow")


def say_notes(place: str, notes: Sequence[str]) -> None:
    """Remarks on the console, a line each."""
    for note in notes:
        console.print(f"  {printable(f'{place}: {note}')}", markup=False, style="yellow")


SPLIT_NAMES = ("train", "val", "test")
"""In the order in which they are decoded, so that the pixels of each are one piece of memory."""


def _split_sets(table: Table, order: Sequence[int], decoded: Decoded) -> dict[str, PhotoSet]:
    kept = [table.entries[order[row]] for row in decoded.kept.tolist()]
    found, start = {}, 0
    for split in SPLIT_NAMES:
        entries = [entry for entry in kept if entry.split == split]
        rows = slice(start, start + len(entries))
        start = rows.stop
        if entries:
            numbers = torch.tensor([(entry.label, entry.group, entry.site, entry.unit) for entry in entries])
            labels, groups, sites, units = numbers.T.contiguous()
            images = ImageSet(decoded.pixels[rows], labels, table.classes)
            found[split] = PhotoSet(images, groups, sites, units, tuple(entry.name for entry in entries))
    return found


Named = tuple[list[str], Source, list[str]]

"""Names, how to open what is called so, and remarks."""


def load_pictures(
    data: str, options: PhotoOptions, part: str = "test", rng: torch.Generator | None = None
) -> tuple[Tensor, tuple[str, ...], tuple[Broken, ...]]:
    """All images of a folder, a zip archive or shards, in the order of their names, or of one part of a library's data
    set; no labels are looked for.

    Args:
        data: where they are.
        options: how many are read, and in which shape.
        part: `train`, `val` or `test`, of what has parts.
        rng: draws the images that `limit` leaves; by default they are the first ones.

    Returns:
        Pixels `(N, C, size, size)` uint8, N names, and the images that were left out.

    Raises:
        UserError: no images, or broken ones, unless `skip_broken`.
    """
    with (_of_library if is_of_library(data) else _of_files)(data, options, part) as (found, source, notes):
        if not found:
            raise UserError("; ".join([f"{data}: no images in it", *notes]))
        chosen = range(len(found)) if rng is None else torch.randperm(len(found), generator=rng).tolist()
        names = [found[place] for place in sorted(chosen[: options.limit])]
        decoded = _decoded(source, names, options)
    if decoded.broken and not (options.skip_broken and len(decoded.kept)):
        raise UserError(broken_words(data, decoded.broken, len(names)))
    say_left_out(data, decoded.broken, len(names))
    say_notes(data, notes)
    return decoded.pixels, tuple(names[row] for row in decoded.kept.tolist()), decoded.broken


@contextmanager
def _of_files(data: str, options: PhotoOptions, part: str) -> Iterator[Named]:
    with closing(open_files(expanded(data, "data"))) as files:
        names = [name for name in files.names if is_picture(name)]
        yield names, Source(data, (), lambda name: open_bytes(files.read(name)), stamp=files.stamp), left_out(files)


@contextmanager
def _of_library(data: str, options: PhotoOptions, part: str) -> Iterator[Named]:
    with closing(open_source(data, options)) as source:
        names = [row.name for row in source.rows if row.split in (part, None)]
        if source.rows and not names:
            raise UserError(f"--part {part}: {data} has {' '.join(sorted({str(row.split) for row in source.rows}))}")
        yield names, source, list(source.notes)
