"""The test images of a cell with everything that is tried on them: classifiers, generators, recolourings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from advmix.audit.results import WorstCaseKey, as_record
from advmix.classifiers.networks import load_classifier
from advmix.data.colored import ColoredDigits, GrayDigits
from advmix.doctor.measure import Nested, nested_search
from advmix.encoders.autoencoder import Autoencoder, fingerprint
from advmix.latents import Latents, Split
from advmix.metrics import recolor_worst, share
from advmix.mixing import SearchOptions
from advmix.pools import FittedModel, load
from advmix.utils.torch_tools import generator
from experiments.cells import Cell
from experiments.search.generators import OWN, classifier_folder, fit, fit_folder, latents_folder, train

AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Searched:
    """A generator with its pool, and the codes of the test images under it; all on one device."""

    mixable: FittedModel
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
        mixable = load(fit_folder(self.cell, regime), latents_folder(self.cell, regime), self.device)
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


Record = dict[str, Any]


def search_of(
    bench: Bench, judge: nn.Module, searched: Searched, search: SearchOptions, title: str = "search"
) -> Nested:
    """A search on the bench, from the donors that `advmix evaluate` draws."""
    return nested_search(
        judge,
        searched.model,
        search,
        searched.latents,
        bench.labels,
        searched.pool,
        seed=bench.cell.seed,
        title=title,
    )


def saturation(
    bench: Bench,
    method: str,
    search: SearchOptions,
    restarts: Sequence[int],
    steps: Sequence[int],
    radii: Sequence[float | None],
) -> list[Record]:
    """Worst cases of one classifier while one number of the search is varied, the others as in `search`."""
    judge, name = bench.classifier(method)
    searched = bench.searched(OWN)

    def record(axis: str, smaller: SearchOptions, found: Nested) -> Record:
        return {
            "method": method,
            "seed": bench.cell.seed,
            "axis": axis,
            "restarts": smaller.restarts,
            "steps": smaller.steps,
            "radius": smaller.radius,
            "accuracy_worst_case": share(found.right(smaller.restarts, smaller.steps)),
            "loss": round(float(found.loss(smaller.restarts, smaller.steps).mean()), 4),
            "classifier": name,
            "key": as_record(bench.key(searched, smaller)),
        }

    found = search_of(bench, judge, searched, replace(search, restarts=max(restarts)), f"{method}: restarts")
    records = [record("restarts", replace(search, restarts=count), found) for count in restarts]
    found = search_of(bench, judge, searched, replace(search, steps=max(steps)), f"{method}: steps")
    records += [record("steps", replace(search, steps=count), found) for count in steps]
    for radius in radii:
        wider = replace(search, radius=radius)
        found = search_of(bench, judge, searched, wider, f"{method}: radius {radius}")
        records.append(record("radius", wider, found))
    return records


@torch.no_grad()
def recoloring(bench: Bench, method: str) -> Record:
    """How one classifier does under every recolouring: of the real digit, of that digit encoded and decoded, and of
    the test image's own z∥ with the z⊥ of each recoloured digit. The last is an exhaustive search of pure recolourings
    in the generator's pictures: what a latent search that never left them would have to find.
    """
    judge, name = bench.classifier(method)
    searched, labels = bench.searched(OWN), bench.labels.cpu()
    look, split = bench.data.look, bench.split(searched)
    plain = _right(judge, bench, searched, searched.latents)
    decoded, mixed = plain.clone(), plain.clone()
    for images in bench.recolorings():
        latents = bench.encode(searched.model, images)
        decoded &= _right(judge, bench, searched, latents)
        mixed &= _right(judge, bench, searched, split.combine(parallel_from=searched.latents, perp_from=latents))
    key = WorstCaseKey(searched.name, "every recolouring", f"all {len(look.grid())} paints", bench.images_name)
    return {
        "method": method,
        "seed": bench.cell.seed,
        "accuracy_shuffled": share(bench.read(judge, bench.images).argmax(dim=1) == labels),
        "accuracy_reconstruction": share(plain),
        "accuracy_recolor_worst": share(recolor_worst(judge, bench.gray, look, look.grid(), bench.device)),
        "accuracy_recolor_decoded": share(decoded),
        "accuracy_recolor_mixed": share(mixed),
        "classifier": name,
        "key": as_record(key),
    }


def _right(judge: nn.Module, bench: Bench, searched: Searched, latents: Latents) -> Tensor:
    images = searched.model.generator(latents)
    return bench.read(judge, images).argmax(dim=1) == bench.labels.cpu()


def transfer(bench: Bench, method: str, trained_with: str, regime: str, search: SearchOptions) -> Record:
    """One classifier searched with one generator: the own one, or an independently trained one with its own pool."""
    judge, name = bench.classifier(method, trained_with)
    searched = bench.searched(regime)
    nested = search_of(bench, judge, searched, search, f"{method} ({trained_with}) under {regime}")
    return {
        "method": method,
        "trained_with": trained_with,
        "seed": bench.cell.seed,
        "generator": regime,
        "accuracy_reconstruction": share(nested.plain),
        "accuracy_random_mix": share(nested.right(1, 0)),
        "accuracy_worst_case": share(nested.right(search.restarts, search.steps)),
        "classifier": name,
        "key": as_record(bench.key(searched, search)),
    }
