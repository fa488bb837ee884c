"""How docstrings become Markdown: lines that begin with `>>>` are code, which Markdown would take for a quotation, and
the arguments of a call are a list.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

CALL = re.compile(r"^Args of a call:\n((?: {4}.*\n?)+)", re.MULTILINE)
"""What a class says of its instances' call; the other sections are Google's and known to the parser."""


class Readable(Extension):
    """Changes every docstring before it is parsed."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called with every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(CALL.sub(_as_list, obj.docstring.value))


def fenced(text: str) -> str:
    """`>>>` lines, and what follows them up to the next empty line, between fences."""
    lines, inside = [], False
    for line in text.splitlines():
        begins = line.lstrip().startswith(">>>")
        if begins and not inside:
            lines.append("```pycon")
        if inside and not line.strip():
            lines.append("```")
        inside = bool(line.strip()) and (inside or begins)
        lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines)


def _as_list(section: re.Match[str]) -> str:
    """`    name: what it is` becomes a list item; what is indented further goes on with it."""
    items = re.sub(r"^ {4}(\w+): ", r"- **`\1`** – ", section[1], flags=re.MULTILINE)
    return f"**Args of a call:**\n\n{items}"
