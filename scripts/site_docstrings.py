"""How docstrings become Markdown: lines that begin with `>>>` are code, which Markdown would take for a quotation."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object


class ExamplesAreCode(Extension):  # type: ignore[misc]
    """Fences the examples of every docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called with every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


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
