"""The tables of the study of shifts, from its `results.json`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from advmix.intervals import Interval
from experiments.markdown_table import grid
from experiments.shifts.donors import BOTH, DONORS
from experiments.shifts.methods import METHODS
from experiments.shifts.networks import NETWORKS
from experiments.shifts.results import (
    FORECASTS,
    Spread,
    Variant,
    by_variant,
    forecast_quality,
    forecasts,
    paired_difference,
    summarise,
)
from experiments.shifts.sets import SETS

Record = dict[str, Any]

DONOR_WORDS = {"": "", "home": "home", "photographs": "photographs", "sites": "new sites", BOTH: "both"}
"""Images of the new sites are in the last two alone."""


def in_order(variants: Sequence[Variant]) -> list[Variant]:
    """By network, epochs, method and donors, as the lists have them."""
    methods, donors = list(METHODS), ["", *DONORS]
    return sorted(
        variants,
        key=lambda one: (
            list(SETS).index(one.set_name),
            one.network,
            one.budget,
            methods.index(one.method),
            donors.index(one.donors),
        ),
    )


def variants_of(
    results: Record, set_name: str, networks: Sequence[str] = ("conv",)
) -> dict[Variant, dict[int, Record]]:
    """Rows by seed of all variants of a set, in order; with the studies' network, or with those that are named."""
    found = by_variant(row for row in results["rows"] if row["set"] == set_name and row["network"] in networks)
    return {variant: found[variant] for variant in in_order(list(found))}


def words_of(variant: Variant) -> list[str]:
    """Method, with what is unusual about it, and donors."""
    title = METHODS[variant.method].title
    title += "" if variant.network == "conv" else f", {variant.network}"
    title += "" if variant.budget == 1 else f", {variant.budget} times the epochs"
    return [title, DONOR_WORDS[variant.donors]]


def percent(value: Spread, digits: int = 1) -> str:
    """Mean and standard deviation of shares, in percent."""
    text = f"{100 * value.mean:.{digits}f}"
    return text if value.deviation is None else f"{text} ± {100 * value.deviation:.{digits}f}"


def points(found: Interval | None) -> str:
    """A difference of shares in points, with its interval."""
    if found is None:
        return "–"
    return f"{100 * found.value:+.1f} ({100 * found.low:+.0f} to {100 * found.high:+.0f})"


def facts(results: Record, rows: Mapping[Variant, Mapping[int, Record]], set_name: str) -> str:
    """What was measured on what."""
    known, config = SETS[set_name], results["config"]
    seeds = {seed for of_seed in rows.values() for seed in of_seed}
    sites = next(iter(next(iter(rows.values())).values()))["sites"]
    return (
        f"**{known.title}**: what changes is {known.shift}. Trained at {known.home} on at most "
        f"{config['train_images']:,} images of {config['size']} pixels, {config['epochs']} epochs, "
        f"{_seed_words(seeds)}, not all of them by every method; judged at {', '.join(sites)}. Balanced accuracy in "
        "percent, mean ± standard deviation over seeds."
    )


ACCURACY_HEADS = (
    *("method", "donors", "seeds", "home", "new sites", "worst site"),
    *("re-estimated", "worst case", "gain", "CPU s"),
)


def accuracy_table(results: Record, set_name: str) -> Iterator[str]:
    """Accuracies of every method on a set, with the studies' network."""
    rows = variants_of(results, set_name)
    if rows:
        yield facts(results, rows, set_name)
        yield grid(ACCURACY_HEADS, _accuracies(results, rows, rows), left=2)


def network_table(results: Record) -> Iterator[str]:
    """Accuracies with every other network, and of the same methods with the studies' own."""
    lines = []
    for set_name in SETS:
        rows = variants_of(results, set_name, list(NETWORKS))
        other = {(one.method, one.donors) for one in rows if one.network != "conv"}
        shown = {one: rows[one] for one in rows if (one.method, one.donors) in other and one.budget == 1}
        lines += [[SETS[set_name].title, *line] for line in _accuracies(results, rows, shown)]
    yield grid(("set", *ACCURACY_HEADS), lines, left=3)


