"""What `advmix adapt` says in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from rich.table import Table

from advmix.report.page import percent

Entry = Mapping[str, Any]

CALLED = {
    "none": "as it is",
    "normalisation": "normalisation of the site",
    "styles": "trained on styles of the site",
    "both": "both",
}

RARE = 20
"""Images of a class."""

NORMALISED = ("normalisation", "both")
"""What has normalisation statistics of the site."""

DONE = {
    "normalisation": "the normalisation statistics of the site",
    "styles": "training on styles of the site",
    "both": "training on styles of the site, then its normalisation statistics",
}


def before(results: Entry) -> Entry:
    """The classifier as it is."""
    entry: Entry = results["candidates"][0]
    return entry


def after(results: Entry) -> Entry:
    """The one that is kept."""
    entry: Entry = next(entry for entry in results["candidates"] if entry["name"] == results["chosen"])
    return entry


def balanced(share: Entry | None) -> float | None:
    """Balanced accuracy."""
    return None if share is None else float(share["balanced"]["value"])


def points(share: Entry | None) -> str:
    """`87.5 %`, or an en dash."""
    value = balanced(share)
    return "–" if value is None else f"{percent(value)} %"


def interval(share: Entry) -> str:
    """`84.1 to 90.2`."""
    return f"{percent(share['balanced']['low'])} to {percent(share['balanced']['high'])}"


def headline(results: Entry) -> str:
    """The forecast for the classifier as it is: that of what was trained on the same styles promises too much."""
    first = before(results)
    if first["styles"]["balanced"]["high"] > first["home"]["balanced"]["low"]:
        return f"Light and colours of the site cost nothing that shows: forecast {points(first['styles'])}"
    return f"At the new site expect {points(first['styles'])} at most, not the {points(first['home'])} of home"


def adapt_sentences(results: Entry) -> list[str]:
    """What was found, a sentence each."""
    return [*forecast_sentences(before(results)), *outcome_sentences(results)]


def forecast_sentences(entry: Entry) -> list[str]:
    """What to expect of the classifier as it is."""
    return [
        f"At home it is right on {points(entry['home'])}; with the styles of the site on {points(entry['styles'])} "
        f"({interval(entry['styles'])}): what style alone costs. Its own confidence there, "
        f"{percent(entry['confidence'])} %, says nothing.",
        error_sentence(),
        "All shares are balanced accuracies: the mean over the classes, so that no common class decides alone.",
    ]


def error_sentence() -> str:
    """How wrong such forecasts were where the truth was known: of the study of real shifts."""
    known = json.loads(files("advmix").joinpath("forecast_quality.json").read_text())
    return (
        f"How far to believe it: {known['forecasts']:,} such forecasts, of {known['classifiers']:,} classifiers at "
        f"{known['sites']} real sites, missed the truth by {percent(known['error'])} points in the mean; "
        f"{percent(known['above'])} % of them were not below it."
    )


def outcome_sentences(results: Entry) -> list[str]:
    """What was kept, and what of it is known."""
    first, last = before(results), after(results)
    said = [f"{name}: left out, {why}." for name, why in results["left_out"].items()]
    if len(results["candidates"]) > 1:
        said.append(choice_words(results))
    if first["truth"] is not None:
        known = results["images"]["truth"]
        became = "" if last is first else f", adapted on {points(last['truth'])}"
        said.append(
            f"The truth, by the labels of {known:,} images of the site: right on {points(first['truth'])}{became}."
        )
    return said


def choice_words(results: Entry) -> str:
    """What is kept, and why."""
    first, last = before(results), after(results)
    if last is first:
        return "Kept as it is: nothing that was tried does better with the styles of the site." + _hurt_words(results)
    words = (
        f"Kept: {DONE[last['name']]}. With the styles of the site it is right on {points(last['styles'])} instead of "
        f"{points(first['styles'])}, at home on {points(last['home'])} instead of {points(first['home'])}."
    )
    if last["name"] in NORMALISED and not results["config"]["keep_home"]:
        words += " It is for the site: at home, go on with the classifier as it was."
    return words + _hurt_words(results)


def _hurt_words(results: Entry) -> str:
    """What was left out because it loses too much at home."""
    hurt = [CALLED[entry["name"]] for entry in results["candidates"] if entry["hurts"]]
    return f" Left out, for it loses more than two points at home: {', '.join(hurt)}." if hurt else ""


def adapt_table(results: Entry) -> Table:
    """The candidates, a row each."""
    table = Table(title="Right, in percent (balanced)", title_justify="left")
    known = before(results)["truth"] is not None
    table.add_column("")
    for title in ("home", "forecast", "confidence", *(["truth"] if known else [])):
        table.add_column(title, justify="right")
    for entry in results["candidates"]:
        shares = [percent(balanced(entry["home"])), percent(balanced(entry["styles"])), percent(entry["confidence"])]
        truth = [percent(balanced(entry["truth"]))] if known else []
        mark = " *" if entry["name"] == results["chosen"] else ""
        table.add_row(CALLED[entry["name"]] + mark, *shares, *truth)
    return table


def expectation(results: Entry) -> str:
    """The forecast, and what it is held against."""
    entry = before(results)
    return (
        f"Images of home with the light and colours of the site are recognised in {points(entry['styles'])} "
        f"({interval(entry['styles'])}): what style alone costs the classifier as it is. Its own confidence there "
        f"is {percent(entry['confidence'])} %, which says nothing. {error_sentence()}"
    )


def caveats(results: Entry) -> list[str]:
    """What the numbers do not say."""
    said = [
        "The forecast counts what light, contrast and colours cost. A site may differ in more (other patients, another "
        "magnification, blur), so that it is mostly an upper bound. It is no guarantee: styles of images with another "
        "content may also cost more than the site does.",
        "After training the forecast is about the very styles that were trained on: expect less, perhaps much less.",
    ]
    if any(entry["name"] in NORMALISED for entry in results["candidates"]):
        said.append(
            "Normalisation statistics of the site belong to the site: with them a classifier is usually worse at home. "
            "They also take in which classes are common there. Their forecast has statistics of images of home with "
            "styles of the site, which imitate it."
        )
    if before(results)["truth"] is None:
        said.append(
            "Nothing here is measured at the site: label a hundred images of it, and name their column with "
            "--new-site-target."
        )
    else:
        said.append("The labels of the site are reported, and used for nothing." + _rare_words(results))
    return said


def _rare_words(results: Entry) -> str:
    """Classes on which the truth depends by a few images."""
    of_class = before(results)["truth"]["by_class"]
    rare = [f"{name} {found['images']}" for name, found in of_class.items() if found["images"] < RARE]
    if not rare:
        return ""
    return f" The truth hangs on few images of {', '.join(rare)}: each class counts 1 in {len(of_class)}."
