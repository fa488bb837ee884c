"""What the page says in words and numbers, drawn from the runs."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from advmix.report.drawing import DPI, Method, method, method_label
from advmix.report.tables import DIGIT_COLUMNS, Run, Score, best, columns, method_names, scores, short_name
from advmix.utils.files import atomic_write, make_folder

CAPTIONS = {
    "data": (
        "Training digits grouped by class, each class in its own colour, above test digits in random colours",
        "In training every digit has its own colour, so a classifier that reads the colour is hardly ever wrong. "
        "In the test any digit may have any of these colours.",
    ),
    "mixing": (
        "A grid of mixes: each row keeps the shape of its digit, each column lends its colour",
        "Every picture in the grid is decoded from the z∥ of the digit on its left and the z⊥ of the digit above it.",
    ),
    "training": (
        "Reconstruction error of the generator falling during training",
        "Reconstruction error while the generator was fitted.",
    ),
    "accuracy": (
        "Bar charts of the accuracy of each method on each test",
        "In the colours of the training set all may look alike; the other tests tell who has learned the digit.",
    ),
    "variations": (
        "test images, the worst variation found of each with the classifier's answer, and the difference",
        "",
    ),
}

SEARCH = {
    "restarts": "other images whose z⊥ the search starts from, for each test image",
    "steps": "gradient steps from each start, towards a higher loss",
    "step_size": "length of a step, in standard deviations of the pool",
    "radius": "half-width of the box around each start, in the same unit; – is no box",
    "step": "direction of a step: along the gradient or along its sign",
    "stop_early": "whether an image is left alone once it is misclassified",
}

HEADLINES = (
    ("accuracy_shuffled", "in random colours"),
    ("accuracy_worst_case", "on the worst variation found"),
    ("accuracy_biased", "in the colours of training"),
)


@dataclass(frozen=True)
class Card:
    """One headline number of ordinary training beside the one of the method that is shown off."""

    title: str
    before: Score
    after: Score


@dataclass(frozen=True)
class Headline:
    """Who is compared, the numbers, and what they say: `colour`, `both` or `digit` for each."""

    before: Method
    after: Method
    cards: tuple[Card, ...]
    before_looks: str
    after_looks: str


@dataclass(frozen=True)
class Cell:
    """One number of the table, or None, and whether it is the best of its column."""

    score: Score | None
    best: bool


@dataclass(frozen=True)
class MethodRow:
    """One method of the table: a cell per column, then training seconds."""

    method: Method
    cells: tuple[Cell, ...]
    seconds: Cell


def headline(runs: Sequence[Run]) -> Headline | None:
    """Nominal against AdvMix (or RandMix, where AdvMix was not run); None when that cannot be said."""
    names = method_names(runs)
    after = next((name for name in ("advmix", "randmix") if name in names), None)
    if after is None or "nominal" not in names:
        return None
    cards = []
    for key, title in HEADLINES:
        found = scores(runs, key)
        if "nominal" in found and after in found:
            cards.append(Card(title, found["nominal"], found[after]))
    looks = (looks_at(runs, "nominal"), looks_at(runs, after))
    return Headline(method("nominal"), method(after), tuple(cards), *looks) if cards else None


def looks_at(runs: Sequence[Run], name: str) -> str:
    """What a classifier looks at, `digit` where it should: when random colours cost less than a tenth of the accuracy;
    `colour` when they cost more than half, else `both`. In the reversed task, where it should look at the colour, the
    other way round.
    """
    biased, shuffled = (scores(runs, f"accuracy_{test}").get(name) for test in ("biased", "shuffled"))
    if biased is None or shuffled is None:
        return ""
    kept = shuffled.mean / max(biased.mean, 1e-12)
    right, wrong = ("colour", "digit") if any(run.get("target") == "color" for run in runs) else ("digit", "colour")
    return right if kept > 0.9 else wrong if kept < 0.5 else "both"


def rows(runs: Sequence[Run]) -> list[MethodRow]:
    """The table, controls last."""
    table = {column.key: scores(runs, column.key) for column in DIGIT_COLUMNS}
    seconds = scores(runs, "train_seconds")
    return [
        MethodRow(
            method(name),
            tuple(Cell(found.get(name), name in best(found)) for found in table.values()),
            Cell(seconds.get(name), name in best(seconds, highest=False)),
        )
        for name in method_names(runs)
    ]


def facts(runs: Sequence[Run]) -> list[str]:
    """Data and seeds in a few words; several values of one thing are listed, the usual look and target go unsaid."""
    wanted = {
        "data": "{}",
        "look": "look {}",
        "target": "target {}",
        "train_images": "{} training images",
        "test_images": "{} test images",
        "color_std": "colours with standard deviation {}",
        "color_variance": "colours with variance {}",
        "seed": "seed {}",
    }
    found = []
    for key, words in wanted.items():
        values = list(
            dict.fromkeys(_number(run[key]) for run in runs if run.get(key) not in (None, "colored", "digit"))
        )
        if values:
            found.append(words.format(", ".join(values)))
    return found


def settings(runs: Sequence[Run]) -> dict[str, Any]:
    """Of each method's first run, by display name."""
    first = {name: next(run for run in runs if run["method"] == name) for name in method_names(runs)}
    return {method(name).label: run["setting"] for name, run in first.items() if run.get("setting")}


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


