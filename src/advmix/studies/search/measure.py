"""The measurements of `advmix study search` on one bench; each a function to plain values for a JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from advmix.audit.comparison import WorstCaseKey, as_record
from advmix.audit.evaluate import recolor_worst, share
from advmix.audit.nested import Nested, nested_search
from advmix.latents import Latents
from advmix.studies.search.bench import Bench, Searched
from advmix.studies.search.generators import OWN
from advmix.training.methods import SearchOptions

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
        "accuracy_unbiased": share(bench.read(judge, bench.images).argmax(dim=1) == labels),
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
