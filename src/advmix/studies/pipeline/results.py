"""From the measurements of `advmix study pipeline` to tables, and to what may be held against what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from advmix.audit.comparison import Measured, check_same, difference
from advmix.report.style import method_label
from advmix.results import COLUMNS, comparable, mean_and_spread
from advmix.studies.pipeline.lines import PIPELINES
from advmix.studies.search.results import percent

Record = dict[str, Any]
PAIRS = (("advmix", "nominal"), ("advmix", "randmix"), ("randmix", "nominal"))
QUALITY = {
    "error": ("reconstruction error", 1.0, "{:.4f}"),
    "accuracy_reconstruction": ("reconstructions read, %", 100.0, "{:.1f}"),
    "mixability": ("labels survive, %", 100.0, "{:.1f}"),
    "color_follows": ("colour follows, %", 100.0, "{:.1f}"),
    "frechet_reconstruction": ("Fréchet, reconstructions", 1.0, "{:.2f}"),
    "frechet_samples": ("Fréchet, samples", 1.0, "{:.2f}"),
    "rarest": ("rarest class, %", 100.0, "{:.1f}"),
    "commonest": ("commonest class, %", 100.0, "{:.1f}"),
    "fit_seconds": ("fit, seconds", 1.0, "{:.0f}"),
    "encode_seconds": ("encode, seconds", 1.0, "{:.0f}"),
}
"""Key of a pipeline's number to its name, factor and form."""
FIRST_COLUMN = 18


def by_pipeline(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Name and records, in the order in which the pipelines come."""
    for name in dict.fromkeys(record["pipeline"] for record in records):
        yield name, [record for record in records if record["pipeline"] == name]


def check_runs(runs: Sequence[Record]) -> None:
    """Refuse runs of one pipeline and seed whose worst cases do not compare.

    Raises:
        UserError: naming two.
    """
    for _, mine in by_pipeline(runs):
        comparable(mine)
        for seed in dict.fromkeys(run["seed"] for run in mine):
            check_same([Measured.of(run) for run in mine if run["seed"] == seed])


def comparisons(runs: Sequence[Record]) -> list[Record]:
    """Differences of worst cases, seed by seed, within each pipeline: across them there are none to take.

    Raises:
        UserError: worst cases that do not compare.
    """
    found = []
    for pipeline, mine in by_pipeline(runs):
        for pair in PAIRS:
            first, second = ([Measured.of(run) for run in mine if run["method"] == method] for method in pair)
            if first and second:
                values = [difference(*numbers) for numbers in zip(first, second, strict=True)]
                mean, spread = mean_and_spread(values)
                summary = {"mean": round(mean, 6), "spread": round(spread, 6)}
                found.append({"pipeline": pipeline, "first": pair[0], "second": pair[1], **summary, "values": values})
    return found


def classifier_table(runs: Sequence[Record]) -> Table:
    """Accuracies in percent, mean and standard deviation over the seeds: a section per pipeline, a row per method.

    Raises:
        UserError: worst cases of one section that do not compare.
    """
    check_runs(runs)
    note = "worst cases compare within a pipeline only"
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False, caption=note)
    view.add_column("accuracy, %", width=FIRST_COLUMN)
    for name in COLUMNS.values():
        view.add_column("\n".join(name.split()), justify="right")
    for pipeline, mine in by_pipeline(runs):
        view.add_row(f"[bold]{PIPELINES[pipeline].label}[/]")
        for method in dict.fromkeys(run["method"] for run in mine):
            rows = [run for run in mine if run["method"] == method]
            view.add_row(method_label(method), *(percent([run[key] for run in rows]) for key in COLUMNS))
        view.add_section()
    return view


def quality_table(records: Sequence[Record]) -> Table:
    """Generator and latents, mean over the seeds: a row per number, a column per pipeline."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("mean over the seeds")
    for pipeline, _ in by_pipeline(records):
        view.add_column("\n".join(PIPELINES[pipeline].label.split(", ")), justify="right")
    for row in quality_rows(records):
        view.add_row(*row)
    return view


def quality_rows(records: Sequence[Record]) -> Iterator[list[str]]:
    """Its rows: the name, and a number for each pipeline."""
    pipelines = [mine for _, mine in by_pipeline(records)]
    for key, (name, factor, form) in QUALITY.items():
        yield [name, *(_mean([factor * value for value in known(mine, key)], form) for mine in pipelines)]


def known(records: Sequence[Record], key: str) -> list[float]:
    """A number of each record that has it; the shares of its rarest and its commonest class as such."""
    extreme = {"rarest": min, "commonest": max}.get(key)
    if extreme is not None:
        return [extreme(record["class_shares"].values()) for record in records if record["class_shares"] is not None]
    return [record[key] for record in records if record[key] is not None]


def _mean(values: Sequence[float], form: str) -> str:
    return form.format(mean_and_spread(values)[0]) if values else "–"
