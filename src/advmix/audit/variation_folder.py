"""Variations on disk: an ImageFolder, `CLASS/NAME__variant.png`, with a table of what is known of each."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from torch import Tensor

from advmix.data.images import png
from advmix.files import atomic_write, make_folder

TABLE = "variations.csv"
FORBIDDEN = frozenset('/\\:*?"<>|%')
DEVICES = frozenset(["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))])
LONGEST = 120
"""Bytes of a name; file systems take 255, and more is added."""


@dataclass(frozen=True)
class Variation:
    """One row of the table: a variation of an image, and what the classifier says of both.

    Attributes:
        source: the image it was made from, by its name in the data set.
        label: class of the image, by name; the variation should still show it.
        classifier: who is asked, and was searched against.
        variant: which of the image's variations, `advmix-1`.
        donor: the image whose `z⊥` the search started from, by its name in the data set.
        loss: the classifier's cross-entropy on the variation, in nats.
        fooled: whether the classifier is right on the image and wrong on the variation.
        prediction_before: class that the classifier sees in the image.
        probability_before: of that class, in [0, 1].
        label_probability_before: of the label.
        prediction_after: class that it sees in the variation, as it lies in the file.
        probability_after: of that class.
        label_probability_after: of the label.
        label_kept: whether a reference still sees the label, `yes` or `no`; empty where none was asked, or where it
            does not see it in the image either.
    """

    source: str
    label: str
    classifier: str
    variant: str
    donor: str
    loss: float
    fooled: bool
    prediction_before: str
    probability_before: float
    label_probability_before: float
    prediction_after: str
    probability_after: float
    label_probability_after: float
    label_kept: str = ""


Item = tuple[int, Variation, Tensor]
"""Place of the source in its data set, the row, and the variation `(C, H, W)` in [0, 1]."""

COLUMNS = ("filename", "original", *(field.name for field in fields(Variation)))


def safe_name(text: str) -> str:
    """A name that any file system takes: what it does not is percent-encoded, `urllib.parse.unquote` undoes it.

    >>> safe_name("n/a"), safe_name(".hidden")
    ('n%2Fa', '%2Ehidden')

    A name of more than `LONGEST` bytes is cut, and ends in a hash of the whole.
    """
    safe = "".join(_escaped(letter) if letter in FORBIDDEN or not letter.isprintable() else letter for letter in text)
    if safe[:1] in {".", " "} or safe.partition(".")[0].lower() in DEVICES or safe == "__MACOSX":
        safe = _escaped(safe[0]) + safe[1:]
    if safe[-1:] in {".", " "}:
        safe = safe[:-1] + _escaped(safe[-1])
    return _short(safe or "_", text)


def _escaped(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode(errors="surrogatepass"))


def _short(safe: str, text: str) -> str:
    data = safe.encode()
    return safe if len(data) <= LONGEST else data[:LONGEST].decode(errors="ignore") + _mark(text)


def _mark(text: str) -> str:
    return "~" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def class_folders(classes: Sequence[str]) -> dict[str, str]:
    """A folder's name for each class; two that differ by capitals alone are told apart on any system."""
    names = {name: safe_name(name) for name in classes}
    taken = [safe.casefold() for safe in names.values()]
    return {name: safe + _mark(name) * (taken.count(safe.casefold()) > 1) for name, safe in names.items()}


def file_stems(sources: Mapping[int, str]) -> dict[int, str]:
    """`000017` for `images/000017.jpg`; where two are called so, all get their place in the data set as well."""
    stems = {place: safe_name(PurePosixPath(source).stem) for place, source in sources.items()}
    if len({stem.casefold() for stem in stems.values()}) == len(stems):
        return stems
    return {place: f"{stem}-{place:06d}" for place, stem in stems.items()}


class VariationFolder:
    """Writes variations part by part: a part that is there is not written again, and the table comes last.

    >>> folder = VariationFolder(Path("runs/export"), ("cat", "dog"), {17: "images/000017.jpg"})
    >>> if not folder.has(0):
    ...     folder.write(0, [(17, variation, image)], {17: original})
    >>> folder.finish(parts=1)

    Args:
        out: the folder; class folders and the table lie in it.
        classes: names of all labels.
        sources: names of all images that are varied, by their place in the data set.
    """

    def __init__(self, out: Path, classes: Sequence[str], sources: Mapping[int, str]) -> None:
        self.out, self.folders, self.stems = out, class_folders(classes), file_stems(sources)

    def has(self, part: int) -> bool:
        """Whether a part is complete."""
        return self._part(part).is_file() or self.finished

    @property
    def finished(self) -> bool:
        """Whether the table is there."""
        return (self.out / TABLE).is_file()

    def write(self, part: int, found: Iterable[Item], originals: Mapping[int, Tensor] | None = None) -> None:
        """Write images, and when they are all there the part's rows.

        Args:
            part: its number.
            found: the variations.
            originals: the sources by place, where they are wanted beside their variations.
        """
        rows = []
        for place, row, image in found:
            make_folder(self.out / self.folders[row.label])
            stem = f"{self.folders[row.label]}/{self.stems[place]}"
            name, original = f"{stem}__{row.variant}.png", ""
            if originals is not None:
                original = f"{stem}__original.png"
                atomic_write(self.out / original, png(originals[place]))
            atomic_write(self.out / name, png(image))
            rows.append({"filename": name, "original": original, **_words(row)})
        atomic_write(self._part(part), _csv(rows))

    def finish(self, parts: int) -> int:
        """Join the parts to the table; returns how many variations there are."""
        if not self.finished:
            rows = b"".join(self._part(part).read_bytes() for part in range(parts))
            atomic_write(self.out / TABLE, f"{','.join(COLUMNS)}\n".encode() + rows)
        return len(read_table(self.out))

    def _part(self, part: int) -> Path:
        return self.out / f".variations-{part:05d}.csv"


def read_table(out: Path) -> list[dict[str, str]]:
    """The rows of a finished folder's table, by column."""
    with (out / TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _words(row: Variation) -> dict[str, str]:
    return {name: _word(value) for name, value in asdict(row).items()}


def _word(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value


def _csv(rows: Sequence[dict[str, str]]) -> bytes:
    file = io.StringIO(newline="")
    csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(rows)
    return file.getvalue().encode(errors="replace")