@dataclass(frozen=True)
class Picture:
    """A figure inlined: data URI, size in CSS pixels, words for those who cannot see it, and below it."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str


def render(results: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """One self-contained page.

    Args:
        results: as in `results.json`; keys that are missing leave their section out, unknown ones do no harm.
        figures: `data`, `mixing`, `training`, `accuracy` and any number of `variations-METHOD` have their place;
            others follow at the end.
    """
    template = environment().from_string(resource("report.html.j2"))
    runs = results.get("runs") or []
    names = method_names(runs)
    return template.render(
        results=results,
        runs=runs,
        style=Markup(resource("report.css")),
        headline=headline(runs),
        facts=facts(runs),
        columns=columns(runs),
        rows=rows(runs),
        methods=[method(name) for name in names],
        settings=settings(runs),
        seeds=len({run.get("seed") for run in runs}),
        search_meanings=SEARCH,
        pictures={name: picture(name, figure) for name, figure in figures.items()},
    )


def picture(name: str, figure: Figure) -> Picture:
    """The figure as a PNG data URI; 100 CSS pixels are an inch of it."""
    kind, _, rest = name.partition("-")
    alt, caption = CAPTIONS.get(kind, (name, name))
    alt = f"{method_label(rest)}: {alt}" if kind == "variations" and rest else alt
    uri = "data:image/png;base64," + base64.b64encode(png(figure)).decode()
    width, height = (round(100 * float(side)) for side in figure.get_size_inches())
    return Picture(uri, width, height, alt, caption)


def png(figure: Figure) -> bytes:
    """Encoded, with nothing in it that changes from one machine to the next. A box stands for a letter that the font
    lacks.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write `NAME.png` for every figure, each whole or not at all; letters that do not suit a file name become dashes.

    Raises:
        UserError: the folder cannot be written, or the one above it is not there.
    """
    make_folder(folder)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / (re.sub(r"[^\w-]+", "-", name) + ".png"))
        atomic_write(paths[-1], png(figure))
    return paths


def percent(value: float | None) -> str:
    """`0.987` to `98.7`, None to an en dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def duration(seconds: float | None) -> str:
    """`41.3 s`, `2 min 5 s`, `1 h 3 min`; None to an en dash."""
    if seconds is None:
        return "–"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as `{"search.steps": "5"}`."""
    if isinstance(value, Mapping):
        return {key: text for name, inner in value.items() for key, text in flat(inner, f"{prefix}.{name}").items()}
    if isinstance(value, list | tuple):
        value = ", ".join(str(item) for item in value)
    return {prefix.lstrip("."): "–" if value is None else str(value)}


def joined_units(text: str) -> str:
    """Text whose percent signs stay beside their numbers."""
    return text.replace(" %", "\u00a0%")


def environment() -> Environment:
    """Jinja2 with everything escaped, and the filters `percent`, `duration`, `flat`, `short` and `joined`."""
    jinja = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(percent=percent, duration=duration, flat=flat, short=short_name, joined=joined_units)
    return jinja


def resource(name: str) -> str:
    """A template or style sheet of this package."""
    return files("advmix.report").joinpath(name).read_text(encoding="utf-8")
