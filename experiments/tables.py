"""Markdown tables, for `experiments.docs_tables.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from advmix.report.drawing import method_label
from advmix.report.tables import columns, in_percent
from experiments.audit_gallery.page import gallery_sections
from experiments.face_tables import FACE_TABLES, setting
from experiments.marginalize.study import marginal_rows, tests_of
from experiments.markdown_table import grid
from experiments.pipeline.measure import PIPELINES, by_pipeline, quality_rows
from experiments.shifts.tables import PARTS as SHIFT_TABLES
from experiments.shifts.tables import shift_tables
from experiments.smiling.tables import smiling

Record = dict[str, Any]


def search(results: Record) -> Iterator[str]:
    """Of `study search`: stronger searches, what is found, other generators."""
    usual, images = results["search"], results["config"]["worst_images"]
    yield _facts(
        results,
        f"{images} test images, {usual['restarts']} restarts x {usual['steps']} steps, radius {usual['radius']}",
    )
    yield "**A stronger search of the same classifier**, right in the worst case:"
    yield _saturation(results)
    yield (
        "**What it finds.** *Every recolouring*: right on the image's z∥ with the z⊥ of every recolouring. *Less "
        "contrast*: share of worst mixes with less than any colour of the grid. *Still read*: by the reference:"
    )
    yield _found(results)
    yield "**Under other generators**, right in the worst case; compare within a column:"
    yield _transfer(results)


def _saturation(results: Record) -> str:
    usual, rows = results["search"], results["saturation"]
    searches: dict[str, tuple[str, float | None]] = {"As in the study": ("restarts", usual["restarts"])}
    for axis in ("restarts", "steps"):
        most = max(row[axis] for row in rows)
        if most > usual[axis]:
            searches[f"{most} {axis}"] = (axis, most)
    radii = {row["radius"] for row in rows}
    wider = [radius for radius in radii if radius is not None and radius > usual["radius"]]
    if wider:
        searches[f"Radius {min(wider):g}"] = ("radius", min(wider))
    if None in radii:
        searches["No box"] = ("radius", None)
    lines = []
    for method in _methods(rows):
        mine = [row for row in rows if row["method"] == method]
        values = (
            [row["accuracy_worst_case"] for row in mine if row["axis"] == axis and row[axis] == value]
            for axis, value in searches.values()
        )
        lines.append([method_label(method), *map(in_percent, values)])
    return grid(["", *searches], lines)


def _found(results: Record) -> str:
    columns = {
        "Searched": ("found", "accuracy_worst_case"),
        "Random": ("found", "accuracy_random_mixes"),
        "Every recolouring": ("recolouring", "accuracy_recolor_mixed"),
        "Less contrast": ("found", "below_floor"),
        "Still read": ("found", "accuracy_reference"),
    }
    lines = [
        [
            method_label(method),
            *(
                in_percent([row[key] for row in results[part] if row["method"] == method])
                for part, key in columns.values()
            ),
        ]
        for method in _methods(results["found"])
    ]
    return grid(["", *columns], lines)


def _transfer(results: Record) -> str:
    rows = results["transfer"]
    regimes = list(dict.fromkeys(row["generator"] for row in rows))
    lines = []
    for method, trained in dict.fromkeys((row["method"], row["trained_with"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["trained_with"]) == (method, trained)]
        values = ([row["accuracy_worst_case"] for row in mine if row["generator"] == regime] for regime in regimes)
        label = method_label(method) + ("" if trained == regimes[0] else f", trained with `{trained}`")
        lines.append([label, *map(in_percent, values)])
    return grid(["", *(f"`{regime}`" for regime in regimes)], lines)


def augmentations(results: Record) -> Iterator[str]:
    """Of `study augmentations`."""
    runs, attacked = results["runs"], method_label(results["config"]["attacked"])
    right = in_percent([run["attacked_right"] for run in runs])
    yield _facts(
        results,
        f"the first {runs[0]['measured']:,} test images. *Change*: mean absolute, of the pixel range. *Still read*: by "
        f"the reference, of what it reads unchanged. *{attacked} right*: what becomes of the attacked classifier, "
        f"right on {right} % of the images as they are",
    )
    keys = ("pixel_change", "label_kept", "attacked_right")
    rows = [
        [f"`{name}`", *(in_percent([run["augmentations"][name][key] for run in runs]) for key in keys)]
        for name in runs[0]["augmentations"]
    ]
    yield grid(["", "Change", "Still read", f"{attacked} right"], rows)


def inspect(results: Record) -> Iterator[str]:
    """Of `inspect`: one sentence."""
    proposal, bias = results["proposal"], results["reference"]["bias"]
    split = proposal["split"]
    found = "no split is proposed"
    if split is not None:
        kept = 100 * (1 - split["label_changes"])
        found = f"`{proposal['flags']}` is proposed: swapping these keeps {kept:.1f} % of the labels"
    others = ", ".join(
        f"{100 * other['share']:.0f} % `{other['flags'] or 'none'}`" for other in proposal["other_proposals"]
    )
    yield (
        f"**Seed {results['config']['seed']}**: {found}, {proposal['sure']} ({100 * proposal['agreement']:.0f} % of "
        f"the resamples{others and f'; {others}'}). Whether the reference reads the bias: {bias}."
    )


def marginalize(results: Record) -> Iterator[str]:
    """Of `study marginalize` and `celeba-marginalize`."""
    yield _facts(results, f"at most {results['config']['ask']['images']:,} images of each test")
    rows = [
        [method_label(method), f"mean over {samples}" if samples else prediction, *cells]
        for method, prediction, samples, cells in marginal_rows(results)
    ]
    yield grid(["", "Answer", *(test.capitalize() for test in tests_of(results)), "Cost"], rows, left=2)


def pipeline(results: Record) -> Iterator[str]:
    """Of `study pipeline`: accuracies, worst cases by the search of each pipeline, then generators and latents."""
    config, runs = results["config"], results["runs"]
    tests = [column for column in columns(runs) if column.key in runs[0]]
    yield _facts(results, f"worst cases on {config['worst_images']} test images; they compare within a pipeline only")
    rows = []
    for name, mine in by_pipeline(results["runs"]):
        for method in _methods(mine):
            cells = ([run[test.key] for run in mine if run["method"] == method] for test in tests)
            rows.append([PIPELINES[name].label, method_label(method), *map(in_percent, cells)])
    yield grid(["", "", *(test.title for test in tests)], rows, left=2)
    yield "Generator and latents, means over the seeds:"
    names = [PIPELINES[name].label for name, _ in by_pipeline(results["pipelines"])]
    yield grid(["", *names], list(quality_rows(results["pipelines"])))


def photo_measure(results: Record) -> Iterator[str]:
    """Of `study photo-measure`: a row for each kind of images and size."""
    config, made = results["config"], results["generator"]
    yield (
        f"Trained for {made['fit']['fit_steps']:,} steps, seed {made['seed']}, on {made['pictures']} photographs. "
        f"At most {config['images']} {config['split']} images of each kind, {config['donors']} random mixes of each, "
        f"classifiers of {config['epochs']} epochs on at most {config['train_images']:,} images. In percent, but for "
        "*error* and *change*."
    )
    rows = []
    for row in results["kinds"]:
        cells = [row["domain"], str(row["size"]), f"{row['mse']:.4f}"]
        if "labels_kept" in row:
            lost = row["accuracy_clean"] - row["accuracy_reconstruction"]
            shares = [row["accuracy_clean"], lost, row["accuracy_random_mix"]]
            shares += [row["reference_accuracy"], row["labels_kept"]["value"]]
            cells += [f"{100 * share:.1f}" for share in shares]
        else:
            cells += ["–"] * 5
        rows.append([*cells, f"{row['change']:.3f}"])
    heads = ["pixels", "error", "right as it is", "lost on the reconstruction", "right on random mixes"]
    yield grid(["", *heads, "reference right", "labels kept", "change"], rows)


def ready_made(results: Record) -> Iterator[str]:
    """Of `study ready-made`: what generators find, or what training with their mixes is worth."""
    config = results["config"]
    yield (
        f"At most {config['images']} {config['split']} images of each kind, classifiers of {config['epochs']} epochs "
        f"on at most {config['train_images']:,} images. In percent, but for *change* and *ms*."
    )
    if results["trained"]:
        yield from _made_shift(results)
        return
    keys = [
        "accuracy_clean",
        "accuracy_random_mix",
        "accuracy_worst_case",
        "confirmed",
        "named_flips",
        "labels_kept_random",
    ]
    rows = [
        [row["kind"], f"`{row['generator']}`"]
        + ["–" if row[key] is None else f"{100 * row[key]:.0f}" for key in keys]
        + [f"{row['change_random']:.3f}", f"{row['cpu_ms_per_candidate']:.1f}"]
        for row in results["found"]
    ]
    heads = [
        "as it is",
        "random mix",
        "worst case",
        "flips confirmed",
        "flipped by name",
        "labels kept",
        "change",
        "ms",
    ]
    yield grid(["", "generator", *heads], rows)


def _made_shift(results: Record) -> Iterator[str]:
    """A row for each kind and method: at home, and in the mean of the made sites, over seeds."""
    rows: dict[tuple[str, str], list[Record]] = {}
    for row in results["trained"]:
        rows.setdefault((row["kind"], row["method"]), []).append(row)
    table = []
    for (kind, method), seeds in rows.items():
        home = [100 * row["home"] for row in seeds]
        away = [100 * sum(row["sites"].values()) / len(row["sites"]) for row in seeds]
        spent = sum(row["cpu_seconds"] for row in seeds) / len(seeds)
        table.append([kind, method, _each(home), _each(away), f"{spent:.0f}"])
    yield grid(["", "method", "home", "made sites", "CPU s"], table)


def learned_style(results: Record) -> Iterator[str]:
    """Of `study learned-style`: what styles carry of made changes, then how near mixes come to their donors."""
    config = results["config"]
    yield (
        f"At most {config['images']} val images of {config['size']} pixels of each kind. *change*: root mean square, "
        "pixels in [0, 1]; then the share of it that the styles of each generator carry, in percent."
    )
    names = list(results["reproduced"][0]["explained"])
    rows = [
        [row["kind"], row["name"], f"{row['change']:.3f}"] + [f"{100 * row['explained'][name]:.0f}" for name in names]
        for row in results["reproduced"]
    ]
    yield grid(["", "", "change", *(f"`{name}`" for name in names)], rows, left=2)
    yield "Mixes with other images of the kind at made sites:"
    keys = ("means", "deviations", "colours", "edges")
    rows = [
        [row["kind"], row["generator"], *(f"{row[key]:.3f}" for key in keys), in_percent([row["moments"]])]
        for row in results["mixes"]
    ]
    yield grid(["", "generator", *keys, "as moments do"], rows, left=2)
    yield (
        f"A search of {config['steps']} steps from a donor of the shipped photographs, in a nominal classifier; "
        f"at most {config['search_images']} val images of {config['search_size']} pixels of each kind:"
    )
    rows = []
    for row in results["searched"]:
        cells = [f"{row[key]:.3f}" for key in ("start_change", "moved")] + [in_percent([row["moments"]])]
        cells += [f"{row[key]:.1f}" for key in ("loss_start", "loss")]
        rows.append([row["kind"], row["generator"], *cells, *(in_percent([row[k]]) for k in ("right_start", "right"))])
    heads = ["change by the donor", "by the search", "as moments do", "loss at the donor", "in the end"]
    yield grid(["", "generator", *heads, "right at the donor", "right in the end"], rows, left=2)


def _each(values: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


def _methods(rows: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _facts(results: Record, more: str) -> str:
    config = results["config"]
    what = f"**{config['data']}**, colour std {config['color_std']:g}" if "color_std" in config else setting(config)
    seeds = ", ".join(map(str, config["seeds"]))
    return f"{what}, seeds {seeds}, {more}. In percent, mean ± standard deviation over seeds."


TABLES: dict[str, Callable[[Record], Iterator[str]]] = {
    "search": search,
    "augmentations": augmentations,
    "inspect": inspect,
    "marginalize": marginalize,
    "celeba-marginalize": marginalize,
    "photo-measure": photo_measure,
    "learned-style": learned_style,
    "ready-made": ready_made,
    "gallery": gallery_sections,
    "pipeline": pipeline,
    "shifts": shift_tables,
    "smiling": smiling,
    **FACE_TABLES,
}

"""By the name of the study."""

PARTS = {"shifts": SHIFT_TABLES}
"""Single tables of a study, by the word that a page asks for them with."""
