"""A data set of Hugging Face as a stream: one pass decodes each image into the cache; its files are kept nowhere."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.filesize import decimal
from torch import Tensor

from advmix.data.images import slices
from advmix.data.photos.containers import stamp_of
from advmix.data.photos.decode import Decoded, PhotoShape, decode_all, open_bytes
from advmix.data.photos.libraries import (
    OTHER,
    LibrarySplit,
    add_label_names,
    image_column,
    import_datasets,
    load,
    parts_of,
    read_stored,
    row_values,
    undecoded,
)
from advmix.data.photos.pixel_cache import PART_IMAGES, VERSION, PixelCache
from advmix.data.photos.rows import SPLITS, Row, Source, in_short
from advmix.utils.config import expanded
from advmix.utils.errors import UserError, printable
from advmix.utils.files import sha256
from advmix.utils.progress import Advance, track

STREAM = "hf-stream"
"""What stands before the name of a data set that is to be read so."""

STREAM_IMAGES = 256
"""Whose files are in memory at once."""

ROOM = "name a larger --cache-size, a smaller --size, or a --cache on a larger disk"


def open_stream(name: str, shape: PhotoShape) -> Source:
    """A data set by its name there, or a folder, as `open_hugging_face`; its images are decoded already.

    Args:
        name: of the data set.
        shape: in which shape images are decoded.

    Raises:
        UserError: as `open_hugging_face`; or there is no cache, or no room in it.
    """
    place, datasets, cache = f"{STREAM}:{printable(name)}", import_datasets(name), PixelCache.named()
    if cache is None:
        raise UserError(f"{place}: keeps its images in the cache, and there is none; name one with --cache DIR")
    builder, settings = load(datasets, name, download=True, stream=True), (shape.size, shape.channels, shape.crop)
    key = sha256(VERSION, "stream", repr(settings), place, _stamp(place, builder))[:32]
    entry = cache.read(key)
    if entry is None:
        entry = _Stream(place, expanded(name, "data"), settings, cache).keep(key, builder, datasets)
    return _Kept(place, cache, key, entry, shape.size).source(cache.facts(key))


def _stamp(place: str, builder: Any) -> str:
    """Changes with the data: with their revision there, or with local files' sizes and times."""
    stamps = []
    for split, files in (builder.config.data_files or {}).items():
        local = [Path(file) for file in files if "://" not in file]
        revisions = files.origin_metadata if all(files.origin_metadata) else None
        known = stamp_of(local) if local else revisions
        if not known:
            raise UserError(f"{place}: its files have no revision, are gone, or were written just now; try again")
        stamps.append((str(split), list(files), known))
    if not stamps:
        raise UserError(f"{place}: names no files that could be read as a stream; read it as hf:NAME")
    return repr(stamps)


@dataclass(frozen=True)
class _Batch:
    """Some rows, in the form of a split of a data set."""

    features: Mapping[str, Any]
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, key: str) -> list[Any]:
        return self.columns[key]


class _Stream:
    """The pass over a data set.

    Args:
        place: how messages call it.
        home: its folder, if it is one.
        settings: size, channels and crop.
        cache: where images go.
    """

    def __init__(self, place: str, home: Path, settings: tuple[int, int, str], cache: PixelCache) -> None:
        self.place, self.home, self.settings, self.cache = place, home, settings, cache
        self.count = 0

    def keep(self, key: str, builder: Any, datasets: Any) -> Decoded:
        """Decode everything.

        Raises:
            UserError: no room, or the stream breaks off; then nothing of it is kept.
        """
        parts, notes = parts_of(self.place, self._opened(builder))
        parts = sorted(parts, key=lambda part: list(SPLITS).index(part.split or "train"))  # as they are used
        known = builder.info.splits or {}
        total = sum(known[part.name].num_examples for part in parts) if all(p.name in known for p in parts) else None
        facts: dict[str, Any] = {"notes": notes, "parts": [], "classes": {}, "others": []}

        def put_all(put: Callable[[Decoded], None]) -> None:
            with track("stream images", total) as advance:
                for part in parts:
                    self._part(part, facts, datasets, put, advance)
            if not self.count:
                raise UserError(f"{self.place}: no images in it")

        try:
            self._check_room(total or 0)
            entry = self.cache.write(key, put_all, facts)
        except OSError as error:
            remedy = ROOM if error.errno in (errno.ENOSPC, errno.EDQUOT) else "name another folder with --cache"
            raise UserError(f"{self.cache.folder}: {error.strerror or in_short(error)}; {remedy}") from error
        if entry is None:
            raise UserError(f"{self.cache.folder}: what was written there is gone, or no image could be read")
        return entry

    def _opened(self, builder: Any) -> Any:
        try:
            streams = builder.as_streaming_dataset()
        except Exception as error:  # a dozen formats' readers raise whatever they like
            raise UserError(f"{self.place}: cannot be read as a stream ({printable(in_short(error))})") from error
        return streams[OTHER] if list(streams) == [OTHER] else streams

    def _part(
        self,
        part: LibrarySplit,
        facts: dict[str, Any],
        datasets: Any,
        put: Callable[[Decoded], None],
        advance: Advance,
    ) -> None:
        """Decode a split, and add what is known of its rows."""
        data = part.data if part.data.features else part.data._resolve_features()
        column, begun = image_column(self.place, data, datasets), self.count
        columns: dict[str, list[str]] = {}
        for batch in self._batches(undecoded(data, column, datasets), data.features):
            put(self._decoded(part.name, batch[column], self.count - begun))
            rows = list(row_values(self.place, batch))
            kept = columns if self.count > begun else {key: [] for key in rows[0]}
            columns = {key: values for key, values in kept.items() if key in rows[0]}
            for key, values in columns.items():
                values += [row[key] for row in rows]
            self.count += len(batch)
            advance(len(batch), part.name)
        add_label_names(facts["classes"], data)
        facts["others"] += [key for key in data.features if key not in facts["others"]]
        known = {"name": part.name, "split": part.split, "count": self.count - begun, "columns": columns}
        facts["parts"].append(known)

    def _batches(self, data: Any, features: Mapping[str, Any]) -> Iterator[_Batch]:
        batches = iter(data.iter(batch_size=STREAM_IMAGES))
        while True:
            try:
                batch = next(batches, None)
            except Exception as error:  # a connection that breaks, damaged files: a dozen kinds
                words = f"the stream broke off after {self.count:,} images ({printable(in_short(error))}); run it again"
                raise UserError(f"{self.place}: {words}") from error
            if batch is None:
                return
            yield _Batch(features, batch)

    def _decoded(self, part: str, stored: Sequence[Any], start: int) -> Decoded:
        self._check_room(self.count + len(stored))
        names = {f"{part}/{start + place}": image for place, image in enumerate(stored)}
        found = decode_all(lambda name: open_bytes(read_stored(names[name], self.home)), list(names), *self.settings)
        return Decoded(found.pixels, found.kept + self.count, found.broken, found.sizes, found.modes)

    def _check_room(self, count: int) -> None:
        size, channels, _ = self.settings
        wanted, left = count * channels * size * size, (count - self.count) * channels * size * size
        if wanted > self.cache.limit or not self.cache.has_room(left):
            words = f"{count:,} images of it take {decimal(wanted)}, and the cache has no room for them"
            raise UserError(f"{self.place}: {words}; {ROOM}")


