"""Label survival: how often a mix still shows the label of the image whose `z∥` it has, to a reference classifier.

>>> donors = torch.randint(len(lenders), (5, len(images)), generator=rng)    # five mixes of every image
>>> found = label_survival(reference, model.generator, model.encoder, split, images, lenders, donors, residual=True)
>>> found.share().value, found.by(images.labels, images.classes)["Smiling"]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet
from advmix.encoders.network import Encoder, encoded
from advmix.generators.base import Generator
from advmix.intervals import GroupBootstrap, Interval, wilson
from advmix.latents import Latents, Split
from advmix.utils.memory import RowBudget
from advmix.utils.progress import track
from advmix.utils.torch_tools import eval_mode


@dataclass(frozen=True, eq=False)
class Survival:
    """What a reference saw in D mixes of each of N images, on the CPU.

    Attributes:
        predictions: `(D, N)`, classes of the mixes.
        labels: `(N,)`, of the images.
        right: `(N,)`, whether the reference is right on the decoded image, unmixed; the others do not count.
    """

    predictions: Tensor
    labels: Tensor
    right: Tensor

    @classmethod
    def of(cls, mixed_answers: Tensor, labels: Tensor) -> Survival:
        """From what `answers` found, `(1 + D, N)`."""
        return cls(mixed_answers[1:], labels, mixed_answers[0] == labels)

    def share(self, among: Tensor | None = None) -> Interval | None:
        """Share of mixes that keep the label, with its 95 % interval; None where no image counts.

        The mixes of one image are not independent: the interval is as wide as if there were one of each.

        Args:
            among: `(N,)` boolean, the images that are asked about; default all.
        """
        counted = self.right if among is None else self.right & among
        kept = kept_labels(self.predictions, self.labels, counted).double().mean(dim=0)
        return wilson(float(kept.sum()), len(kept)) if len(kept) else None

    def interval(self, boot: GroupBootstrap, among: Tensor | None = None) -> Interval | None:
        """The same share with an interval over groups of images: two pictures of one person are not two persons.

        Args:
            boot: of the groups of the N images; a resample in which no image counts is one that keeps no label.
            among: as in `share`.
        """
        counted = self.right if among is None else self.right & among
        if not counted.any():
            return None
        kept = (self.predictions == self.labels).double().mean(dim=0) * counted
        return boot.interval(kept, counted, statistic=lambda kept, right: kept / right.clamp_min(1e-12))

    def by(self, index: Tensor, names: Sequence[str]) -> dict[str, Interval | None]:
        """The same by class or by group: `index` `(N,)` says which of `names` each image belongs to."""
        return {name: self.share(index == place) for place, name in enumerate(names)}


@torch.no_grad()
def label_survival(
    reference: nn.Module,
    generator: Generator,
    encoder: Encoder,
    split: Split,
    images: ImageSet,
    lenders: ImageSet,
    donors: Tensor,
    *,
    residual: bool = False,
) -> Survival:
    """Mix every image with every one of its donors, and ask a classifier what the mixes show.

    Args:
        reference: images in [0, 1] to logits `(B, C)`, on the generator's device as the encoder is. It must not share
            a bias of the images: what survives is what *it* looks at.
        generator: `dec`.
        encoder: `enc`.
        split: which layers are `z⊥`.
        images: N images, which give `z∥` and label.
        lenders: images whose `z⊥` are lent.
        donors: `(D, N)`, places in `lenders`.
        residual: whether a mix keeps what the generator cannot draw of its image, `x - dec(enc(x))`.
    """
    device = next(generator.parameters()).device

    def mix(rows: slice) -> Tensor:
        pixels = images.batch(rows)[0].to(device)
        latents = encoder(pixels)
        latents = generator.complete(latents, pixels) if residual else latents
        return mixed_answers(model, generator, split, latents, pool, donors[:, rows])

    with eval_mode(reference, generator, encoder) as (model, _, _), track("mix and ask", len(images)) as advance:
        pool = encoded(lenders, encoder)
        found = RowBudget().parts(mix, len(images), device, advance)
    return Survival.of(torch.cat(found, dim=1), images.labels)


def mixed_answers(
    model: nn.Module, generator: Generator, split: Split, latents: Latents, pool: Latents, donors: Tensor
) -> Tensor:
    """Classes that a classifier sees in N decoded images, and in their mixes with the donors `(D, N)`, places in the
    pool: `(1 + D, N)`, on the CPU.
    """
    shown = chain([generator(latents)], mixes(generator, split, latents, pool, donors))
    return torch.stack([model(images).argmax(dim=1).cpu() for images in shown])


def mixes(generator: Generator, split: Split, latents: Latents, pool: Latents, donors: Tensor) -> Iterator[Tensor]:
    """N images with the `z⊥` of one donor each, `(N, C, H, W)` in [0, 1], for every row of `donors` `(D, N)`, places
    in the pool.
    """
    state = generator.prefix(latents, split)
    for row in donors:
        yield generator.render(state, split.perp_of(pool[row.to(latents.styles.device)]))


def kept_labels(predictions: Tensor, labels: Tensor, right: Tensor) -> Tensor:
    """Whether a mix keeps the label: `(D, N)` to `(D, M)`, for the M images that are `right` `(N,)` unmixed."""
    return predictions[:, right] == labels[right]
