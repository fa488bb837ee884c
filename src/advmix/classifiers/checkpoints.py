"""Files of weights, read without executing anything in them: safetensors, torch's, and either in shards."""

from __future__ import annotations

import io
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file

from advmix.classifiers.archive import check_sizes
from advmix.errors import UserError
from advmix.files import parse_json

INERT = re.compile(
    r"(numpy|pathlib|datetime|collections|argparse|decimal|fractions|uuid|zoneinfo|enum|dataclasses|typing|random|copyreg"
    r"|torch\.(nn|optim|distributed|torch_version|utils\.data))\..+|types\.SimpleNamespace|functools\.partial|re\._compile"
    r"|_codecs\.encode|torch\.(Size|device|serialization\._get_layout)"
    r"|(__builtin__|builtins)\.(set|frozenset|slice|x?range|complex|bytearray|object|list|dict|tuple|int|float|str|bytes|unicode|long)"
)
"""Of the standard library and torch: what is at home beside weights."""
INDEX = ".index.json"
WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Under which names a folder has its weights."""
SAVE = "save network.state_dict() alone, best as safetensors"


class ForeignError(Exception):
    """A name in a file for which nothing may stand."""


class Inert(dict[Any, Any]):
    """Stands for any object in a file: keeps its items and nothing else, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Whatever the object would have been made of is left alone."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def append(self, _: Any) -> None:
        """What a list gets."""

    extend = add = __setstate__ = append
    __hash__ = object.__hash__  # type: ignore[assignment]


class Unpickler(pickle.Unpickler):
    """Makes tensors, plain values, and something inert for every other object."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for; nothing is imported.

        Raises:
            ForeignError: nothing may stand for it.
        """
        whole = f"{module}.{name}"
        if whole in MADE:
            return MADE[whole]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if not is_inert(whole):
            raise ForeignError(whole)
        return type(name, (Inert,), {"__module__": module})


def _plain(function: Callable[..., Any], _: Any, arguments: tuple[Any, ...], *__: Any) -> Any:
    """A tensor of a class of its own, without that class."""
    return function(*arguments)


MADE: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch.UntypedStorage": torch.UntypedStorage,
    "torch.storage.UntypedStorage": torch.UntypedStorage,
    "torch._utils._rebuild_tensor": torch._utils._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": torch._utils._rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": torch._utils._rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _plain,
}
"""What is made of the names that tensors need. A state that a parameter brings is left out."""


def read_weights(path: Path) -> Mapping[Any, Any]:
    """What is in a file of weights, or in the shards that an index names; a folder has either under its usual name.

    Raises:
        UserError: missing, damaged, or with objects that only code could bring back: these are never made.
    """
    if path.is_dir():
        path = next((path / name for name in WHOLE if (path / name).is_file()), path)
    if not path.is_file():
        raise UserError(f"--weights {path}: no such file")
    read = _read_shards(path) if path.name.endswith(INDEX) else _read_file(path)
    if not isinstance(read, Mapping) or (isinstance(read, Inert) and not read):
        kind = type(read)
        raise UserError(
            f"--weights {path}: holds a {kind.__module__.removeprefix('builtins').lstrip('.')}"
            f"{'.' if kind.__module__ != 'builtins' else ''}{kind.__qualname__}, not weights by name; save "
            "network.state_dict()"
        )
    return read


def _read_shards(path: Path) -> dict[str, Any]:
    """The tensors of all shards; these lie beside their index."""
    read = parse_json(path.read_bytes(), f"--weights {path}")
    names = read.get("weight_map") if isinstance(read, dict) else None
    if not isinstance(names, dict) or not names:
        raise UserError(f"--weights {path}: not an index of shards (no weight_map in it); name a file of weights")
    tensors: dict[str, Any] = {}
    for name in dict.fromkeys(map(str, names.values())):
        if Path(name).name != name:
            raise UserError(f"--weights {path}: names a shard elsewhere, {name}; shards lie beside their index")
        if not (path.parent / name).is_file():
            raise UserError(f"--weights {path}: lacks its shard {path.parent / name}")
        tensors |= _read_file(path.parent / name)
    return tensors


def _read_file(path: Path) -> Any:
    """One file, by its content and not by its name."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
            check_sizes(file, path)
        return load_file(path) if start[8:] == b"{" else _read_torch(path, start)
    except UserError as error:
        raise UserError(f"--weights {error}") from error
    except ForeignError as error:
        raise UserError(
            f"--weights {path}: holds more than weights ({error}) and is not unpickled, because that could execute "
            f"anything; {SAVE}"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for a damaged or hostile file
        raise UserError(
            f"--weights {path}: neither safetensors nor a torch file of weights, or damaged; {SAVE}"
        ) from error


def _read_torch(path: Path, start: bytes) -> Any:
    """A torch file of today or of old, with something inert for every object in it that is no tensor."""
    reader: Any = ModuleType("reader")
    reader.Unpickler = Unpickler
    reader.load = lambda file, **words: Unpickler(file, **words).load()
    if start[:1] == b"\x80":
        return torch.load(io.BytesIO(path.read_bytes()), "cpu", pickle_module=reader, weights_only=False)
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise UserError(f"{path}: a whole network of TorchScript, not weights; name it with --classifier, as a .pt")
    with path.open("rb") as file:
        return torch.load(file, "cpu", pickle_module=reader, weights_only=False)


def is_inert(name: str) -> bool:
    """Whether something may stand for an object of this class: it is not of Python or torch, or harmless there."""
    top = name.partition(".")[0]
    return INERT.fullmatch(name) is not None or top not in (*sys.stdlib_module_names, "__builtin__", "torch", "nt")
