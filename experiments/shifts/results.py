"""From rows, one for each training, to what a table says of a method: means over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from advmix.intervals import Interval
from advmix.utils.torch_tools import generator
from experiments.shifts.cell import Record, unpacked

AS_IT_IS, ESTIMATED = "as_it_is", "estimated"
"""A classifier as it was trained; with normalisation statistics of a site's unlabelled images."""

RESAMPLES = 1000


@dataclass(frozen=True, order=True)
class Variant:
    """A method with all that is said of it: what is averaged over seeds."""

    set_name: str
    network: str
    method: str
    donors: str
    budget: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Variant:
        """Of a row."""
        return cls(row["set"], row["network"], row["method"], row["donors"], row["budget"])


def by_variant(rows: Iterable[Record]) -> dict[Variant, dict[int, Record]]:
    """Rows by seed, of every variant."""
    found: dict[Variant, dict[int, Record]] = {}
    for row in rows:
        found.setdefault(Variant.of(row), {})[row["seed"]] = row
    return found


def site_mean(row: Record, state: str = AS_IT_IS, score: str = "balanced") -> float:
    """Of a score, over the sites, each of which counts alike. A network without such statistics is the same in both
    states.
    """
    values = [float((site.get(state) or site[AS_IT_IS])[score]) for site in row["sites"].values()]
    return sum(values) / len(values)


def worst_site(row: Record, state: str = AS_IT_IS) -> float:
    """The lowest balanced accuracy of a site."""
    return min(float((site.get(state) or site[AS_IT_IS])["balanced"]) for site in row["sites"].values())


def made_mean(row: Record) -> float:
    """Balanced accuracy at made sites, mean."""
    values = [float(value) for value in row["made"].values()]
    return sum(values) / len(values)


@dataclass(frozen=True)
class Spread:
    """Of numbers, one for each seed: mean and standard deviation, which is None of a single one."""

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one."""
        numbers = torch.tensor(values, dtype=torch.float64)
        return cls(float(numbers.mean()), float(numbers.std()) if len(values) > 1 else None, len(values))


SUMMARY: dict[str, Callable[[Record], float]] = {
    "home": lambda row: float(row["home"]["balanced"]),
    "sites": site_mean,
    "sites_estimated": lambda row: site_mean(row, ESTIMATED),
    "worst_site": worst_site,
    "worst_case": lambda row: float(row["worst_case"]),
    "brier": lambda row: site_mean(row, score="brier"),
    "calibration_error": lambda row: site_mean(row, score="calibration_error"),
    "sensitivity": lambda row: site_mean(row, score="sensitivity"),
    "made": made_mean,
    "cpu_seconds": lambda row: float(row["cpu_seconds"]),
}
"""What a table shows of a row, by key."""


def summarise(rows: Mapping[int, Record]) -> dict[str, Spread]:
    """Over the seeds of a variant."""
    return {key: Spread.of([read(row) for row in rows.values()]) for key, read in SUMMARY.items()}


def paired_difference(
    first: Mapping[int, Record],
    second: Mapping[int, Record],
    labels: Mapping[str, Any],
    states: tuple[str, str] = (AS_IT_IS, AS_IT_IS),
) -> Interval | None:
    """How much higher the first variant's balanced accuracy is in the mean of the sites, with a 95 % interval.

    Seeds are resampled, and within each seed the judged images of every site, the same ones for both (Davison and
    Hinkley, 1997, section 3.8). Sites are not: nothing is said about other sites.

    Args:
        first: rows by seed.
        second: rows by seed, of the same set; seeds that one of them lacks are left out.
        labels: of what is judged, as `results.json` has them.
        states: of the two.

    Returns:
        None where no seed is common.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    rng = generator(0, "shifts", "bootstrap")
    parts = [_of_seed(first[seed], second[seed], _site_labels(labels, first[seed]), states, rng) for seed in seeds]
    value = sum(part[0] for part in parts) / len(parts)
    drawn = torch.stack([part[1] for part in parts])
    chosen = torch.randint(len(seeds), (len(seeds), RESAMPLES), generator=rng)
    resampled = drawn.gather(0, chosen).mean(dim=0)
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)


def _site_labels(labels: Mapping[str, Any], row: Record) -> dict[str, Tensor]:
    sites = labels[f"{row['set']} seed {row['seed']}"]["sites"]
    return {name: unpacked(site["labels"])[unpacked(site["judged"]) == 1] for name, site in sites.items()}


def _of_seed(
    first: Record, second: Record, labels: Mapping[str, Tensor], states: tuple[str, str], rng: torch.Generator
) -> tuple[float, Tensor]:
    """The difference, and that of every resample `(R,)`."""
    values, drawn = [], []
    for site, truth in labels.items():
        gains = _right(first, site, states[0]) - _right(second, site, states[1])
        every = torch.ones(1, len(truth), dtype=torch.float64)
        picked = torch.randint(len(truth), (RESAMPLES, len(truth)), generator=rng)
        counts = torch.zeros(RESAMPLES, len(truth), dtype=torch.float64)
        counts.scatter_add_(1, picked, torch.ones_like(picked, dtype=torch.float64))
        values.append(float(balanced_mean(gains, truth, every)))
        drawn.append(balanced_mean(gains, truth, counts))
    return sum(values) / len(values), torch.stack(drawn).mean(dim=0)


