"""Tables of the face studies, for `experiments.docs_tables.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from advmix.report.drawing import method_label
from advmix.report.tables import in_percent
from experiments.faces.figures import auc, compared, mean_seconds, percent, relative, relative_span, signed_span, span
from experiments.faces.variants import by_variant, compared_with_base, survivals, yes_no
from experiments.markdown_table import grid

Record = dict[str, Any]
PLACES = {
    "select": "persons held out of the training split, for choosing settings",
    "test": "the splits `val` and `test`",
}
CERTAIN = 0.99
"""What the paper calls near certainty."""


def celeba(results: Record) -> Iterator[str]:
    """Of `study celeba`: errors, accuracies under mixes, seconds; then the differences that are not against nominal."""
    config, rows = results["config"], results["methods"]
    yield _facts(results)
    grouped = "worst_group_error" in rows[0]
    heads = ["", "Error", "95 %", "Change", "95 %", *(["Worst group"] if grouped else ["Balanced"]), "ROC AUC"]
    heads += ["Random mix", "Worst case", "Seconds"]
    yield grid(heads, [_row(row, "worst_group_error" if grouped else "balanced_error") for row in rows])
    yield from _seconds(rows)
    others = [pair for pair in results["comparisons"] if pair["second"] != "nominal"]
    if others:
        yield "Differences in points, 95 % intervals over persons; of errors, positive where the first one errs more:"
        keys = compared(others)
        lines = [[_pair(pair), *(_signed(pair[key]) for key in keys)] for pair in others]
        yield grid(["", *(word.capitalize() for word in keys.values())], lines)
    if results["also"]:
        yield f"Another source ({config['also_target']}), {results['also']['images']:,} images:"
        lines = [
            [method_label(row["method"]), in_percent(row["error_by_seed"]), span(row["error"]), auc(row["roc_auc"])]
            for row in results["also"]["methods"]
        ]
        yield grid(["", "Error", "95 %", "ROC AUC"], lines)


def _facts(results: Record) -> str:
    config, judged = results["config"], results["judged"]
    seeds = ", ".join(map(str, config["seeds"]))
    stress = config["stress"]
    drawn = ", classes drawn alike" if config["train"].get("balance") else ""
    what = f"{setting(config)}, {config['train']['epochs']} epochs{drawn}, generators `{config['variant']}`"
    if stress["cue"]:
        where = f"a test of {judged['images']} images balanced over the four groups"
        agreement = judged.get("agreement", stress["agreement"])
        what += f", agrees with {stress['cue']} in {100 * agreement:.0f} % of the training images"
    else:
        where = f"{PLACES[config['judge']]} ({judged['images']:,} images)"
    return (
        f"{what}, seeds {seeds}; judged on {where} of {judged['persons']:,} persons, worst cases on "
        f"{config['worst_images']} images. In percent, mean ± standard deviation over seeds; intervals over persons."
    )


def setting(config: Record) -> str:
    """What a face study is about."""
    tint = f", tint {config['tint']:g}" if config["tint"] else ""
    return f"**{config['target']}**, {config['size']} pixels, {config['labelled'] or 'all'} labels{tint}"


def _row(row: Record, further: str) -> list[str]:
    label = method_label(row["method"])
    cells = [f"**{label}**" if row["method"] == "advmix" else label]
    cells += [in_percent(row["error_by_seed"]), span(row["error"]), relative(row["change"])]
    cells += [relative_span(row["change"]), percent(row[further]), auc(row["roc_auc"])]
    cells += [in_percent(row[f"accuracy_{key}_by_seed"]) for key in ("mixed", "worst_case")]
    return [*cells, mean_seconds(row["train_seconds"])]


def _seconds(rows: Sequence[Record]) -> Iterator[str]:
    """What was trained before the classifiers, in words; nothing where there is nothing."""
    mixed = [row for row in rows if any(row["generator_seconds"])]
    small = [row for row in mixed if row["method"] == "advmix-small"]
    parts = (
        ("a generator takes", "generator_seconds", [row for row in mixed if row not in small]),
        ("one of the labelled images alone", "generator_seconds", small),
        ("encoding the labelled images", "encode_seconds", [row for row in mixed if any(row["encode_seconds"])]),
    )
    words = [f"{name} {mean_seconds(found[0][key])}" for name, key, found in parts if found]
    if words:
        yield f"Seconds of training a classifier; {', '.join(words)}."


def _pair(pair: Record) -> str:
    return f"{method_label(pair['first'])} less {method_label(pair['second'])}"


def _signed(difference: Record) -> str:
    return f"{100 * difference['value']:+.1f} ({signed_span(difference)})"


def autoencoders(results: Record) -> Iterator[str]:
    """Of `study photo-autoencoder`."""
    config, target = results["config"], results["target"]
    yield (
        f"**{config['target']}**, {config['size']} pixels, seed {config['seed']}, {config['images']:,} images of "
        "held-out persons. *Lost*: points of accuracy on reconstructions, by the classifier that some variants learn "
        "from and by the reference that none does. *Survive*: percent of the labels, in random mixes as decoded and "
        "with the residual. *Range*: mean change of a pixel, in percent. *Reached*, by the loss of the one and of the "
        f"other: at most {100 * target['accuracy_lost']:g} point lost, at least {100 * target['survival']:g} % survive."
    )
    heads = ["", "Squared error", "Lost", "95 %", "By the reference", "Survive", "With residual", "Range"]
    rows = [[*_variant(row), *yes_no(row, target)] for row in results["variants"]]
    yield grid([*heads, "Seconds", "Reached", "Reached by the reference"], rows)
    if results.get("classifiers"):
        yield from _classifiers(results["classifiers"], config)


def _classifiers(rows: Sequence[Record], config: Record) -> Iterator[str]:
    """Of those that were trained with each variant."""
    found = by_variant(rows)
    first = next(iter(found.values()))
    nominal, methods = first["nominal"], [method for method in first if method != "nominal"]
    yield (
        f"Classifiers trained with each ({config['labelled'] or 'all'} labels, {config['train']['epochs']} epochs), "
        "judged on all held-out images: error in percent, and less that under `base` in points with its paired 95 % "
        "interval over persons. Nominal training, which no generator changes: "
        f"{percent(nominal['error'])} ({span(nominal['error'])}). *Worst*: accuracy in the worst case of "
        f"{nominal['worst_case_images']} images, each row under its own generator: compare within a row."
    )
    heads = [head for method in methods for head in (method_label(method), "Less `base`")]
    heads += [f"Worst, {method_label(method)}" for method in first]
    lines = []
    for variant, row in found.items():
        differences = {method: compared_with_base(row[method]) for method in methods}
        cells = [f"`{variant}`"]
        for method, difference in differences.items():
            cells += [percent(row[method]["error"]), "–" if difference is None else _signed(difference)]
        lines.append([*cells, *(percent(row[method]["accuracy_worst_case"]) for method in first)])
    yield grid(["", *heads], lines)


def _variant(row: Record) -> list[str]:
    lost = row["classifier_lost"]
    cells = [f"`{row['variant']}`", f"{row['error']:.4f}", percent(lost), span(lost), percent(row["reference_lost"])]
    return [*cells, *survivals(row), f"{100 * row['range_decoded']:.1f}", f"{row['fit_seconds']:.0f}"]


def survival(results: Record) -> Iterator[str]:
    """Of `study celeba-survival`: a row for each split of each attribute."""
    config, records = results["config"], results["targets"]
    yield (
        f"{config['size']} pixels, generators `{config['variant']}`, seed {config['seed']}, {config['images']:,} "
        f"images of held-out persons, {config['donors']} random mixes of each. Percent of the labels that the "
        "reference still sees, of those that it sees unmixed, with 95 % intervals over persons; *searched*: in the mix "
        "that hurts nominal training most. *Range*: mean change of a pixel, in percent."
    )
    rows = []
    for record in records:
        for split in record["splits"]:
            cells = [record["target"], split["name"], f"`{split['flags']}`"]
            for key in ("survival", "survival_searched"):
                cells += ["–", "–"] if split[key] is None else [percent(split[key]), span(split[key])]
            rows.append([*cells, f"{100 * split['range']:.1f}"])
    yield grid(["", "Split", "", "Random", "95 %", "Searched", "95 %", "Range"], rows)
    none = ", ".join(record["target"] for record in records if record["proposal"]["flags"] is None)
    if none:
        yield f"No split keeps {100 * config['threshold']:g} % of the labels, and so none is proposed: {none}."


def pictures(results: Record) -> Iterator[str]:
    """Of `study celeba-pictures` that may be published: whose faces they are, and what became of the first ones."""
    first, poles = results["config"]["methods"][0], results["poles"]
    yield " ".join(_made_up(results))
    sure = [min(high, 1 - low) >= CERTAIN for low, high in zip(poles["low"], poles["high"], strict=True)]
    yield (
        f"Of the {len(sure)} faces with the widest swing, {sum(sure)} have two variations on opposite sides, and "
        f"{method_label(first)} is certain of both to {100 * CERTAIN:g} %."
    )
    rows = []
    for method, found in results["probabilities"].items():
        both = list(zip(found["before"], found["worst"], strict=True))
        changed = sum((before > 0.5) != (worst > 0.5) for before, worst in both)
        moved = sum(abs(before - worst) for before, worst in both) / len(both)
        rows.append([method_label(method), f"{changed} of {len(both)}", f"{100 * moved:.0f}"])
    yield grid(["", "Worst variation changes the answer", "Probability moves, in points"], rows)


def _made_up(results: Record) -> Iterator[str]:
    """By which generator, how near to its training images, how good by the eyes of a classifier."""
    made, near = results["made_by"], results["nearest"]
    gan = made["gan"]
    yield (
        f"{results['config']['size']} pixels; a StyleGAN of {gan['gan_steps']:,} steps of {gan['gan_batch']} images, "
        f"{gan['gan_channels']} channels, R1 {gan['r1_weight']:g}; {made['fit_seconds']:,.0f} seconds with its encoder."
    )
    names = {"made_up": "Made-up faces", "held_out": "Real ones that nobody can have learned"}
    for key, name in names.items():
        if key in near:
            median, least = (f"{100 * near[key][part]:.1f}" for part in ("median", "least"))
            yield f"{name} differ from the nearest training image by {median} % in the median, {least} at the least."
    if "class_shares" in made:
        shares = [
            f"{name} {100 * share:.0f} % (training images: {100 * made['class_shares_real'][name]:.0f})"
            for name, share in made["class_shares"].items()
        ]
        yield (
            f"Under a classifier of this study's images a Fréchet distance of {made['frechet_distance']:.2f}; among "
            f"{made['class_shares_samples']:,} samples it sees {', '.join(shares)}."
        )


FACE_TABLES: dict[str, Callable[[Record], Iterator[str]]] = {
    "celeba": celeba,
    "celeba-survival": survival,
    "celeba-pictures": pictures,
    "photo-autoencoder": autoencoders,
}
"""By the name of the study."""
