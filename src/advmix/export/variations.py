"""Variations on disk: an ImageFolder, `CLASS/NAME__variant.png`, with a table of what is known of each."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor, nn

from advmix.candidates import Loss
from advmix.data.images import ImageSet, png, to_bytes, to_float
from advmix.encoders.network import Encoder, encoded, start_latents
from advmix.latents import Latents
from advmix.metrics import predict_pixels
from advmix.mixing import Mix, Mixer, any_place, cross_entropy, draw_all_donors
from advmix.utils.errors import UserError
from advmix.utils.files import atomic_write, make_folder, read_json, write_json
from advmix.utils.memory import RowBudget
from advmix.utils.torch_tools import answers, generator

TABLE = "variations.csv"

DIGESTS = "variations.sha256"

"""The last file: digests of all others, as `sha256sum --check` reads them."""

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


Row = dict[str, str]

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
        """Whether a part is complete, or the whole folder; its files are read to find out."""
        if self.finished:
            return True
        try:
            files = read_json(self._part(part))["files"]
        except (UserError, KeyError, TypeError):
            return False
        return _changed(self.out, files) is None

    @property
    def finished(self) -> bool:
        """Whether the last file is there."""
        return (self.out / DIGESTS).is_file()

    def check(self) -> None:
        """Whether everything in a finished folder is as it was written.

        Raises:
            UserError: naming a file that is not.
        """
        lines = (self.out / DIGESTS).read_text(encoding="utf-8", errors="replace").splitlines()
        changed = _changed(self.out, {name: digest for digest, _, name in (line.partition("  ") for line in lines)})
        if changed is not None:
            raise UserError(
                f"{self.out / changed}: missing or changed since it was exported, or {DIGESTS} was; export into "
                "another folder with --out"
            )

    def write(self, part: int, found: Iterable[Item], originals: Mapping[int, Tensor] | None = None) -> None:
        """Write images, and when they are all there the part's rows.

        Args:
            part: its number.
            found: the variations.
            originals: the sources by place, where they are wanted beside their variations.
        """
        rows: list[dict[str, str]] = []
        files: dict[str, str] = {}
        for place, row, image in found:
            make_folder(self.out / self.folders[row.label])
            stem = f"{self.folders[row.label]}/{self.stems[place]}"
            name, original = f"{stem}__{row.variant}.png", ""
            if originals is not None:
                original = f"{stem}__original.png"
                files[original] = self._put(original, png(originals[place]))
            files[name] = self._put(name, png(image))
            rows.append({"filename": name, "original": original, **_words(row)})
        write_json(self._part(part), {"rows": rows, "files": files})

    def _put(self, name: str, data: bytes) -> str:
        """Write a file; its digest."""
        atomic_write(self.out / name, data)
        return hashlib.sha256(data).hexdigest()

    def finish(self, parts: int, more: Callable[[Sequence[Row]], Mapping[str, bytes]] = lambda rows: {}) -> int:
        """Join the parts to the table, and list the digests of all files; returns how many variations there are.

        Args:
            parts: how many.
            more: other files, by name, that say what the rows of the table say.
        """
        if self.finished:
            self.check()
        else:
            written = [read_json(self._part(part)) for part in range(parts)]
            files = {name: digest for part in written for name, digest in part["files"].items()}
            rows = [row for part in written for row in part["rows"]]
            for name, data in {TABLE: _csv(rows), **more(rows)}.items():
                files[name] = self._put(name, data)
            atomic_write(self.out / DIGESTS, "".join(f"{digest}  {name}\n" for name, digest in files.items()).encode())
        return len(read_table(self.out))

    def _part(self, part: int) -> Path:
        return self.out / f".variations-{part:05d}.json"


def _changed(out: Path, files: Mapping[str, str]) -> str | None:
    """The first of these files that does not have its SHA-256; None where all have."""
    return next((name for name, digest in files.items() if _sha256(out / name) != digest), None)


def _sha256(path: Path) -> str:
    """Empty where there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return ""


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
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode(errors="replace")


@dataclass(frozen=True, eq=False)
class SourceImages:
    """Some images of a data set.

    Args:
        images: N of them.
        names: N, in the data set.
        places: `(N,)`, theirs in the data set.
        in_pool: whether they are the pool's own images, `places` being those in the pool.
    """

    images: ImageSet
    names: Sequence[str]
    places: Tensor
    in_pool: bool = False

    def __getitem__(self, part: slice | Tensor) -> SourceImages:
        places = range(len(self.names))[part] if isinstance(part, slice) else part.tolist()
        return replace(self, images=self.images[part], names=[self.names[i] for i in places], places=self.places[part])


