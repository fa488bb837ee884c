"""Write the tables of README and docs from `results/`.

A page says where: between `<!-- results: NAME -->` and `<!-- end of results -->` stand the tables of
`results/NAME/results.json` (or of `results/NAME/*/results.json` together). Further words choose tests by their names in
`TESTS`, `all` of them, and figures, which are left out where there is no such file:
`<!-- results: colored-mnist shuffled.png worst-case.png shuffled worst-case -->`; of a study that has them, single
tables by their names in `PARTS`. `methods=nominal,advmix` shows these rows alone, without what stands below a table.
Between `<!-- columns: page -->` and `<!-- end of columns -->` stands what every accuracy means that is shown in that
place; between `<!-- schema: audit_part -->` and `<!-- end of schema -->` the keys of that definition in the JSON Schema
of `results.json`; between `<!-- named changes -->` and its end the changes of `advmix.named_changes`; between
`<!-- benchmark: NAME -->` and `<!-- end of benchmark -->` what `results/benchmarks/NAME.json` holds, and its figure.

Run after results change; a test holds pages and results together.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from advmix.cli import COMMANDS
from advmix.named_changes import NAMED_CHANGES
from advmix.report.drawing import method_label
from advmix.report.tables import (
    COLUMNS,
    Column,
    Run,
    color_spread,
    columns,
    columns_of,
    comparable,
    in_percent,
    is_control,
    method_names,
    schema,
)
from advmix.utils.config import to_dict
from experiments.benchmark_tables import benchmark_blocks
from experiments.cli import EXPERIMENTS
from experiments.controls import EQUAL_COMPUTE
from experiments.figures import TEST, caveat, published
from experiments.markdown_table import grid
from experiments.photo_generator.credits import notice, photographs_table
from experiments.photo_generator.pictures import listed_pictures
from experiments.shifts.results import overall_quality
from experiments.tables import PARTS, TABLES

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"<!-- results: ([^\n>]+) -->.*?<!-- end of results -->", re.DOTALL)
PHOTOGRAPHS = re.compile(r"<!-- photographs -->.*?<!-- end of photographs -->", re.DOTALL)
NAMED = re.compile(r"<!-- named changes -->.*?<!-- end of named changes -->", re.DOTALL)
BENCHMARK = re.compile(r"<!-- benchmark: (\w+) -->.*?<!-- end of benchmark -->", re.DOTALL)
MEANINGS = re.compile(r"<!-- columns: (\w+) -->.*?<!-- end of columns -->", re.DOTALL)
KEYS = re.compile(r"<!-- schema: (\w+) -->.*?<!-- end of schema -->", re.DOTALL)
PICTURE = Path("controls", "figures", "mixing.png")
TESTS = {
    "biased": "accuracy_biased",
    "shuffled": "accuracy_shuffled",
    "uniform": "accuracy_uniform",
    "reconstruction": "accuracy_reconstruction",
    "worst-case": "accuracy_worst_case",
    "worst-recolor": "accuracy_recolor_worst",
}
ALT = {
    "smiling": "Error of every method with its interval and its seeds, and its change against nominal training",
    "errors": "Error of every method with its 95 % interval, and its change against nominal training",
    "worst-group": "Error of the worst group under every method with its 95 % interval, and its change",
    "also": "Error of every method on another source with its 95 % interval, and its change against nominal training",
    "survival": "Labels that survive random and searched mixes, and the range of variation, by attribute and split",
    "reproductions": "Free photographs, made changes of them, and what each generator's styles carry of these",
    "samples": "Faces that a StyleGAN made up from random latents, none left out",
    "poles": "Faces above two variations of each that one classifier is certain about, on opposite sides",
    "misclassified-nominal": "Faces that nominal training gets right, above a variation of each that it gets wrong",
    "misclassified-advmix": "Faces that AdvMix gets right, above the worst variation found of each",
    "worst": "Faces above their worst variation under each method, with the probability before and after",
    "perturbations": "What each method makes of the same faces, above the difference to them, rescaled",
    "wbc-sites": "Balanced accuracy of every method at four new laboratories and at home",
    "wbc-lamp": "Balanced accuracy of every method at four laboratories with another lamp and at home",
    "pacs": "Balanced accuracy of every method on paintings, cartoons and sketches, and on photographs",
    "mnist-m": "Balanced accuracy of every method on MNIST-M, and on MNIST",
    "forecast": "The truth at every site against three forecasts of it, a point for each classifier and site",
    "variants": "Pixel error, accuracy lost, labels that survive and range of each variant of the autoencoder",
    "classifiers": "Error of classifiers trained with each variant of the autoencoder, and less that under base",
    "colors": "The classes' mean colours, and the colours around them at every colour spread",
    "data": "Training images, each class in its own colour, above test images in random colours",
    "mixing": "A grid of mixes: rows keep their shape, columns lend their style",
    "marginalize": "Accuracy of the plain answer, on the reconstruction, and of the mean over N z⊥",
    "audit_scaling": "CPU seconds and memory of an audit against images, size, candidates, pool and others",
    "accuracy": "Bar charts of the accuracy of each method on each test",
    "shuffled": "Accuracy in random colours against the colour spread in training, a line for each method",
    "uniform": "Accuracy in any colour against the colour spread in training, a line for each method",
    "worst-case": "Worst-case accuracy against the colour spread in training, a line for each method",
    "worst-recolor": "Accuracy under the worst colour against the colour spread in training, a line for each method",
}
NEEDS_GENERATOR = ("accuracy_reconstruction", "accuracy_worst_case")
WITHIN = "; compare within a column, each has generators of its own"


def main() -> None:
    """Write every page, NOTICE and what the package says of forecasts anew, and copy the README's picture."""
    for path in pages():
        path.write_text(updated(path.read_text(), path.parent))
    (ROOT / "src" / "advmix" / "forecast_quality.json").write_text(forecast_text())
    (ROOT / "NOTICE").write_text(notice(listed_pictures()))
    shutil.copyfile(ROOT / "results" / PICTURE, ROOT / "docs" / "images" / "mixing.png")


