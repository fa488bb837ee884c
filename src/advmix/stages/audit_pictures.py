"""The pictures of an audit's page, drawn again from what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advmix.audit.found import Found
from advmix.audit.judge import Bench, Subject
from advmix.audit.telling import swing
from advmix.latents import Latents
from advmix.modes import evaluating
from advmix.report.audit_page import Gallery, Shot
from advmix.stages.audit_case import Batches


class Pictures:
    """Draws single images of an audit, and what the search or a swap made of them.

    Args:
        bench: what the images were mixed with.
        subjects: the classifiers.
        images: reads the test images.
        found: what was found.
    """

    def __init__(self, bench: Bench, subjects: Sequence[Subject], images: Batches, found: Found) -> None:
        self.bench, self.subjects, self.images, self.found = bench, subjects, images, found

    def entries(self, number: int, places: Sequence[int]) -> list[dict[str, Any]]:
        """What is said of the images at `places`, for classifier `number`: name, label, answers, probabilities."""
        asked, judged = self.found.asked, self.found.judged[number]
        names = self.images.case.names(asked.rows[list(places)])
        donors = self._donor_names(judged.donors[list(places)])
        falls = swing(asked, judged)
        return [
            {
                "place": place,
                "name": name,
                "donor": donor,
                "label": self._class(asked.labels[place]),
                "before": self._answer(judged.before[place]),
                "after": self._answer(judged.after[place]),
                "change": float(judged.change[place]),
                "swing": float(falls[place]),
            }
            for place, name, donor in zip(places, names, donors, strict=True)
        ]

    def gallery(self, number: int, telling: Sequence[dict[str, Any]], lost: Sequence[dict[str, Any]]) -> Gallery:
        """All pictures of one classifier."""
        return Gallery(
            [self._shot(number, entry) for entry in telling],
            [self._shot(number, entry) for entry in lost],
            {swap["name"]: self._example(number, unit) for unit, swap in enumerate(self.found.metadata["swaps"])},
        )

    def _donor_names(self, donors: Tensor) -> list[str]:
        """Of pool members; numbers, where the pool is of other images than the audited data set's."""
        data = self.images.case.data
        same = data.train.fingerprint == self.images.case.store.index["images"]
        photos = getattr(data, "photos", None) if same else None
        return [f"pool image {donor}" if photos is None else photos.train.names[donor] for donor in donors.tolist()]

    def _class(self, label: Tensor) -> str:
        return str(self.found.metadata["classes"][int(label)])

    def _answer(self, probabilities: Tensor) -> dict[str, Any]:
        return {"answer": self._class(probabilities.argmax()), "probability": float(probabilities.max())}

    def _shot(self, number: int, entry: dict[str, Any]) -> Shot:
        """One image and the mix that was found."""
        begun = self._begun(number, entry["place"])
        perp = self.found.judged[number].perp[entry["place"]][None]
        after = self._decode(self.found.split.with_perp(begun, perp.to(begun.styles)))
        return Shot(self._decode(begun), after)

    def _example(self, number: int, unit: int) -> Shot:
        """Of the answers that a swap flips, the one with the typical change; of all images where it flips none."""
        asked, judged = self.found.asked, self.found.judged[number]
        flipped = judged.right & (judged.swap_answers[:, unit] != asked.labels)
        among = flipped if flipped.any() else torch.ones_like(flipped)
        change = asked.swap_change[:, unit].masked_fill(~among, torch.nan)
        place = int((change - change.nanmedian()).abs().nan_to_num(torch.inf).argmin())
        swap = self.bench.swaps[unit]
        begun = self._begun(number, place)
        donor = self.bench.pool[asked.swap_donors[place][None].to(begun.styles.device)]
        return Shot(self._decode(begun), self._decode(swap.split.combine(begun, donor)))

    def _begun(self, number: int, place: int) -> Latents:
        """What the image's mixes began with."""
        device = self.bench.pool.styles.device
        latents = self.found.asked.latents[place : place + 1].to(device)
        if not self.found.metadata["residual"]:
            return latents
        shown = self.images.pixels(self.found.asked.rows[place][None], self.subjects[number].side)
        return self.bench.generator.complete(latents, shown.to(device))

    @torch.no_grad()
    def _decode(self, latents: Latents) -> Tensor:
        with evaluating(self.bench.generator) as (dec,):
            image: Tensor = dec(latents)[0].cpu()
        return image