@dataclass(frozen=True, eq=False)
class Finder:
    """Looks for variations of images, a batch at a time.

    Args:
        classifier: images in [0, 1] to logits; all networks and the pool are on one device.
        name: of the classifier.
        mixer: what looks for them, and the generator.
        encoder: of the images.
        pool: whose `z⊥` are borrowed.
        lenders: names of the pool's images.
        reference: another classifier, which says whether the label is still seen; or none.
        residual: whether variations keep what the generator cannot draw of an image.
        seed: of the donors.
        loss: what a search climbs.
        places: where in the pool each training image is, -1 where it is not; None for all in their order.
        budget: how many images are mixed at once.
    """

    classifier: nn.Module
    name: str
    mixer: Mixer
    encoder: Encoder
    pool: Latents
    lenders: Sequence[str]
    reference: nn.Module | None = None
    residual: bool = True
    seed: int = 0
    loss: Loss = cross_entropy
    places: Tensor | None = None
    budget: RowBudget = field(default_factory=RowBudget)

    def find(self, sources: SourceImages, kind: str, number: int) -> list[Item]:
        """The variation of each source that a mixer finds at its try `number`, called `kind-number`."""
        device, count = self.pool.styles.device, len(sources.images)
        pixels, labels = (tensor.to(device) for tensor in sources.images.batch(slice(None)))
        rng = generator(self.seed, "variations", number, int(sources.places[0]))
        exclude = self._exclude(sources, rng) if sources.in_pool else None
        drawn = draw_all_donors(self.mixer.search, count, len(self.pool), exclude, rng)
        parts = self.budget.parts(lambda rows: self._mix(sources[rows], drawn[..., rows]), count, device)
        mix = Mix.cat(parts)
        stored = to_float(to_bytes(mix.images))  # what a file can hold is what is judged
        donors = [self.lenders[donor] for donor in mix.donors.tolist()]
        before, after = (predict_pixels(self.classifier, shown) for shown in (pixels, stored))
        kept = self._kept(pixels, stored, labels)
        rows = compared(sources, self.name, f"{kind}-{number}", donors, before, after, kept)
        return list(zip(sources.places.tolist(), rows, stored.cpu(), strict=True))

    def _mix(self, sources: SourceImages, donors: Tensor) -> Mix:
        """All of them at once."""
        device, dec = self.pool.styles.device, self.mixer.generator
        pixels, labels = (tensor.to(device) for tensor in sources.images.batch(slice(None)))
        known = sources.in_pool and self.places is None
        own = None
        if not dec.any_size:
            own = self.pool[sources.places.to(device)] if known else encoded(sources.images, self.encoder)
        latents = start_latents(dec, self.encoder, pixels, own, self.residual)
        judge = self.classifier if self.mixer.needs_classifier else None
        return self.mixer(judge, latents, labels, self.pool, loss=self.loss, donors=donors)

    def _exclude(self, sources: SourceImages, rng: torch.Generator) -> Tensor:
        """The sources' own places in the pool; a random one where a source is not in it, which excludes nothing of
        its own.
        """
        if self.places is None:
            return sources.places
        return any_place(self.places[sources.places], len(self.pool), rng)

    def _kept(self, pixels: Tensor, stored: Tensor, labels: Tensor) -> list[str]:
        if self.reference is None:
            return [""] * len(labels)
        before, after = (answers(predict_pixels(self.reference, shown)) for shown in (pixels, stored))
        return kept_words(before, after, labels.cpu())


def kept_words(before: Tensor, after: Tensor, labels: Tensor) -> list[str]:
    """Whether a reference still sees the label: `yes` or `no`, or nothing where it does not see it in the image.

    Args:
        before: `(N,)`, its answers on the images; -1 where it gives none.
        after: `(N,)`, on the variations.
        labels: `(N,)`.
    """
    votes = zip(((before == labels) & (after >= 0)).tolist(), (after == labels).tolist(), strict=True)
    return [("yes" if still else "no") if right else "" for right, still in votes]


def compared(
    sources: SourceImages,
    classifier: str,
    variant: str,
    donors: Sequence[str],
    before: Tensor,
    after: Tensor,
    kept: Sequence[str],
) -> Iterator[Variation]:
    """A row for each source.

    Args:
        sources: N images.
        classifier: who is asked.
        variant: what the variations are called.
        donors: N names.
        before: `(N, K)` class probabilities of the sources.
        after: the same of the variations.
        kept: N words of a reference.
    """
    classes, labels = sources.images.classes, sources.images.labels.tolist()
    seen_before, seen_after = answers(before).tolist(), answers(after).tolist()
    for place, (label, name, donor) in enumerate(zip(labels, sources.names, donors, strict=True)):
        old, new = seen_before[place], seen_after[place]
        yield Variation(
            source=name,
            label=classes[label],
            classifier=classifier,
            variant=variant,
            donor=donor,
            loss=-float(after[place, label].clamp_min(torch.finfo(after.dtype).tiny).log()),
            fooled=old == label != new >= 0,
            prediction_before=classes[old] if old >= 0 else "",
            probability_before=float(before[place, old]),
            label_probability_before=float(before[place, label]),
            prediction_after=classes[new] if new >= 0 else "",
            probability_after=float(after[place, new]),
            label_probability_after=float(after[place, label]),
            label_kept=kept[place],
        )
