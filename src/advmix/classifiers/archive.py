"""Which torch.export archives are safe to load.

`torch.export.load` unpickles what an archive asks it to unpickle, evaluates its size expressions as Python, writes its
names, its guards and its constant inputs into Python code, and looks up what its graph calls anywhere in torch. So an
archive is read as plain data first, and refused unless everything in it is on these lists: raw tensors, operators that
compute, sizes that are sums and products, and words for all other text. Guards and notes are left out. What was checked
is packed anew, so that torch reads that and nothing else.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from advmix.classifiers.operators import OPERATORS
from advmix.errors import UserError
from advmix.files import parse_json

MEMBERS = re.compile(
    r"[^/]+/(data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)"
    r"|sample_inputs/model\.pt)|models/model\.json|archive_format|archive_version|byteorder|\.data/\w+)"
)
EXTRA = re.compile(r"[^/]+/extra/")
"""What somebody put beside a network, as `extra_files`; it is left out."""
ATEN = re.compile(r"torch\.ops\.aten\.(?P<name>\w+)(\.\w+)?")
PLAIN = re.compile(
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|eq|ne|lt|le|gt|ge|neg|getitem|and_|or_)|math\.(ceil|floor|trunc)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)"
)
EXPRESSION = re.compile(r"[\w\s+\-*/(),='<>]{0,10000}")
WORDS = re.compile(
    r"[su]\d+|\d{1,19}|Symbol|positive|integer|True|False|Integer|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv"
    r"|IntTrueDiv|FloatTrueDiv|ToFloat|TruncToInt|FloorToInt|CeilToInt|Eq|Ne"
)
POWER = re.compile(r"\b[su]\d+\s*\*\*\s*[2-4](?![\d\s]*\*\*)|Pow\([su]\d+, Integer\((-1|[2-4])\)\)")
"""The only powers in sizes: of a symbol, and small. Others may take forever."""
NAME_KEYS = ("name", "as_name", "class_fqn")
WORD = re.compile(r"[\w.\-]*")
OTHER_TEXT = ("target", "as_operator", "expr_str", "as_expr", "in_spec", "out_spec", "torch_version")
"""Keys of text that is more than words: all but the last are checked on their own."""
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")
LARGEST = 2**30
"""Elements of what constants in the graph make; a network for images has none near it."""
COUNTED = re.compile(r"arange|linspace")
END = 2**63 - 1
"""What `slice` says for: to the end."""
UNPACKED = 20
"""Times its own size that an archive may have unpacked, beyond a mebibyte."""


def check_archive(data: bytes, path: Path) -> bytes:
    """Let an archive pass, packed anew, or refuse it.

    Raises:
        UserError: not an archive of torch.export, or one with more in it than graph and tensors.
    """
    try:
        check_sizes(io.BytesIO(data), path)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not EXTRA.match(name)]
            _check(path, len(set(names)) == len(names), "a name twice")
            for name in names:
                _check(path, MEMBERS.fullmatch(name) is not None, name)
            members = {name: archive.read(name) for name in names}
        for name, content in members.items():
            if name.endswith(".json"):
                members[name] = _checked_json(parse_json(content, f"{path}: {name}"), path)
            elif name.endswith("sample_inputs/model.pt"):
                _check_pickle(content, path, name)
        _check(path, any(name.endswith("/models/model.json") for name in names), "no models/model.json")
        return packed(members)
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for a damaged or hostile file; all mean the same to a user
        raise UserError(f"{path}: not a file of torch.export.save, or damaged ({error})") from error


def check_sizes(file: IO[bytes], path: Path) -> None:
    """Refuse a zip archive that would unpack to far more than it is; another file passes.

    Raises:
        UserError: saying how much.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        total = sum(member.file_size for member in archive.infolist())
    size = file.seek(0, io.SEEK_END)
    if total > UNPACKED * size + 2**20:
        raise UserError(f"{path}: refused, because {size:,} bytes would unpack to {total:,}; save it again")


