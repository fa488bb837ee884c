"""What the site shows of the repository outside docs/: pages link to it as they lie on disk, and here it is added.

Pictures and data go into the site as they are, Markdown becomes a page, and source becomes a page that shows it; all
under `repository/`. Nothing is copied into docs/, and a link that works in the repository works on the site.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
"""A Markdown picture or link with its words, file and anchor; web addresses have a colon."""
BEHIND = ("paper/", "reference/", "repository/")
"""Pages that come later in the search."""
SHOWN = {".py": "python", ".sh": "bash", ".json": "json", ".toml": "toml", ".ipynb": ""}
"""Text that is shown as a page, and its language; a notebook is shown with its outputs."""


def on_files(files: Files, config: Any) -> Files:
    """Add whatever pages link to outside docs/, and what those pages link to."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    added: set[str] = set()
    while pages:
        page = pages.pop()
        for target in outside(page, (ROOT / page).read_text(encoding="utf-8")):
            if target not in added:
                added.add(target)
                files.append(_file(target, config))
                pages += [target] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are on the site. The search shows pages that explain before experiments, docstrings and files."""
    if page.file.src_uri.startswith(BEHIND):
        page.meta.setdefault("search", {"boost": 0.5})
    return rewritten(disk_place(page.file.src_uri), markdown)


def outside(page: str, markdown: str) -> Iterator[str]:
    """Files outside docs/ that a page, `docs/audit.md`, links to, by their place in the repository."""
    for match in LINK.finditer(markdown):
        target = _target(page, match[3])
        if not target.startswith(("docs/", "..")) and (ROOT / target).is_file():
            yield target


def rewritten(page: str, markdown: str) -> str:
    """The page's Markdown with its links turned from places in the repository to places on the site."""
    folder = posixpath.dirname(site_place(page)) or "."

    def link(match: re.Match[str]) -> str:
        picture, words, where, anchor = match.groups(default="")
        target = _target(page, where)
        if (ROOT / target).is_file():
            return f"{picture}[{words}]({posixpath.relpath(site_place(target), folder)}{anchor})"
        if target.startswith("results/"):  # of a study that was not run yet
            return f"*{words}: not drawn yet.*" if picture else words
        return match[0]

    return LINK.sub(link, markdown)


def site_place(path: str) -> str:
    """`docs/audit.md` is `audit.md`, `results/README.md` is `repository/results/README.md`, source is a page."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}{'.md' if Path(path).suffix in SHOWN else ''}"


def disk_place(uri: str) -> str:
    """The inverse of `site_place`, but for the `.md` that source gets."""
    return uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"


def notebook_page(text: str) -> str:
    """A notebook as Markdown: cells in their order, code with what it showed."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_output(output["data"]) for output in cell.get("outputs", ())]
    return "\n\n".join(parts)


def _output(data: dict[str, Any]) -> str:
    """The one form that is kept of an output."""
    ((kind, value),) = data.items()
    shown = "".join(value)
    if kind == "image/png":
        return f'<img alt="what the cell draws" src="data:image/png;base64,{shown.strip()}">'
    return f"```\n{shown}\n```" if kind == "text/plain" else f'<div class="output">{shown}</div>'


def _target(page: str, link: str) -> str:
    """Where a link leads; a folder is its README."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    readme = f"{target}/README.md"
    return readme if (ROOT / readme).is_file() else target


def _file(path: str, config: Any) -> File:
    language = SHOWN.get(Path(path).suffix)
    if language is None:
        return File.generated(config, site_place(path), abs_src_path=str(ROOT / path))
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        return File.generated(config, site_place(path), content=notebook_page(text))
    return File.generated(config, site_place(path), content=f"# {path}\n\n~~~~{language}\n{text}\n~~~~\n")