def _accuracies(
    results: Record, rows: Mapping[Variant, Mapping[int, Record]], shown: Mapping[Variant, Mapping[int, Record]]
) -> list[list[str]]:
    """A line for each variant that is shown, of one set; nominal ones are among the rows."""
    lines = []
    for variant, of_seed in shown.items():
        found = summarise(of_seed)
        base = rows.get(Variant(variant.set_name, variant.network, "nominal", "", 1), {})
        gain = None if variant.method == "nominal" else paired_difference(of_seed, base, results["labels"])
        keys = ("home", "sites", "worst_site", "sites_estimated", "worst_case")
        cells = [percent(found[key]) for key in keys]
        lines.append([*words_of(variant), str(len(of_seed)), *cells, points(gain), f"{found['cpu_seconds'].mean:.0f}"])
    return lines


def probability_table(results: Record, set_name: str) -> Iterator[str]:
    """What the probabilities of every method are worth at the new sites, with the studies' network."""
    lines = []
    for variant, of_seed in variants_of(results, set_name).items():
        found = summarise(of_seed)
        cells = [
            f"{found['brier'].mean:.2f}",
            percent(found["calibration_error"], 0),
            percent(found["sensitivity"], 0),
            percent(found["made"]),
        ]
        lines.append([*words_of(variant), *cells])
    heads = ("method", "donors", "Brier score", "calibration error", "sensitivity", "made sites")
    if lines:
        yield grid(heads, lines, left=2)


def twin_table(results: Record) -> Iterator[str]:
    """Whether what withstands mixes withstands the true twin: MNIST-M, with the studies' network."""
    lines = []
    for variant, of_seed in variants_of(results, "mnist-m").items():
        twins = [row["sites"]["mnist-m"]["twins"] for row in of_seed.values()]
        cells = [_of_twins(twins, key) for key in ("withstood", "right_withstood", "right_flipped")]
        lines.append([*words_of(variant), str(len(of_seed)), *cells])
    heads = ("method", "donors", "seeds", "withstand mixes", "of these right on the twin", "of the others")
    if lines:
        yield grid(heads, lines, left=2)


def _of_twins(twins: Sequence[Record], key: str) -> str:
    values = [float(one[key]) for one in twins if one[key] is not None]
    return percent(Spread.of(values)) if values else "–"


FORECAST_WORDS = {
    "styles": "home's images with the styles of the site",
    "confidence": "mean confidence",
    "threshold": "average thresholded confidence",
    "agreement": "agreement of two seeds",
}


def forecast_table(results: Record) -> Iterator[str]:
    """How good every forecast is, set by set."""
    lines = []
    for set_name in SETS:
        found = forecasts(row for row in results["rows"] if row["set"] == set_name)
        for name in FORECASTS if found else ():
            if all(getattr(one, name) is None for one in found):
                continue
            quality = forecast_quality(found, name)
            orders = ["–" if tau is None else f"{tau:+.2f}" for tau in (quality.orders_sites, quality.orders_methods)]
            lines.append(
                [
                    SETS[set_name].title,
                    FORECAST_WORDS[name],
                    f"{100 * quality.error:.0f}",
                    f"{100 * quality.bias:+.0f}",
                    f"{100 * quality.above:.0f}",
                    *orders,
                    str(quality.count),
                ]
            )
    heads = ("set", "forecast", "error", "bias", "not below, %", "orders sites", "orders methods", "forecasts")
    yield grid(heads, lines, left=2)


OVERVIEW = (
    ("nominal", ""),
    ("jitter", ""),
    ("augmix", ""),
    ("mixstyle", ""),
    ("randconv", ""),
    ("randmix", "home"),
    ("randmix", "photographs"),
    ("advmix", "photographs"),
    ("fourier", "photographs"),
    ("histogram", "sites"),
    ("fourier", "sites"),
    ("randmix", "sites"),
    ("advmix", "sites"),
    ("randmix", BOTH),
)
"""Rows of the overview: method and donors."""

