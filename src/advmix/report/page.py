"""One HTML page that shows a study to somebody who has never seen this project; nothing on it comes from elsewhere."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from advmix.files import atomic_write, make_folder
from advmix.report.story import CAPTIONS, SEARCH, facts, headline, rows, settings
from advmix.report.style import DPI, method, method_label
from advmix.report.summary import columns, method_names


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


def environment() -> Environment:
    """Jinja2 with everything escaped, and the filters `percent`, `duration` and `flat`."""
    jinja = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(percent=percent, duration=duration, flat=flat)
    return jinja


def resource(name: str) -> str:
    """A template or style sheet of this package."""
    return files("advmix.report").joinpath(name).read_text(encoding="utf-8")
