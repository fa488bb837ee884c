"""Which torch.export archives are safe to load.

`torch.export.load` unpickles what an archive asks it to unpickle, evaluates its size expressions as Python, and looks
up what its graph calls anywhere in torch. So an archive is read as plain data first, and refused unless everything in
it is on these lists: raw tensors, operators of ATen, sizes that are sums and products.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from advmix.errors import UserError

MEMBERS = re.compile(
    r"[^/]+/(data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)"
    r"|sample_inputs/model\.pt)|models/model\.json|archive_format|archive_version|byteorder|\.data/\w+)"
)
TARGETS = re.compile(
    r"torch\.ops\.aten\.\w+(\.\w+)?|_operator\.(add|sub|mul|floordiv|mod|eq|ne|lt|le|gt|ge|neg|getitem)"
)
EXPRESSION = re.compile(r"[\w\s+\-*/(),='<>]*")
WORDS = re.compile(r"[su]\d+|\d+|Symbol|positive|integer|True|False|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|Eq|Ne")
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")


def check_archive(data: bytes, path: Path) -> None:
    """Let an archive pass, or refuse it.

    Raises:
        UserError: not an archive of torch.export, or one with more in it than graph and tensors.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            _check(path, len(set(names)) == len(names), "a name twice")
            for name in names:
                _check(path, MEMBERS.fullmatch(name) is not None, name)
                if name.endswith(".json"):
                    _check_json(json.loads(archive.read(name)), path)
                elif name.endswith("sample_inputs/model.pt"):
                    _check_pickle(archive.read(name), path, name)
            _check(path, any(name.endswith("/models/model.json") for name in names), "no models/model.json")
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for a damaged or hostile file; all mean the same to a user
        raise UserError(f"{path}: not a file of torch.export.save, or damaged ({error})") from error


def _check(path: Path, fine: bool, what: str) -> None:
    if not fine:
        raise UserError(
            f"{path}: refused, because loading it could execute more than a network ({what}); export it again with "
            "torch.export.save, without custom objects and operators"
        )


def _check_pickle(data: bytes, path: Path, name: str) -> None:
    """What cannot be read safely, torch would unpickle unsafely."""
    try:
        if data:
            torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds
        _check(path, False, name)


def _check_json(value: Any, path: Path) -> None:
    for key, item in _items(value):
        if key == "use_pickle":
            _check(path, item is False, "a pickled tensor")
        elif key == "path_name":
            _check(path, re.fullmatch(r"(weight|tensor)_\d+", str(item)) is not None, f"path {item}")
        elif (key == "target" and isinstance(item, str)) or key == "as_operator":
            _check(path, TARGETS.fullmatch(str(item)) is not None, f"operator {item}")
        elif key == "expr_str" or (key == "as_expr" and isinstance(item, str)):
            words = re.findall(r"\w+", str(item))
            fine = EXPRESSION.fullmatch(str(item)) is not None and all(WORDS.fullmatch(word) for word in words)
            _check(path, fine, f"expression {item}")
        elif key in ("in_spec", "out_spec") and item:
            _check(path, isinstance(item, str), f"containers {item}")
            types = [kind for name, kind in _items(json.loads(item)) if name == "type"]
            _check(path, all(kind in CONTAINERS for kind in types), f"containers {types}")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _items(item)
    elif isinstance(value, list):
        for item in value:
            yield from _items(item)