README_ROWS = (
    *(("nominal", ""), ("jitter", ""), ("augmix", ""), ("fourier", "photographs")),
    *(("randmix", "home"), ("randmix", "photographs"), ("advmix", "photographs"), ("randmix", "sites")),
)
"""Those that a reader sees first."""


def overview_table(results: Record, shown_rows: Sequence[tuple[str, str]] = OVERVIEW) -> Iterator[str]:
    """Mean of the new sites of every set, as trained and with normalisation re-estimated: of the seeds that all rows
    have.
    """
    of_set = {name: _overview_rows(results, name) for name in SETS}
    shown = [name for name, rows in of_set.items() if rows]
    lines = []
    for method, donors in shown_rows:
        cells = [_overview_cell(of_set[name].get(Variant(name, "conv", method, donors, 1))) for name in shown]
        if any(cell != "–" for cell in cells):
            lines.append([*words_of(Variant(shown[0], "conv", method, donors, 1)), *cells])
    heads = [f"{SETS[name].title}, {_seed_count(next(iter(of_set[name].values())))}" for name in shown]
    yield grid(("method", "donors", *heads), lines, left=2)


def _overview_rows(results: Record, set_name: str) -> dict[Variant, dict[int, Record]]:
    wanted = [Variant(set_name, "conv", method, donors, 1) for method, donors in OVERVIEW]
    there = variants_of(results, set_name)
    rows = {variant: there[variant] for variant in wanted if variant in there}
    common = set.intersection(*(set(of_seed) for of_seed in rows.values())) if rows else set()
    return {variant: {seed: of_seed[seed] for seed in sorted(common)} for variant, of_seed in rows.items() if common}


def _seed_words(seeds: Iterable[int]) -> str:
    numbers = sorted(seeds)
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _seed_count(seeds: Collection[int]) -> str:
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def _overview_cell(of_seed: Mapping[int, Record] | None) -> str:
    if of_seed is None:
        return "–"
    found = summarise(of_seed)
    return f"{percent(found['sites'])} ({100 * found['sites_estimated'].mean:.0f})"


SEARCHED = ("randmix", "randmix-kept", "worst-of-3", "advmix", "advmix-kept")


def search_table(results: Record) -> Iterator[str]:
    """What the search is worth: mixing methods with the same donors, of each set."""
    lines = []
    for set_name in SETS:
        rows = variants_of(results, set_name)
        for variant, of_seed in rows.items():
            if variant.method in SEARCHED and variant.donors in ("photographs", "sites"):
                found = summarise(of_seed)
                base = rows.get(Variant(set_name, variant.network, "randmix", variant.donors, 1), {})
                gain = None if of_seed is base else paired_difference(of_seed, base, results["labels"])
                cells = [percent(found[key]) for key in ("home", "sites", "worst_case")]
                spent = f"{found['cpu_seconds'].mean:.0f}"
                lines.append([SETS[set_name].title, *words_of(variant), str(len(of_seed)), *cells, points(gain), spent])
    heads = ("set", "method", "donors", "seeds", "home", "new sites", "worst case", "above RandMix", "CPU s")
    yield grid(heads, sorted(lines, key=lambda line: (line[0], line[2])), left=3)


PARTS: dict[str, Callable[[Record], Iterator[str]]] = {
    **{name: partial(accuracy_table, set_name=name) for name in SETS},
    **{f"{name}-probabilities": partial(probability_table, set_name=name) for name in SETS},
    "networks": network_table,
    "twins": twin_table,
    "forecast": forecast_table,
    "search": search_table,
    "overview": overview_table,
    "readme": partial(overview_table, shown_rows=README_ROWS),
}
"""Tables by the word that a page asks for them with."""


def shift_tables(results: Record) -> Iterator[str]:
    """All tables."""
    for name, make in PARTS.items():
        if name not in ("overview", "readme", "search"):
            yield from make(results)