def packed(members: Mapping[str, bytes]) -> bytes:
    """A zip file of the checked members alone: what else the old one hides from one reader or another stays behind."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _check(path: Path, fine: bool, what: str) -> None:
    if not fine:
        raise UserError(
            f"{path}: refused, because loading it could execute more than a network ({what}); export it again with "
            "torch.export.save, without custom objects and operators"
        )


def _check_pickle(data: bytes, path: Path, name: str) -> None:
    """What cannot be read safely, torch would unpickle unsafely."""
    check_sizes(io.BytesIO(data), path)
    try:
        if data:
            torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds
        _check(path, False, name)


def _checked_json(value: Any, path: Path) -> bytes:
    """The same JSON without notes and guards, all that is left of it checked."""
    for holder in _objects(value):
        _leave_out(holder)
    for holder in _objects(value):
        for key, item in holder.items():
            _check_entry(key, item, path)
        if "target" in holder and "inputs" in holder:
            _check_numbers(str(holder["target"]), holder["inputs"], path)
        if isinstance(meta := holder.get("tensor_meta"), dict):
            sizes = list(_numbers(meta.get("sizes"), int))
            _check(path, math.prod(sizes) <= LARGEST, f"a tensor of {sizes}")
    for text in _text(value):
        _check(path, WORD.fullmatch(text) is not None, f"text {text[:80]}")
    return json.dumps(value).encode()


def _leave_out(holder: dict[str, Any]) -> None:
    """Where a node came from, of which torch looks up names, and conditions on images, which it executes."""
    if holder.get("metadata") and ("target" in holder or "module_call_graph" in holder):
        holder["metadata"] = {}
    if holder.get("guards_code"):
        holder["guards_code"] = []


def _text(value: Any, in_node: bool = False) -> Iterator[str]:
    """Keys and strings at any depth, but those that are checked elsewhere, and what operators are given as text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _text(item, in_node)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            if not (isinstance(item, str) and (key in OTHER_TEXT or (in_node and key == "as_string"))):
                yield from _text(item, in_node or key == "nodes")


def _check_entry(key: str, item: Any, path: Path) -> None:
    if key == "use_pickle":
        _check(path, item is False, "a pickled tensor")
    elif key == "path_name":
        _check(path, re.fullmatch(r"(weight|tensor)_\d+", str(item)) is not None, f"path {item}")
    elif (key == "target" and isinstance(item, str)) or key == "as_operator":
        _check(path, _computes(str(item)), f"operator {item}")
    elif key == "expr_str" or (key == "as_expr" and isinstance(item, str)):
        _check(path, _is_arithmetic(str(item)), f"expression {item}")
    elif key in NAME_KEYS and item:
        _check(path, re.fullmatch(r"\w+", str(item)) is not None, f"name {item}")
    elif key == "forward_arg_names" and item:
        _check(path, all(re.fullmatch(r"\w+", str(name)) for name in item), f"names {item}")
    elif key in ("in_spec", "out_spec") and item:
        _check_containers(item, path)


def _computes(target: str) -> bool:
    """Whether an operator is one of arithmetic: of Python's on sizes, or of ATen's, plain, in place, or copying."""
    found = ATEN.fullmatch(target)
    if found is None:
        return PLAIN.fullmatch(target) is not None
    name = found["name"]
    return bool(OPERATORS & {name, name.removesuffix("_"), name.removesuffix("_copy")})


def _is_arithmetic(text: str) -> bool:
    plain = POWER.sub("s0", re.sub(r"Symbol\('([su]\d+)'[^()]*\)", r"\1", text))
    words = [word for word in re.findall(r"\w+", text) if word != "Pow" or "Pow" in plain]
    return EXPRESSION.fullmatch(text) is not None and "**" not in plain and all(map(WORDS.fullmatch, words))


def _check_containers(item: Any, path: Path) -> None:
    _check(path, isinstance(item, str), f"containers {item}")
    for holder in _objects(parse_json(item, f"{path}: containers")):
        _check(path, holder.get("type") in CONTAINERS, f"containers {holder.get('type')}")
        context = holder.get("context")
        _check(path, not context or re.fullmatch(r'[\w\s\[\]",.\-]*', str(context)) is not None, f"names {context}")


def _check_numbers(target: str, inputs: Any, path: Path) -> None:
    """A constant in a graph can ask for more memory than there is, or for more steps than anybody waits for."""
    for argument in inputs:
        whole = [abs(number) for number in _numbers(argument, int)]
        _check(path, all(number <= LARGEST or number >= END for number in whole), f"{target} of {whole}")
        if "as_strided" not in target:  # strides are no sizes
            count = math.prod(number for number in whole if 0 < number < END)
            _check(path, count <= LARGEST, f"{target} of {whole}")
    if COUNTED.search(target):
        spans = [max(abs(number), 1 / abs(number)) for number in _numbers(inputs, float, int) if number]
        _check(path, math.prod(spans) <= LARGEST, f"{target} of {spans}")


def _numbers(value: Any, *kinds: type) -> Iterator[Any]:
    """The numbers in an argument, at any depth."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item, *kinds)
    elif isinstance(value, kinds) and not isinstance(value, bool):
        yield value


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object, at any depth."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _objects(item)
