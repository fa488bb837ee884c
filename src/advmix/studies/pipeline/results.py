"""From the measurements of `advmix study pipeline` to tables, and to what may be held against what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from advmix.audit.comparison import Measured, check_same, difference
from advmix.report.style import method_label
from advmix.results import COLUMNS, comparable, in_percent, mean_and_spread
from advmix.studies.pipeline.lines import PIPELINES

Record = dict[str, Any]
PAIRS = (("advmix", "nominal"), ("advmix", "randmix"), ("randmix", "nominal"))
QUALITY = {
    "error": ("error", "{:.4f}"),
    "accuracy_reconstruction": ("recon-\nstruct.\n%", ""),
    "mixability": ("labels\nsurvive\n%", ""),
    "color_follows": ("colour\nfollows\n%", ""),
    "frechet_reconstruction": ("Fréchet,\nrecon-\nstruct.", "{:.2f}"),
    "frechet_samples": ("Fréchet,\nsamples", "{:.2f}"),
    "class_shares": ("rarest,\ncommonest\nclass, %", ""),
    "fit_seconds": ("fit,\ns", "{:.0f}"),
    "encode_seconds": ("encode,\ns", "{:.0f}"),
}
"""Key to head, and the form of a number; percent without one."""


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
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("accuracy, %\nworst cases compare\nwithin a pipeline only", no_wrap=True)
    for name in COLUMNS.values():
        view.add_column("\n".join(name.split()), justify="right")
    for pipeline, mine in by_pipeline(runs):
        view.add_row(f"[bold]{PIPELINES[pipeline].label}[/]")
        for method in dict.fromkeys(run["method"] for run in mine):
            rows = [run for run in mine if run["method"] == method]
            view.add_row(f"  {method_label(method)}", *(in_percent([run[key] for run in rows]) for key in COLUMNS))
        view.add_section()
    return view


def quality_table(records: Sequence[Record]) -> Table:
    """Generator and latents of each pipeline, mean over the seeds; shares of the rarest and the commonest class of
    all seeds."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("mean over the seeds", no_wrap=True)
    for head, _ in QUALITY.values():
        view.add_column(head, justify="right")
    for pipeline, mine in by_pipeline(records):
        cells = [_cell(key, form, [record[key] for record in mine]) for key, (_, form) in QUALITY.items()]
        view.add_row(PIPELINES[pipeline].label, *cells)
    return view


def _cell(key: str, form: str, values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    if key == "class_shares":
        shares = [100 * share for found in known for share in found.values()]
        return f"{min(shares):.1f}, {max(shares):.1f}"
    return form.format(mean_and_spread(known)[0]) if form else in_percent(known)
