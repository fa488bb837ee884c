"""The variations that an audit found, drawn again from its `found.safetensors`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.audit.found import Found
from advmix.audit.variation_folder import Item
from advmix.audit.variations import Sources, compared, kept_words
from advmix.config import from_dict, with_defaults
from advmix.data import Data, DataConfig, open_data, to_float
from advmix.data.sources import OwnImages, names_of
from advmix.errors import UserError
from advmix.generators import Generator
from advmix.stages.sources import load


@dataclass(frozen=True, eq=False)
class AuditVariations:
    """What an audit found, for each of its classifiers.

    Args:
        found: what it kept.
        data: the images that were audited.
        sources: those of them, with their names.
        lenders: names of the pool's images.
        generator: draws the variations, on its device.
    """

    found: Found
    data: Data
    sources: Sources
    lenders: Sequence[str]
    generator: Generator

    def find(self, part: slice) -> Iterator[Item]:
        """The variation of each image of a part that hurt a classifier most, classifier by classifier."""
        for number, about in enumerate(self.found.metadata["classifiers"]):
            judged, sources = self.found.judged[number], self.sources[part]
            kept = kept_words(
                self.found.asked.reference_before[part], judged.reference_after[part], sources.images.labels
            )
            donors = [self.lenders[donor] for donor in judged.donors[part].tolist()]
            variant = f"worst-{number + 1}"
            rows = compared(sources, about["name"], variant, donors, judged.before[part], judged.after[part], kept)
            images = self._drawn(part, number, about["side"])
            yield from zip(sources.places.tolist(), rows, images, strict=True)

    @torch.no_grad()
    def _drawn(self, part: slice, number: int, side: int) -> Tensor:
        device = next(self.generator.parameters()).device
        latents = self.found.asked.latents[part].to(device)
        if self.found.metadata["residual"]:
            latents = self.generator.complete(latents, self.originals(part, side).to(device))
        perp = self.found.judged[number].perp[part].to(device)
        return self.generator(self.found.split.with_perp(latents, perp)).cpu()  # type: ignore[no-any-return]

    def originals(self, part: slice, side: int | None = None) -> Tensor:
        """The images as a classifier was shown them, `(B, C, S, S)` in [0, 1]; default the first classifier."""
        side = side or self.found.metadata["classifiers"][0]["side"]
        sources = self.sources[part]
        pixels = sources.images.pixels
        if side > pixels.shape[-1] and isinstance(self.data, OwnImages):
            with self.data.native() as native:
                pixels = native.pixels(sources.names, side)
        return to_float(pixels)


def open_audit(
    audit: Path, generator: Path | None, latents: Path | None, device: torch.device
) -> tuple[AuditVariations, dict[str, str]]:
    """What an audit found, and the fingerprints of what it is drawn from.

    Args:
        audit: folder of the audit.
        generator: where its generator lies now; default where it lay.
        latents: likewise its latents.
        device: for the generator.

    Raises:
        UserError: no audit there, or images or generator are not the same any more.
    """
    found = Found.load(audit)
    metadata = found.metadata
    parts = load(generator or metadata["generator"], latents or metadata["latents"], device)
    if parts.metadata["fingerprint"] != metadata["generator_fingerprint"]:
        raise UserError(f"{audit}: found with another generator than the one in {generator or metadata['generator']}")
    data = _audited(metadata, parts.data, audit)
    rows = found.asked.rows
    names = names_of(data, "test")
    sources = Sources(data.test[rows], [names[row] for row in rows.tolist()], rows)
    inputs = {"generator": metadata["generator_fingerprint"], "images": sources.images.fingerprint}
    judges = [about["fingerprint"] for about in metadata["classifiers"]]
    found_by = {"classifier": " ".join(judges), "search": f"{metadata['search']} {metadata['seed']}"}
    return AuditVariations(found, data, sources, names_of(parts.data, "train"), parts.generator), {**inputs, **found_by}


def _audited(metadata: Mapping[str, Any], ours: Data, audit: Path) -> Data:
    """The data set that was audited; the generator's, where it is that one."""
    filled, _ = with_defaults(DataConfig, metadata["data"])
    config, seed = from_dict(DataConfig, filled, str(audit)), int(metadata["data_seed"])
    data = ours if (config, seed) == (ours.config, ours.seed) else open_data(config, seed, download=False)
    if data.test.fingerprint != metadata["images"]:
        raise UserError(f"{audit}: found in other images than those in {data.config.data} now; audit again")
    return data
