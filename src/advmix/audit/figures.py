"""The pictures of an audit: single images, and what the search, a swap or a named change made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advmix.audit.inputs import AuditImages
from advmix.audit.measure import AuditedClassifier, AuditSetup
from advmix.audit.page import Gallery, ImagePair
from advmix.audit.records import AuditRecords, ClassifierRecords
from advmix.audit.statistics import probability_drop
from advmix.latents import Latents
from advmix.named_changes import changed_example, measure_changes
from advmix.utils.torch_tools import eval_mode

NUMBERS_SHOWN = 2
"""Of an image's style, beside its picture."""

NAMED_IMAGES, NAMED_SIDE = 100, 64
"""On so many images of such a side are named changes measured, on fewer larger ones and more small ones."""


def named_images(images: int, side: int) -> int:
    """On how many of so many images of `side` pixels named changes are measured: half of them, from 25 to 250."""
    return max(25, min(images // 2, 250, round(NAMED_IMAGES * (NAMED_SIDE / side) ** 2)))


class Pictures:
    """Draws single images of an audit, and what the search or a swap made of them.

    Args:
        setup: what the images were mixed with.
        classifiers: the classifiers.
        images: reads the test images.
        found: what was found.
    """

    def __init__(
        self, setup: AuditSetup, classifiers: Sequence[AuditedClassifier], images: AuditImages, found: AuditRecords
    ) -> None:
        self.setup, self.classifiers, self.images, self.found = setup, classifiers, images, found

    def entries(self, number: int, places: Sequence[int]) -> list[dict[str, Any]]:
        """What is said of the images at `places`, for classifier `number`: name, label, answers, probabilities."""
        images, records = self.found.images, self.found.classifiers[number]
        names = self.images.inputs.names(images.rows[list(places)])
        donors = self.donor_names(records.donors[list(places)])
        falls = probability_drop(images, records)
        return [
            {
                "place": place,
                "name": name,
                "donor": donor,
                "label": self._class(images.labels[place]),
                "before": self._answer(records.before[place]),
                "after": self._answer(records.after[place]),
                "change": float(records.change[place]),
                "smallest": self._smallest(records, place),
                "probability_drop": float(falls[place]),
                "changed": self._changed(number, place),
            }
            for place, name, donor in zip(places, names, donors, strict=True)
        ]

    def named_changes(self, number: int) -> list[dict[str, Any]]:
        """What named changes cost classifier `number`, on the first of the audited images."""
        classifier, device = self.classifiers[number], self.setup.pool.styles.device
        pixels, labels = self._named_images(number)
        return measure_changes(classifier.network, pixels, labels, device=device)

    def _named_images(self, number: int) -> tuple[Tensor, Tensor]:
        side = self.classifiers[number].side
        rows = self.found.images.rows[: named_images(len(self.found), side)]
        return self.images.pixels(rows, side), self.found.images.labels[: len(rows)]

    def gallery(self, number: int, entry: dict[str, Any]) -> Gallery:
        """All pictures of one classifier, by its entry in the results."""
        kinds = [[self._shot(number, row) for row in kind["pictures"]] for kind in entry["kinds"]]
        strongest, lost, sheet = (
            [self._shot(number, row) for row in entry[name]] for name in ("strongest", "label_lost", "sheet")
        )
        swaps = {swap["name"]: self._example(number, unit) for unit, swap in enumerate(self.found.metadata["swaps"])}
        named, (pixels, _) = {}, self._named_images(number)
        for row in entry["named_changes"]:
            if row["example"] is not None:
                named[row["name"]] = ImagePair(pixels[row["example"]["image"]], changed_example(row, pixels))
        return Gallery(strongest, lost, swaps, kinds, named, sheet)

    def donor_names(self, donors: Tensor) -> list[str]:
        """Of pool members; numbers, where the pool is of other images than the audited data set's."""
        names = self.images.inputs.fitted.member_names(self.images.inputs.data)
        return [names[donor] for donor in donors.tolist()]

    def _changed(self, number: int, place: int) -> list[dict[str, Any]]:
        """The style numbers that moved furthest, for their spread in the pool, with their names; none without names."""
        names = self.images.inputs.fitted.model.config.number_names
        split, pool = self.found.split, self.setup.pool
        if not names:
            return []
        own = self.found.images.latents[place : place + 1]
        moved = self.found.classifiers[number].perp[place] - split.perp_of(own)[0]
        spread = split.perp_of(pool.spread)[0].cpu().clamp_min(1e-6)
        named = [name for layer in split.perp for name in names[layer]]
        order = (moved / spread).abs().argsort(descending=True)[:NUMBERS_SHOWN].tolist()
        return [{"name": named[i], "by": float(moved[i])} for i in order]

    def _smallest(self, records: ClassifierRecords, place: int) -> dict[str, Any] | None:
        """Of the smallest change that flips: answer, sizes, and whether it is extreme; None where nothing flips."""
        strength, natural = float(records.flip_strength[place]), records.flip_natural
        if not 0 < strength < math.inf:
            return None
        return {
            **self._answer(records.flip_answers[place]),
            "strength": strength,
            "change": float(records.flip_change[place]),
            "natural": None if natural is None else float(natural[place]),
            "extreme": bool(records.extreme[place]),
        }

    def _class(self, label: Tensor) -> str:
        return str(self.found.metadata["classes"][int(label)])

    def _answer(self, probabilities: Tensor) -> dict[str, Any]:
        return {"answer": self._class(probabilities.argmax()), "probability": float(probabilities.max())}

    def _shot(self, number: int, entry: dict[str, Any]) -> ImagePair:
        """One image and the mix that was found."""
        start = self._start_latents(number, entry["place"])
        records, place = self.found.classifiers[number], entry["place"]
        after, smallest = (
            self._decode(self.found.split.with_perp(start, perp[place][None].to(start.styles)))
            for perp in (records.perp, records.flip_perp)
        )
        return ImagePair(self._decode(start), after, smallest if entry["smallest"] else None)

    def _example(self, number: int, unit: int) -> ImagePair:
        """Of the answers that a swap flips, the one with the typical change; of all images where it flips none."""
        images, records = self.found.images, self.found.classifiers[number]
        flipped = records.right_clean & (records.swap_answers[:, unit] != images.labels)
        among = flipped if flipped.any() else torch.ones_like(flipped)
        change = images.swap_change[:, unit].masked_fill(~among, torch.nan)
        place = int((change - change.nanmedian()).abs().nan_to_num(torch.inf).argmin())
        swap = self.setup.swaps[unit]
        start = self._start_latents(number, place)
        donor = self.setup.pool[images.swap_donors[place][None].to(start.styles.device)]
        return ImagePair(self._decode(start), self._decode(swap.split.combine(start, donor)))

    def _start_latents(self, number: int, place: int) -> Latents:
        """What the image's mixes began with."""
        device = self.setup.pool.styles.device
        latents = self.found.images.latents[place : place + 1].to(device)
        shown = self.images.pixels(self.found.images.rows[place][None], self.classifiers[number].side)
        return self.setup.start_latents(shown.to(device), latents)

    @torch.no_grad()
    def _decode(self, latents: Latents) -> Tensor:
        with eval_mode(self.setup.generator) as (dec,):
            image: Tensor = dec(latents)[0].cpu()
        return image


def galleries(pictures: Pictures, results: Mapping[str, Any]) -> list[Gallery]:
    """The pictures of every classifier."""
    found = []
    for number, entry in enumerate(results["classifiers"]):
        found.append(pictures.gallery(number, entry))
    return found
