"""Whose code is called: what the command line or Python names, and what a file names only where that is allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import PurePath
from typing import Any

from advmix.utils.errors import UserError

LIBRARIES = ("torchvision", "timm")
"""Whose networks are named; nothing else of theirs is called."""
ATTACKS = ("foolbox",)
"""Whose attacks are named."""
FILES = (".pt", ".pth", ".ts", ".pt2", ".onnx")
SETTINGS = ("classifier", "compare", "reference", "features", "attack")
"""Those whose value may name code."""
TRUST = "trust_code"
"""The setting that allows it; never believed from a file."""


def names_code(name: str, setting: str = "classifier") -> bool:
    """Whether a name is of a function, `package.module:function`, rather than of a library's network or a file.

    What is no code by this is never imported: those who import ask here. A path may be written in several ways, and
    `./module:function` becomes a function when it is put in order.
    """
    module, colon, function = str(PurePath(name)).partition(":")
    if not (colon and function):
        return False
    if setting == "attack":
        return module not in ATTACKS
    return module not in LIBRARIES and not name.endswith(FILES) and "/" not in module


def check_trusted(name: str, source: str, trusted: bool) -> None:
    """Refuse a function that a file names, unless files are trusted.

    Args:
        name: that `names_code` knows.
        source: the file.
        trusted: whether the user said so.

    Raises:
        UserError: with the remedy.
    """
    if not trusted:
        raise UserError(
            f"{source}: names a function, {name}, which would be executed; name it on the command line, or say "
            "--trust-code if you know who wrote the file"
        )


def code_in(config: Any, settings: Collection[str] = SETTINGS) -> Iterator[str]:
    """The functions that some settings of a config name, in plain JSON values, at any depth."""
    for key, value in config.items() if isinstance(config, dict) else ():
        for item in value if isinstance(value, list) else [value]:
            if key in settings and isinstance(item, str) and names_code(item, key):
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
