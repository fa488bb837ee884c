"""What an audit found, image by image, in one file: `found.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from advmix.latents import Latents, Split
from advmix.smallest_change import StyleScale
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors, write_tensors

RECORDS_FILE = "found.safetensors"
RECORDS_KIND = "found"


@dataclass(frozen=True, eq=False)
class ClassifierRecords:
    """What becomes of one classifier's answers to N images of K classes, on the CPU.

    Attributes:
        right_clean: `(N,)`, right on the image as it is, in the size that the classifier is shown.
        right_small: the same at the generator's size.
        right_reconstruction: encoded and decoded.
        right_random_mix: with the z⊥ of one other image, drawn at random.
        right_worst_case: on what the search begins with, and on every candidate of it.
        right_random_mix_drawn: as `right_random_mix`, on what the generator draws, without the image's own details.
        right_worst_case_drawn: as `right_worst_case`, likewise.
        unanswered: whether some answer was not a number; such an image is not right there, and counts as no flip.
        vanished: whether the classifier's gradient said nothing, so that the search was a random one.
        donors: `(N,)`, place in the pool of the image whose z⊥ the search started from.
        perp: `(N, P)`, the z⊥ with the highest loss.
        losses: `(N,)`, the classifier's loss on that mix, in nats.
        before: `(N, K)`, class probabilities on the image.
        after: `(N, K)`, on the mix.
        change: `(N,)`, root mean square pixel difference of mix and beginning, pixels in [0, 1].
        clipped: `(N,)`, share of its pixel values that the mix drives to 0 or 1.
        reference_after: `(N,)`, the reference's answer on the mix at the generator's size.
        random_strength: `(N,)`, how far towards the random donor's z⊥ the answer flips first; 0 where it is wrong on
            what the mixes begin with, infinite where it does not flip.
        flip_strength: `(N,)`, the same of the z⊥ that the search found: see `advmix.smallest_change`.
        flip_perp: `(N, P)`, the z⊥ of that smallest change; the image's own where nothing flips.
        flip_answers: `(N, K)`, class probabilities there.
        flip_change: `(N,)`, root mean square pixel difference that it makes, pixels in [0, 1].
        flip_clipped: `(N,)`, share of the pixel values that it drives to 0 or 1.
        flip_terms: `(N, 12)`, what changed there: see `advmix.change_description.ChangeDescription.to_tensor`.
        reference_flip: `(N,)`, the reference's answer there, at the generator's size.
        reference_label: `(N,)`, the probability that it gives the label there.
        flip_natural: `(N,)`, share of pairs of audited images whose z⊥ are more alike than the image's own and that of
            its smallest change; None until all images are known.
        flip_unlike: `(N,)`, share of the pool whose nearest other member is nearer than the one nearest to that change.
        swap_answers: `(N, U)`, the classifier's answer after each of U swaps.
        right_attacked: on the image as it is and under another's attack; None where none is tried.
        label_votes: `(N,)`, what a person says of the smallest change: 1 the label is kept, 0 it is lost, -1 nothing;
            None where nobody was asked. Not part of the file: see `advmix.audit.votes`.
    """

    right_clean: Tensor
    right_small: Tensor
    right_reconstruction: Tensor
    right_random_mix: Tensor
    right_worst_case: Tensor
    right_random_mix_drawn: Tensor
    right_worst_case_drawn: Tensor
    unanswered: Tensor
    vanished: Tensor
    donors: Tensor
    perp: Tensor
    losses: Tensor
    before: Tensor
    after: Tensor
    change: Tensor
    clipped: Tensor
    reference_after: Tensor
    random_strength: Tensor
    flip_strength: Tensor
    flip_perp: Tensor
    flip_answers: Tensor
    flip_change: Tensor
    flip_clipped: Tensor
    flip_terms: Tensor
    reference_flip: Tensor
    reference_label: Tensor
    swap_answers: Tensor
    flip_natural: Tensor | None = None
    flip_unlike: Tensor | None = None
    right_attacked: Tensor | None = None
    label_votes: Tensor | None = None

    @property
    def extreme(self) -> Tensor:
        """`(N,)`, whether the smallest change that flips is larger than 95 % of the differences between real images, or
        drives more than 5 % of the pixel values to an end of their range.
        """
        natural = torch.zeros_like(self.flip_clipped) if self.flip_natural is None else self.flip_natural
        return self.flip_strength.isfinite() & ((natural > LARGE_CHANGE) | (self.flip_clipped > LARGE_CLIPPED))

    @property
    def right_worst_natural(self) -> Tensor:
        """`(N,)`, as `right_worst_case`, where a change that is extreme is none."""
        return self.right_worst_case | (self.extreme & (self.flip_strength > 0))


LARGE_CHANGE, LARGE_CLIPPED = 0.95, 0.05
"""Shares from which a change is extreme: of pairs of images that are more alike, and of pixel values at an end."""


@dataclass(frozen=True, eq=False)
class ImageRecords:
    """What is the same for all classifiers.

    Attributes:
        rows: `(N,)`, places among the test images.
        labels: `(N,)`.
        groups: `(N,)`, zeros where there are none.
        sites: `(N,)`, likewise.
        styles: `(N, L, D)`, the images' own codes.
        grid: `(N, C, H, W)`, or None; of a generator of any size, which encodes images of any size when asked, None.
        reference_before: `(N,)`, the reference's answer on the image at the generator's size.
        reference_swaps: `(N, U)`, its answer after each swap, likewise.
        swap_donors: `(N,)`, place in the pool of the image that all swaps of an image borrow from.
        swap_change: `(N, U)`, root mean square pixel change of each swap, pixels in [0, 1].
        swap_color: `(N, U)`, the share of the squared change that one colour map of the whole image makes.
        swap_broad: `(N, U)`, the share of it that is left when the change is averaged over an eighth of the side.
    """

    rows: Tensor
    labels: Tensor
    groups: Tensor
    sites: Tensor
    styles: Tensor
    grid: Tensor | None
    reference_before: Tensor
    reference_swaps: Tensor
    swap_donors: Tensor
    swap_change: Tensor
    swap_color: Tensor
    swap_broad: Tensor

    @property
    def latents(self) -> Latents:
        """The images' own codes, without residual."""
        return Latents(self.styles, self.grid)


