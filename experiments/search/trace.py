"""One search step by step: what it sees on the way, and its path through the pool's `z⊥`."""

from __future__ import annotations

import torch
from torch import Tensor

from advmix.mixing import SearchOptions
from advmix.utils.torch_tools import generator
from experiments.search.generators import OWN
from experiments.search.measure import Bench, Searched
from experiments.search.transfer import flat_paint

CLOUD = 1500


def principal(points: Tensor, count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Principal components of points `(N, P)`.

    Returns:
        Mean `(P,)`, directions `(P, count)` of unit length, largest variance first, and the share of the variance that
        each explains `(count,)`. The largest number of a direction is positive, so that a picture is not mirrored by
        chance.
    """
    mean = points.double().mean(dim=0)
    centred = points.double() - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(points))
    directions = vectors.flip(1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return mean, directions * largest.sign(), values.flip(0)[:count] / values.sum()


def shadow(half_widths: Tensor, directions: Tensor) -> Tensor:
    """Outline of a box, seen in a plane: a convex polygon, corner by corner.

    Args:
        half_widths: `(P,)`, of a box around the origin.
        directions: `(P, 2)`, how far each axis reaches in the plane.

    Returns:
        `(2 P, 2)`: the corners in order (the projection of a box is the sum of the projections of its edges).
    """
    edges = half_widths[:, None] * directions
    edges = torch.where((edges[:, 1] < 0)[:, None], -edges, edges)
    edges = edges[torch.atan2(edges[:, 1], edges[:, 0]).argsort()]
    half = -edges.sum(dim=0) + 2 * torch.cat([torch.zeros_like(edges[:1]), edges.cumsum(dim=0)])[:-1]
    return torch.cat([half, -half])


def trace(bench: Bench, method: str, search: SearchOptions) -> dict[str, Tensor]:
    """Every candidate of the search over the *first* test image, and where it lies.

    Returns:
        `original` and `reconstruction` `(3, H, W)`, `label` `()`; of `R` restarts and `K` steps `images`
        `(K + 1, R, 3, H, W)`, `losses`, `predictions`, `confidence` `(K + 1, R)` and `path` `(K + 1, R, 2)` in the
        plane of the pool's first two principal components; `cloud` `(M, 2)`, the first of the pool in that plane, with
        their `colors` `(M, 3)`; `box` `(V, 2)`, the outline of the search's box around the origin (empty without one);
        `explained` `(2,)`, the plane's share of the pool's variance.
    """
    judge, _ = bench.classifier(method)
    searched = bench.searched(OWN)
    latents, label, split = searched.latents[:1], bench.labels[:1], bench.split(searched)
    rng = generator(bench.cell.seed, "worst-case", 0)
    mix = search.mixer(searched.model.generator)(judge, latents, label, searched.pool, rng=rng, trace=True)
    assert mix.trace is not None
    perp, grid = mix.trace.perp[:, :, 0], mix.trace.losses.shape[:2]
    with torch.no_grad():
        rows = latents[torch.zeros(perp[..., 0].numel(), dtype=torch.long, device=perp.device)]
        images = searched.model.generator(split.with_perp(rows, perp.flatten(0, 1)))
        reconstruction = searched.model.generator(latents)[0]
    confidence, predictions = bench.read(judge, images).max(dim=1)
    return {
        "original": bench.images[0],
        "reconstruction": reconstruction,
        "label": label[0],
        "images": images.unflatten(0, grid),
        "losses": mix.trace.losses[:, :, 0],
        "predictions": predictions.unflatten(0, grid),
        "confidence": confidence.unflatten(0, grid),
        **_map(bench, searched, perp, search.radius),
    }


def _map(bench: Bench, searched: Searched, perp: Tensor, radius: float | None) -> dict[str, Tensor]:
    """Candidates `(K + 1, R, P)` and pool in the pool's first two principal components."""
    pool = bench.split(searched).perp_of(searched.pool).cpu()
    mean, directions, explained = principal(pool)
    unit = bench.split(searched).perp_of(searched.pool.spread)[0].cpu().double()
    box = torch.empty(0, 2) if radius is None else shadow(radius * unit, directions)
    return {
        "path": ((perp.cpu().double() - mean) @ directions).float(),
        "cloud": ((pool[:CLOUD].double() - mean) @ directions).float(),
        "colors": _colors(bench, min(CLOUD, len(pool))),
        "box": box.float(),
        "explained": explained.float(),
    }


def _colors(bench: Bench, count: int) -> Tensor:
    """The digit's colour in each of the first training images, `(count, 3)`."""
    images = bench.data.train.batch(slice(0, count))[0]
    return flat_paint(images, bench.data.gray_train.pixels[:count].float() / 255)[0].float()
