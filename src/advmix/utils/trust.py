"""Whose code is called: what the command line or Python names, and what a file names only where that is allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from advmix.utils.errors import UserError

LIBRARIES = ("torchvision", "timm", "foolbox")
FILES = (".pt", ".pth", ".ts", ".pt2", ".onnx", ".json")
SETTINGS = ("classifier", "compare", "reference", "features", "attack")
"""Those whose value may name code."""
TRUST = "trust_code"
"""The setting that allows it; never believed from a file."""


def names_code(name: str) -> bool:
    """Whether a name is of a function, `package.module:function`, rather than of a library's network or a file."""
    module, colon, function = name.partition(":")
    return bool(colon and function) and module not in LIBRARIES and not name.endswith(FILES) and "/" not in module


def check_trusted(name: str, source: str, trusted: bool) -> None:
    """Refuse a function that a file names, unless files are trusted.

    Args:
        name: of a classifier, or of an attack.
        source: the file.
        trusted: whether the user said so.

    Raises:
        UserError: with the remedy.
    """
    if names_code(name) and not trusted:
        raise UserError(
            f"{source}: names a function, {name}, which would be executed; name it on the command line, or say "
            "--trust-code if you know who wrote the file"
        )


def code_in(config: Any, settings: Collection[str] = SETTINGS) -> Iterator[str]:
    """The functions that some settings of a config name, in plain JSON values, at any depth."""
    for key, value in config.items() if isinstance(config, dict) else ():
        for item in value if isinstance(value, list) else [value]:
            if key in settings and isinstance(item, str) and names_code(item):
                yield item
        yield from code_in(value, settings)


def untrusting(data: Any) -> Any:
    """The same JSON values of a config, without trust in files."""
    if not isinstance(data, dict):
        return data
    return {key: False if key == TRUST else untrusting(value) for key, value in data.items()}


def trusting(data: Any) -> bool:
    """Whether a config, in plain JSON values, allows files to name code."""
    if not isinstance(data, dict):
        return False
    return data.get(TRUST) is True or any(map(trusting, data.values()))
