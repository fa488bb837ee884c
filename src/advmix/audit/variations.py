"""Variations of images, found by a mixer, each with what a classifier says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from advmix.answers import answers, probabilities
from advmix.audit.variation_folder import Item, Variation
from advmix.data import ImageSet, to_bytes, to_float
from advmix.encoders import Encoder, encoded
from advmix.latents import Latents
from advmix.mixing import Loss, Mixer, cross_entropy
from advmix.modes import evaluating
from advmix.seeds import generator


@dataclass(frozen=True, eq=False)
class Sources:
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

    def __getitem__(self, part: slice | Tensor) -> Sources:
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

    def find(self, sources: Sources, kind: str, number: int) -> list[Item]:
        """The variation of each source that a mixer finds at its try `number`, called `kind-number`."""
        device = self.pool.styles.device
        pixels, labels = (tensor.to(device) for tensor in sources.images.batch(slice(None)))
        own = self.pool[sources.places.to(device)] if sources.in_pool else encoded(sources.images, self.encoder)
        latents = self.mixer.generator.complete(own, pixels) if self.residual else own
        rng = generator(self.seed, "variations", number, int(sources.places[0]))
        exclude = sources.places if sources.in_pool else None
        judge = self.classifier if self.mixer.needs_classifier else None
        mix = self.mixer(judge, latents, labels, self.pool, loss=self.loss, rng=rng, exclude=exclude)
        stored = to_float(to_bytes(mix.images))  # what a file can hold is what is judged
        donors = [self.lenders[donor] for donor in mix.donors.tolist()]
        before, after = (seen_by(self.classifier, shown) for shown in (pixels, stored))
        kept = self._kept(pixels, stored, labels)
        rows = compared(sources, self.name, f"{kind}-{number}", donors, before, after, kept)
        return list(zip(sources.places.tolist(), rows, stored.cpu(), strict=True))

    def _kept(self, pixels: Tensor, stored: Tensor, labels: Tensor) -> list[str]:
        if self.reference is None:
            return [""] * len(labels)
        before, after = (answers(seen_by(self.reference, shown)) for shown in (pixels, stored))
        return kept_words(before, after, labels.cpu())


@torch.no_grad()
def seen_by(classifier: nn.Module, images: Tensor) -> Tensor:
    """Class probabilities `(B, K)` in float64, on the CPU."""
    with evaluating(classifier) as (model,):
        return probabilities(model(images))


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
    sources: Sources,
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
