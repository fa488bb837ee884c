"""What README and docs tell a reader to type, and the site that is built from docs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints
from urllib.parse import unquote, urlsplit

import pytest

from advmix.cli import COMMANDS, parse
from experiments.cli import EXPERIMENTS
from experiments.cli import parse as parse_experiment
from study_runs import ROOT, docs

PAGES = [*docs.pages(), ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md"]
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`((?:advmix|python -m experiments) [^`\n]+)`(?!`)")
PLACEHOLDERS = {"COMMAND", "NAME"}
"""Words that stand for a command; other capitals stand for values, which any word may be."""


def shown(page: Path) -> Iterator[str]:
    """Command lines in fenced blocks, continued ones joined."""
    for block in FENCED.findall(page.read_text()):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            if line.startswith(("advmix ", "python -m experiments ")) and not PLACEHOLDERS & set(line.split()):
                yield line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("DIR", "photos", "faces", "tiles"):
        (tmp_path / folder).mkdir()
    for line in shown(page):
        words = shlex.split(line, comments=True)
        parse_experiment(words[3:]) if words[0] == "python" else parse(words[1:])
    for line in INLINE.findall(page.read_text()):
        check_inline(line)


def check_inline(line: str) -> None:
    """Command and flags of an example in running text, which need not be complete."""
    words = shlex.split(line.replace("python -m experiments", "advmix study"))[1:]
    if PLACEHOLDERS & set(words) or words[0].startswith("-"):
        return
    name = " ".join(words[: 2 if words[0] == "study" else 1])
    known = {**COMMANDS, **{f"study {study}": command for study, command in EXPERIMENTS.items()}}
    assert name in known, line
    flags = {re.sub("^no-", "", word[2:]) for word in words if word.startswith("--")}
    assert flags <= {*flags_of(known[name].load()[0]), "config", "help"}, line


def flags_of(kind: Any) -> Iterator[str]:
    """The options of a config, nested ones as they are on the command line: by their own names."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from flags_of(hints[field.name])
        else:
            yield field.name.replace("_", "-")


def test_commands_are_looked_for() -> None:
    """The check above finds something on the pages that live from it."""
    for name, least in (("tutorial.md", 10), ("faq.md", 8), ("commands.md", 4)):
        assert len(list(shown(ROOT / "docs" / name))) >= least, name


def test_the_tutorial_s_folder_is_what_it_says(tmp_path: Path) -> None:
    script = ROOT / "examples" / "colored_folder.py"
    subprocess.run([sys.executable, script, tmp_path / "photos", "--images", "40"], check=True)
    assert len(list(tmp_path.glob("photos/train/*/*.png"))) + len(list(tmp_path.glob("photos/test/*/*.png"))) == 40


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = spec_from_file_location("site_hooks", ROOT / "scripts" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_out_of_docs_are_turned(hooks: ModuleType) -> None:
    text = (
        "[a](../../results/README.md#top) ![b](../../results/search/figures/found.png) [c](../data.md) [d](https://x.y)"
    )
    assert hooks.rewritten("docs/paper/search.md", text) == (
        "[a](../repository/results/README.md#top) ![b](../repository/results/search/figures/found.png) "
        "[c](../data.md) [d](https://x.y)"
    )
    assert hooks.rewritten("docs/index.md", "[e](../examples/plain_loop.py)") == (
        "[e](repository/examples/plain_loop.py.md)"
    )
    assert hooks.rewritten("results/README.md", "[f](../docs/data.md) [g](.)") == "[f](../../data.md) [g](README.md)"
    assert hooks.rewritten("docs/index.md", "[h](nothing.md)") == "[h](nothing.md)"
    assert hooks.rewritten("docs/index.md", "![h](../results/no/a.png), [i](../results/no)") == (
        "*h: not drawn yet.*, i"
    )


class Addresses(HTMLParser):
    """Of a page: what it links to, what it loads by itself, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value for key, value in attrs if value}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif "src" in values:
            self.loads.append(values["src"])
        elif tag == "link" and values.get("rel") != "canonical" and "href" in values:
            self.loads.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with warnings as errors."""
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_site_loads_nothing_from_elsewhere_and_its_links_lead_somewhere(site: Path) -> None:
    pages = {path.resolve(): Addresses(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 25
    for path, page in pages.items():
        assert not [address for address in page.loads if urlsplit(address).netloc], path.name
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if not parts.scheme and not parts.netloc:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                assert target.exists(), f"{path.name}: {address}"
                if parts.fragment and target in pages:
                    assert unquote(parts.fragment) in pages[target].anchors, f"{path.name}: {address}"


def test_the_search_works_from_the_disk(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text()
    assert index.startswith("var __index = {")
    assert "javascripts/iframe-worker.js" in Addresses((site / "audit.html").read_text()).loads


def test_styles_load_nothing_from_elsewhere(site: Path) -> None:
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text()), sheet.name


def test_the_reference_is_there_and_examples_in_it_are_code(site: Path) -> None:
    page = (site / "reference" / "mixing.html").read_text()
    assert 'id="advmix.mixing.AdvMix"' in page
    assert "half-width of the box" in page
    assert "blockquote" not in page
    assert "<details" not in page  # a section that the docstrings' parser does not know
    assert (site / "repository" / "results" / "search" / "figures" / "found.png").is_file()


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    import advmix

    ids = set().union(*(Addresses(path.read_text()).anchors for path in (site / "reference").glob("*.html")))
    for name in set(advmix.__all__) - {"__version__"}:
        value = getattr(advmix, name)
        assert f"{value.__module__}.{name}" in ids, f"docs/reference: {value.__module__}.{name} is missing"