@dataclass(frozen=True, eq=False)
class _Kept:
    """What a stream left.

    Args:
        place: how messages call the data set.
        cache: where it is kept.
        key: of the entry.
        entry: the images in the stream's order.
        size: their width and height in pixels.
    """

    place: str
    cache: PixelCache
    key: str
    entry: Decoded
    size: int

    def source(self, facts: Mapping[str, Any]) -> Source:
        """Its rows and images."""
        rows = tuple(row for part in facts["parts"] for row in self._rows(part))
        places = {row.name: place for place, row in enumerate(rows)}
        classes = {key: tuple(names) for key, names in facts["classes"].items()}
        return Source(
            self.place,
            rows,
            self._refuse,
            classes,
            notes=tuple(facts["notes"]),
            named=frozenset(classes),
            columns=tuple(facts["others"]),
            decoded=lambda names: self._decoded(names, places),
        )

    def _rows(self, part: Mapping[str, Any]) -> Iterator[Row]:
        columns = part["columns"]
        for index in range(part["count"]):
            values = {key: found[index] for key, found in columns.items()}
            yield Row(f"{part['name']}/{index}", values, part["split"], self.place)

    def _refuse(self, name: str) -> Image.Image:
        words = f"only its {self.size} pixels were kept of the stream"
        raise OSError(f"{words}; name the --size that the classifier takes, or read it as hf:NAME")

    def _decoded(self, names: Sequence[str], places: Mapping[str, int]) -> Decoded:
        """Those of the images that are asked for, in this order; sizes and modes are of all of the stream's."""
        wanted = torch.tensor([places[name] for name in names], dtype=torch.int64)
        row_of = torch.full((len(places),), -1).index_put((self.entry.kept,), torch.arange(len(self.entry.kept)))
        found = row_of[wanted]
        kept, asked = (found >= 0).nonzero()[:, 0], set(names)
        broken = tuple(image for image in self.entry.broken if image.name in asked)
        return Decoded(self._pixels(found[kept]), kept, broken, self.entry.sizes, self.entry.modes)

    def _pixels(self, rows: Tensor) -> Tensor:
        """A piece of the entry where they follow one another; else an entry of its own, or in memory without room."""
        pixels, start = self.entry.pixels, int(rows[0]) if len(rows) else 0
        if torch.equal(rows, torch.arange(start, start + len(rows))):
            return pixels[start : start + len(rows)]
        key = sha256(VERSION, self.key, rows)[:32]
        kept = self.cache.read(key)
        with suppress(OSError):  # a full disk
            if kept is None and self.cache.has_room(pixels.numel() + len(rows) * pixels[0].numel()):
                kept = self.cache.write(key, lambda put: self._put_all(rows, put))
        return pixels[rows] if kept is None else kept.pixels

    def _put_all(self, rows: Tensor, put: Callable[[Decoded], None]) -> None:
        for part in slices(len(rows), PART_IMAGES):
            put(Decoded(self.entry.pixels[rows[part]], rows[part], (), Counter(), Counter()))