def forecast_text() -> str:
    """How good forecasts are, from the study of shifts."""
    return json.dumps(overall_quality(load(ROOT / "results" / "shifts")[0]["rows"]), indent=1) + "\n"


def pages() -> list[Path]:
    """README, that of the benchmarks, and everything below docs."""
    return [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def updated(page: str, folder: Path, results: Path = ROOT / "results") -> str:
    """A page, which lies in a folder, with its sections written anew."""

    def section(match: re.Match[str]) -> str:
        name, *words = match[1].split()
        body = "\n\n".join([*pictures(results / name, words, folder), *blocks(load(results / name), words)])
        if not body:
            raise ValueError(f"results: {match[1]}: nothing to show")
        return f"<!-- results: {match[1]} -->\n\n{body}\n\n<!-- end of results -->"

    def benchmark(match: re.Match[str]) -> str:
        source = results / "benchmarks"
        found = json.loads((source / f"{match[1]}.json").read_text())
        body = "\n\n".join([*picture(source / f"{match[1]}.png", folder), *benchmark_blocks(match[1], found)])
        return f"<!-- benchmark: {match[1]} -->\n\n{body}\n\n<!-- end of benchmark -->"

    page = BENCHMARK.sub(benchmark, page)
    page = KEYS.sub(keys, PHOTOGRAPHS.sub(photographs, MEANINGS.sub(meanings, SECTION.sub(section, page))))
    return NAMED.sub(named_changes, page)


def named_changes(match: re.Match[str]) -> str:
    """The table of the changes that have a name, from their one list."""
    rows = [
        [change.name, change.unit, ", ".join(f"{strength:g}" for strength in change.strengths), f"{change.neutral:g}"]
        for change in NAMED_CHANGES.values()
    ]
    table = grid(["change", "unit", "strengths", "changes nothing"], rows, left=3)
    return f"<!-- named changes -->\n\n{table}\n\n<!-- end of named changes -->"


def photographs(match: re.Match[str]) -> str:
    """The table of the photographs, from their one list."""
    return f"<!-- photographs -->\n\n{photographs_table(listed_pictures())}\n\n<!-- end of photographs -->"


def meanings(match: re.Match[str]) -> str:
    """The table of what is counted, from the one list of columns."""
    rows = [[column.title, f"`{column.key}`", column.meaning] for column in columns_of(match[1])]
    table = grid(["column", "in results.json", "what is counted"], rows, left=3)
    return f"<!-- columns: {match[1]} -->\n\n{table}\n\n<!-- end of columns -->"


def keys(match: re.Match[str]) -> str:
    """The table of the keys of a definition in the schema, which the list of columns completes."""
    meaning = {column.key: column.meaning for column in COLUMNS}
    properties = schema()["$defs"][match[1]]["properties"]
    rows = [[f"`{key}`", value.get("description", meaning.get(key, ""))] for key, value in properties.items()]
    table = grid(["key", "what it is"], rows, left=2)
    return f"<!-- schema: {match[1]} -->\n\n{table}\n\n<!-- end of schema -->"


def pictures(source: Path, words: Sequence[str], folder: Path) -> Iterator[str]:
    """Links to the figures that are named and there."""
    for word in words:
        if word.endswith(".png"):
            yield from picture(source / "figures" / word, folder)


def picture(figure: Path, folder: Path) -> Iterator[str]:
    """A link to a figure, if it is there, in a page of the folder."""
    if figure.is_file():
        yield f"![{ALT.get(figure.stem, figure.stem)}]({Path(os.path.relpath(figure, folder)).as_posix()})"


def load(folder: Path) -> list[dict[str, Any]]:
    """What `results.json` of a folder holds, or of the folders in it, by name; nothing where there is none."""
    alone = folder / "results.json"
    paths = [alone] if alone.is_file() else sorted(folder.glob("*/results.json"))
    return [json.loads(path.read_text()) for path in paths]


def blocks(found: Sequence[dict[str, Any]], words: Sequence[str]) -> Iterator[str]:
    """The tables of a section with what must be known to read them.

    Raises:
        UserError: worst cases that cannot be compared.
        ValueError: results that were searched differently, or a test that does not exist.
    """
    if not found:
        yield "*Not run yet.*"
        return
    if found[0].get("study") in TABLES:
        asked = [word for word in words if not word.endswith(".png")]
        for results in found:
            parts = PARTS.get(results["study"], {})
            for make in [parts[word] for word in asked] or [TABLES[results["study"]]]:
                yield from make(results)
            if not asked:
                yield f"Made by `{command(results['config'])}`"
        return
    wanted = tests(words)
    if not wanted:
        return
    if any(results["search"] != found[0]["search"] for results in found):
        raise ValueError("results: searched differently; worst cases compare only under one search")
    rows = methods(words)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in (run for run in all_runs(found) if not rows or run["method"] in rows):
        same = [run.get(key) for key in ("data", "look", "target", "train_images")]
        groups.setdefault((*same, _unit([run])), []).append(run)
    for runs in groups.values():
        comparable(runs)
        yield facts(runs, found[0]["search"])
        yield from tables(runs, wanted, others=not rows)
        yield from neighbours(runs) if TEST in wanted and not rows else ()
        yield from training_time(runs) if not rows else ()
    if len(found) == 1 and not rows:
        yield f"Made by `{command(found[0]['config'])}`"


def tests(words: Sequence[str]) -> list[str]:
    """Keys of the tests that a section asks for."""
    names = [word for word in words if not word.endswith(".png") and not word.startswith("methods=")]
    unknown = set(names) - TESTS.keys() - {"all"}
    if unknown:
        raise ValueError(f"results: no test called {', '.join(sorted(unknown))}; choose from {', '.join(TESTS)}")
    return list(TESTS.values()) if "all" in names or not words else [TESTS[name] for name in names]


def methods(words: Sequence[str]) -> list[str]:
    """Names of the rows that a section asks for; empty for all."""
    return [name for word in words if word.startswith("methods=") for name in word.removeprefix("methods=").split(",")]


def all_runs(found: Sequence[dict[str, Any]]) -> list[Run]:
    """Every run with its generator, which older files name only once for all."""
    return [
        {"generator": (results.get("generator") or {}).get("fingerprint"), **run}
        for results in found
        for run in results["runs"]
    ]


def facts(runs: Sequence[Run], search: dict[str, Any]) -> str:
    """What was measured on what."""
    first, seeds, spreads = runs[0], sorted({run["seed"] for run in runs}), _spreads(runs)
    looks = ["" if first.get("look", "colored") == "colored" else f", look {first['look']}"]
    looks += ["" if first.get("target", "digit") == "digit" else f", target {first['target']}"]
    over = ", mean ± standard deviation over seeds" if len(seeds) > 1 else ""
    layers = ", ".join(map(str, search["perp"])) + (" and the grid" if search["perp_grid"] else "")
    return (
        f"**{first['data']}**{''.join(looks)}: {first['train_images']:,} training and {first['test_images']:,} test "
        f"images, colour {_unit(runs)} {', '.join(f'{spread:g}' for spread in spreads)}, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}. Worst cases: "
        f"{first['worst_case_images']:,} of the test images, {search['restarts']} restarts x {search['steps']} steps, "
        f"layers {layers} are borrowed. Accuracy in percent{over}."
    )


def tables(runs: Sequence[Run], wanted: Sequence[str], others: bool) -> Iterator[str]:
    """One for each test with a column per colour spread; where spreads are one or two, the other way round."""
    measured = [key for key in wanted if any(run[key] is not None for run in runs)]
    shown, spreads = [column for column in columns(runs) if column.key in measured], _spreads(runs)
    for column in shown if len(spreads) > 2 else ():
        yield f"**{column.title}**, {column.hint}{WITHIN if column.key in NEEDS_GENERATOR else ''}:"
        yield table(
            runs, _unit(runs), [(column, spread) for spread in spreads], [f"{spread:g}" for spread in spreads], others
        )
    for spread in spreads if len(spreads) <= 2 else ():
        if len(spreads) > 1:
            yield f"**Colour {_unit(runs)} {spread:g}**:"
        yield table(runs, "", [(column, spread) for column in shown], [column.title for column in shown], others)


def table(
    runs: Sequence[Run], corner: str, cells: Sequence[tuple[Column, float]], heads: Sequence[str], others: bool
) -> str:
    """A row per method, controls in italics; with `others` also one for everybody else who has a number."""
    lines = []
    for name in method_names(runs):
        label = f"*{method_label(name)}*" if is_control(name) else method_label(name)
        mine = [run for run in runs if run["method"] == name]
        numbers = [[run[column.key] for run in mine if color_spread(run) == spread] for column, spread in cells]
        lines.append([f"**{label}**" if name == "advmix" else label, *map(in_percent, numbers)])
    for row in published(runs) if others else ():
        known = [row.at(spread) if column.key == TEST else None for column, spread in cells]
        if any(value is not None for value in known):
            lines.append([f"{row.label} †", *("–" if value is None else f"{100 * value:.4g}" for value in known)])
    return grid([corner, *heads], lines)


def neighbours(runs: Sequence[Run]) -> Iterator[str]:
    """Where the numbers of others come from, and what they are worth here."""
    rows = [row for row in published(runs) if any(row.at(spread) is not None for spread in _spreads(runs))]
    if rows:
        sources = [
            f"{', '.join(row.label for row in rows if row.source == source)}: {source}"
            for source in dict.fromkeys(row.source for row in rows)
        ]
        yield f"Rows marked † are {caveat(runs)}. {'; '.join(sources)}."


def training_time(runs: Sequence[Run]) -> Iterator[str]:
    """What the controls of equal computing took beside AdvMix, all seeds together."""
    seconds: dict[str, float] = {}
    for run in runs:
        seconds[run["method"]] = seconds.get(run["method"], 0) + (run["train_seconds"] or 0)
    if seconds.keys() & set(EQUAL_COMPUTE) and "advmix" in seconds:
        shares = [
            f"{method_label(name)} {100 * seconds[name] / seconds['advmix']:.0f} %"
            for name in method_names(runs)
            if name == "randmix" or name in EQUAL_COMPUTE
        ]
        yield f"Seconds of training, of AdvMix's: {', '.join(shares)}."


def command(config: dict[str, Any]) -> str:
    """What was typed: the command with every setting that is not the default."""
    kinds = {**COMMANDS, **{f"study {name}": study for name, study in EXPERIMENTS.items()}}
    words = config["command"]
    typed = f"python -m experiments {words[6:]}" if words.startswith("study ") else f"advmix {words}"
    return shlex.join([*typed.split(), *flags(config, defaults(kinds[words].load()[0]))])


def defaults(kind: type[Any]) -> dict[str, Any]:
    """The settings of a command as they are where nothing is said; None for what must be."""
    required = [part.name for part in fields(kind) if part.default is part.default_factory is MISSING]
    return to_dict(kind(**dict.fromkeys(required)))


def flags(config: dict[str, Any], default: dict[str, Any]) -> Iterator[str]:
    """Of every setting that differs, nested ones by their own names; settings that are none any more are left out."""
    for key in filter(default.__contains__, config):
        value, flag = config[key], key.replace("_", "-")
        if isinstance(value, dict):
            yield from flags(value, default[key])
        elif value != default[key]:
            if isinstance(value, bool):
                yield f"--{flag}" if value else f"--no-{flag}"
            else:
                yield from (f"--{flag}", *map(str, value if isinstance(value, list) else [value]))


def _unit(runs: Sequence[Run]) -> str:
    return "variance" if "color_variance" in runs[0] else "std"


def _spreads(runs: Sequence[Run]) -> list[float]:
    return sorted({color_spread(run) for run in runs})


if __name__ == "__main__":
    main()