def _right(row: Record, site: str, state: str) -> Tensor:
    found = row["sites"][site]
    return unpacked((found.get(state) or found[AS_IT_IS])["right"]).double()


def balanced_mean(values: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """The mean over the classes of the mean of values `(N,)` in each, where images count `(R, N)` times: `(R,)`. A
    class that a resample lacks does not count in it.
    """
    one_hot = (labels[:, None] == labels.unique()).double()
    totals = counts @ one_hot
    means = (counts @ (one_hot * values[:, None])) / totals.clamp_min(1)
    there = totals > 0
    mean: Tensor = (means * there).sum(dim=1) / there.sum(dim=1)
    return mean


@dataclass(frozen=True)
class Forecasted:
    """A classifier at a site: its balanced accuracy there, and what was said of it before.

    Attributes:
        variant: the method.
        seed: of the training.
        site: the site.
        truth: balanced accuracy on the judged images.
        styles: on home's images with the styles of the site.
        confidence: mean probability of the answers.
        threshold: average thresholded confidence.
        agreement: share of the site's images on which it and the next seed's classifier say the same; None of a
            single seed.
    """

    variant: Variant
    seed: int
    site: str
    truth: float
    styles: float
    confidence: float
    threshold: float
    agreement: float | None


FORECASTS = ("styles", "confidence", "threshold", "agreement")


def forecasts(rows: Iterable[Record]) -> list[Forecasted]:
    """One for each row and site."""
    found = []
    for variant, seeds in sorted(by_variant(rows).items()):
        order = sorted(seeds)
        following = dict(pairwise([*order, order[0]]))
        for seed, row in sorted(seeds.items()):
            for site, record in row["sites"].items():
                other = seeds[following[seed]] if len(order) > 1 else None
                found.append(_forecasted(variant, seed, site, record, other))
    return found


def _forecasted(variant: Variant, seed: int, site: str, record: Record, other: Record | None) -> Forecasted:
    said = record["forecast"]
    same = None
    if other is not None:
        same = float((unpacked(record["answers"]) == unpacked(other["sites"][site]["answers"])).double().mean())
    truth = float(record[AS_IT_IS]["balanced"])
    return Forecasted(
        variant, seed, site, truth, said["styles"], said["mean_confidence"], said["thresholded_confidence"], same
    )


@dataclass(frozen=True)
class ForecastQuality:
    """How good a forecast is.

    Attributes:
        error: mean absolute error, in points of balanced accuracy.
        bias: mean of forecast less truth.
        above: share of the forecasts that are not below the truth.
        orders_sites: rank correlation (Kendall) with the truth over the sites of a classifier, mean over classifiers.
        orders_methods: the same over the methods at a site, mean over sites and seeds.
        count: forecasts.
    """

    error: float
    bias: float
    above: float
    orders_sites: float | None
    orders_methods: float | None
    count: int


def forecast_quality(found: Sequence[Forecasted], name: str) -> ForecastQuality:
    """Of the forecast `name`, where it is known."""
    known = [(one, float(getattr(one, name))) for one in found if getattr(one, name) is not None]
    misses = torch.tensor([said - one.truth for one, said in known], dtype=torch.float64)

    def order(key: Callable[[Forecasted], Any]) -> float | None:
        groups: dict[Any, list[tuple[float, float]]] = {}
        for one, said in known:
            groups.setdefault(key(one), []).append((said, one.truth))
        taus = [tau for pairs in groups.values() if (tau := _kendall(pairs)) is not None]
        return sum(taus) / len(taus) if taus else None

    return ForecastQuality(
        float(misses.abs().mean()),
        float(misses.mean()),
        float((misses >= 0).double().mean()),
        order(lambda one: (one.variant, one.seed)),
        order(lambda one: (one.variant.set_name, one.variant.network, one.site, one.seed)),
        len(known),
    )


def _kendall(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's rank correlation; None of fewer than three pairs, or where one side is all the same."""
    from scipy.stats import kendalltau

    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(kendalltau(*zip(*pairs, strict=True)).statistic)


def overall_quality(rows: Sequence[Record]) -> Record:
    """How good the forecast by styles is over all sets, as the package says it beside each forecast."""
    found = forecasts(rows)
    quality = forecast_quality(found, "styles")
    return {
        "forecasts": quality.count,
        "classifiers": len({(one.variant, one.seed) for one in found}),
        "sites": len({(one.variant.set_name, one.site) for one in found}),
        "error": quality.error,
        "above": quality.above,
    }
