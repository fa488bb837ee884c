"""The test images of a cell with everything that is tried on them: classifiers, generators, recolourings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from advmix.audit.comparison import WorstCaseKey
from advmix.classifiers import load_classifier
from advmix.data import ColoredDigits, GrayDigits
from advmix.encoders import Autoencoder, fingerprint
from advmix.latents import Latents, Split
from advmix.seeds import generator
from advmix.stages.sources import Mixable, load_mixable
from advmix.studies.cell import Cell
from advmix.studies.search.generators import OWN, classifier_folder, fit, fit_folder, latents_folder, train
from advmix.training.methods import SearchOptions

AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Searched:
    """A generator with its pool, and the codes of the test images under it; all on one device."""

    mixable: Mixable
    latents: Latents
    pool_name: str

    @property
    def model(self) -> Autoencoder:
        """Generator and encoder."""
        return self.mixable.model

    @property
    def pool(self) -> Latents:
        """Codes of the training images."""
        return self.mixable.pool

    @property
    def name(self) -> str:
        """The generator's fingerprint."""
        return str(self.mixable.metadata["fingerprint"])


class Bench:
    """The test images that `evaluate` draws at random, for one cell.

    Args:
        cell: where everything is kept.
        count: at most so many test images.
        device: where everything runs.
    """

    def __init__(self, cell: Cell, count: int, device: torch.device) -> None:
        self.cell, self.count, self.device = cell, count, device
        self.searched = lru_cache(maxsize=1)(self._searched)
        self.classifier = lru_cache(maxsize=None)(self._classifier)

    @cached_property
    def data(self) -> ColoredDigits:
        """All images of the cell."""
        return self.cell.check()

    @cached_property
    def chosen(self) -> Tensor:
        """Indices of the test images, `(N,)`: those of `advmix evaluate --worst-images` with the same number."""
        order = torch.randperm(len(self.data.shuffled), generator=generator(self.cell.seed, "worst-case", "images"))
        return order[: self.count]

    @cached_property
    def images(self) -> Tensor:
        """`(N, 3, H, W)` in [0, 1], shuffled looks; on the CPU."""
        return self.data.shuffled.batch(self.chosen)[0]

    @cached_property
    def gray(self) -> GrayDigits:
        """The same digits without a look."""
        return self.data.gray_test[self.chosen]

    @cached_property
    def labels(self) -> Tensor:
        """`(N,)`, on the device."""
        return self.gray.labels.to(self.device)

    @cached_property
    def images_name(self) -> str:
        """Fingerprint of the test images."""
        return self.data.shuffled[self.chosen].fingerprint

    def _classifier(self, method: str, trained_with: str = OWN) -> tuple[nn.Module, str]:
        """A classifier in eval mode, made first where it is not there, and its fingerprint."""
        train(self.cell, method, trained_with)
        network, _ = load_classifier(classifier_folder(self.cell, method, trained_with))
        return network.to(self.device), fingerprint(network)

    def _searched(self, regime: str = OWN) -> Searched:
        """The test images under a generator, which is made first where it is not there."""
        fit(self.cell, regime)
        mixable = load_mixable(fit_folder(self.cell, regime), latents_folder(self.cell, regime), self.device)
        assert mixable is not None
        return Searched(mixable, self.encode(mixable.model, self.images), mixable.pool.fingerprint)

    @torch.no_grad()
    def encode(self, model: Autoencoder, images: Tensor) -> Latents:
        """Codes of images `(N, 3, H, W)`, by the encoder that made the pool."""
        return Latents.cat([model.encoder(part.to(self.device)) for part in images.split(AT_ONCE)])

    @torch.no_grad()
    def read(self, classifier: nn.Module, images: Tensor) -> Tensor:
        """Class probabilities `(N, C)` of images `(N, 3, H, W)`, on the CPU."""
        parts = [classifier(part.to(self.device)).softmax(dim=1).cpu() for part in images.split(AT_ONCE)]
        return torch.cat(parts)

    def recolorings(self) -> Iterator[Tensor]:
        """The real digits under every paint of the look's grid: `(N, 3, H, W)`, one paint after the other."""
        pixels = self.gray.pixels.float() / 255
        for row in self.data.look.grid():
            yield self.data.look.paint(pixels, row.expand(len(pixels), -1))

    def split(self, searched: Searched) -> Split:
        """Which layers of a generator are z⊥."""
        return self.cell.settings.search.split(searched.model.generator.layers)

    def key(self, searched: Searched, search: SearchOptions) -> WorstCaseKey:
        """The circumstances of a worst case of this bench."""
        return WorstCaseKey(searched.name, searched.pool_name, in_words(search, self.cell.seed), self.images_name)


def in_words(search: SearchOptions, seed: int) -> str:
    """A search's settings as one line: what tells it from another one."""
    box = "no box" if search.radius is None else f"radius {search.radius:g}"
    layers = " ".join(map(str, search.perp)) + (" grid" if search.perp_grid else "")
    return (
        f"{search.restarts} restarts, {search.steps} steps of {search.step_size:g} along the {search.step}, {box}, "
        f"layers {layers}, donors of seed {seed}"
    )
