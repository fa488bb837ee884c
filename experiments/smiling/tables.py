"""Tables of `study smiling`, for `experiments.docs_tables.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from advmix.report.tables import in_percent
from experiments.face_tables import PLACES
from experiments.faces.figures import mean_seconds, percent, relative, relative_span, signed_span, span
from experiments.markdown_table import grid
from experiments.smiling.figures import mean_epochs

Record = dict[str, Any]


def smiling(results: Record) -> Iterator[str]:
    """A row per method, then what is due to what."""
    yield _facts(results)
    heads = ["", "Error", "95 %", "Change", "95 %", "Worst case", "Epochs", "CPU seconds"]
    yield grid(heads, [_row(row) for row in results["methods"]])
    if results["due"]:
        yield (
            "What is due to what: error and worst-case accuracy of one method less those of another, in points, "
            "paired; a lower error is better, and a higher worst case."
        )
        heads = ["", "", "Between", "Error", "95 %", "Worst case", "95 %"]
        yield grid(heads, [_due(row) for row in results["due"]], left=3)


def _facts(results: Record) -> str:
    config, judged = results["config"], results["judged"]
    place = "the other half of the persons held out" if config["judge"] == "select" else PLACES["test"]
    seeds = ", ".join(map(str, config["seeds"]))
    return (
        f"**{config['target']}**, {config['size']} pixels, {config['labelled']:,} labels, "
        f"{results['unlabelled']:,} unlabelled faces, network `{config['network']}`, seeds {seeds}; judged on {place}: "
        f"{judged['images']:,} images of {judged['persons']:,} persons, worst cases on {judged['searched']} of them. "
        "In percent, mean ± standard deviation over seeds; intervals over persons."
    )


def _row(row: Record) -> list[str]:
    cells = [f"`{row['method']}`", in_percent(row["error_by_seed"]), span(row["error"])]
    if row["method"] == "nominal":
        cells += ["", ""]
    else:
        cells += [relative(row["change"]), relative_span(row["change"])]
    return [*cells, percent(row["accuracy_worst_case"]), mean_epochs(row), mean_seconds(row["cpu_seconds"])]


def _due(row: Record) -> list[str]:
    between = f"`{row['first']}` less `{row['second']}`"
    cells = [part for key in ("error", "accuracy_worst_case") for part in (_points(row[key]), signed_span(row[key]))]
    return [row["due"], row["way"], between, *cells]


def _points(difference: Record) -> str:
    return f"{100 * difference['value']:+.1f}"