Part = TypeVar("Part", ImageRecords, ClassifierRecords)


@dataclass(frozen=True, eq=False)
class AuditRecords:
    """N images, and what M classifiers answered.

    >>> found = AuditRecords.load(Path("runs/audit"))
    >>> full = generator.complete(found.images.latents, pixels)          # with what the generator cannot draw
    >>> mixes = generator(found.split.with_perp(full, found.classifiers[0].perp))

    Attributes:
        images: what is the same for all classifiers.
        classifiers: one for each of them.
        metadata: names, settings and fingerprints of all that took part.
    """

    images: ImageRecords
    classifiers: tuple[ClassifierRecords, ...]
    metadata: dict[str, Any]

    def __len__(self) -> int:
        return len(self.images.labels)

    @property
    def split(self) -> Split:
        """Which latents are z⊥."""
        split = self.metadata["split"]
        return Split(split["layers"], tuple(split["perp"]), split["grid"])

    def is_of(self, metadata: Mapping[str, Any], rows: Tensor) -> bool:
        """Whether these are the records of an audit, wherever its generator and classifiers lie now.

        Args:
            metadata: what its file says of it.
            rows: `(N,)`, the test images.
        """
        return _contents(self.metadata) == _contents(metadata) and torch.equal(self.images.rows, rows)

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically: images first in every tensor, classifiers second."""
        tensors = {name: part for name, part in vars(self.images).items() if part is not None}
        for field in fields(ClassifierRecords):
            columns = [getattr(records, field.name) for records in self.classifiers]
            if columns[0] is not None:
                tensors[field.name] = torch.stack(columns, dim=1)
        write_tensors(path, RECORDS_KIND, tensors, self.metadata)

    @staticmethod
    def load(path: Path) -> AuditRecords:
        """Read what `save` wrote; `path` may be the audit's folder.

        Raises:
            UserError: missing, damaged, or of something else.
        """
        path = path / RECORDS_FILE if path.is_dir() else path
        tensors, metadata = read_tensors(path, RECORDS_KIND)
        try:
            _check_lengths(tensors)
            images = ImageRecords(**{field.name: tensors.get(field.name) for field in fields(ImageRecords)})  # type: ignore[arg-type]
            names = [
                field.name for field in fields(ClassifierRecords) if field.name in tensors or field.default is MISSING
            ]
            columns = zip(*(tensors[name].unbind(1) for name in names), strict=True)
            records = tuple(ClassifierRecords(**dict(zip(names, column, strict=True))) for column in columns)
            return AuditRecords(images, records, metadata)
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise UserError(f"{path}: not what an audit found, or damaged ({error}); make it again") from error

    def with_scale(self, pool: Latents) -> AuditRecords:
        """The same with the natural size of every smallest change; of at least two images, and a pool of two."""
        if min(len(self), len(pool)) < 2:
            return self
        own = self.split.perp_of(self.images.latents)
        scale = StyleScale.of(own, self.split.perp_of(pool).to(own))
        records = [
            replace(
                one,
                flip_natural=scale.share_of_pairs(own, one.flip_perp.to(own)),
                flip_unlike=scale.share_of_pool(one.flip_perp.to(own)),
            )
            for one in self.classifiers
        ]
        return replace(self, classifiers=tuple(records))

    @staticmethod
    def cat(parts: Sequence[AuditRecords]) -> AuditRecords:
        """One after the other; the metadata are the first one's."""
        records = tuple(joined_records(column) for column in zip(*(part.classifiers for part in parts), strict=True))
        return AuditRecords(joined_records([part.images for part in parts]), records, parts[0].metadata)


def _contents(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without paths, and without the names that follow from these."""
    known = {key: value for key, value in metadata.items() if key not in ("generator", "latents", "reference")}
    return {**known, "classifiers": [one["fingerprint"] for one in metadata.get("classifiers", ())]}


def _check_lengths(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not of the same images, before any is taken apart.

    Raises:
        ValueError: saying which.
    """
    needed = {field.name for field in fields(ImageRecords)} - {"grid"}
    if needed - tensors.keys():
        raise ValueError(f"without {', '.join(sorted(needed - tensors.keys()))}")
    count = len(tensors["rows"])
    for name, tensor in tensors.items():
        if not tensor.ndim or len(tensor) != count or not count:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} for {count:,} images")


def joined_records(parts: Sequence[Part]) -> Part:
    """Those of all parts: every tensor is concatenated along the images."""
    columns: dict[str, list[Tensor]] = {
        field.name: [getattr(part, field.name) for part in parts if getattr(part, field.name) is not None]
        for field in fields(parts[0])
    }
    joined: dict[str, Any] = {name: torch.cat(column) if column else None for name, column in columns.items()}
    return type(parts[0])(**joined)
