"""Files of weights, read without executing anything in them: safetensors, torch's, and either in shards."""

from __future__ import annotations

import io
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from advmix.classifiers.safe_archive import check_sizes
from advmix.utils.config import expanded
from advmix.utils.errors import UserError, one_line
from advmix.utils.files import parse_json
from advmix.utils.progress import console

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


USUAL = ("", "state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")

"""Keys under which training programs keep a network's weights, and prefixes that they give to their names."""

AVERAGED = re.compile(r"(^|_|\.)(ema|averaged?|swa)(_|\.|$)|^ema|ema$", re.IGNORECASE)

"""What keys and prefixes of averaged weights are called."""

PASSENGER = re.compile(r"n_averaged|\w*(criterion|loss|metric|accuracy)\w*(\..*)?", re.IGNORECASE)

"""Tensors of the training beside a network's: of losses and metrics, and how many weights were averaged."""

DEPTH = 5

NAMED = 3

COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Candidate:
    """Tensors that may be a network's.

    Attributes:
        keys: under which they lie in the file, outermost first.
        prefix: of their names there.
        tensors: by name, without the prefix.
        others: names of tensors beside them that have another prefix.
    """

    keys: tuple[str, ...]
    prefix: str
    tensors: Mapping[str, Tensor]
    others: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where they were found."""
        return ".".join((*self.keys, self.prefix.rstrip("."))).strip(".")

    @property
    def averaged(self) -> bool:
        """Whether they are averages over training, by their names."""
        return any(AVERAGED.search(part) for part in (*self.keys, *self.prefix.split(".")))

    @property
    def usual(self) -> bool:
        """Whether they lie where a network's weights usually do."""
        return all(part in USUAL for part in (*self.keys, *self.prefix.replace("_orig_mod", "").split(".")))

    def misses(self, network: nn.Module) -> list[str]:
        """Names of the network's that these lack."""
        return _missing(self.tensors, network)


def load_weights(network: nn.Module, path: Path) -> None:
    """Read weights into a network; a line says what was unwrapped to find them, and what else was there.

    Raises:
        UserError: the file cannot be read safely, has the network's weights more than once, or has others.
    """
    path = expanded(path, "weights")
    read = read_weights(path)
    candidates = [stripped for found in _candidates(read) for stripped in _stripped(found, network)]
    if not candidates:
        raise UserError(
            f"--weights {path}: no tensors in it, only {_few(map(str, read)) or 'nothing'}; save network.state_dict()"
        )
    chosen, rivals = _chosen(candidates, network, path)
    _check(chosen.tensors, network, path)
    words = _words(chosen, rivals, network.state_dict().keys())
    if words:
        console.print(f"  {path}: {', '.join(words)}", markup=False)
    try:
        network.load_state_dict(chosen.tensors, strict=False)
    except Exception as error:  # a network may have a reader of its own
        raise UserError(f"--weights {path}: refused by the network ({one_line(error)})") from error


def _candidates(read: Mapping[Any, Any], keys: tuple[str, ...] = ()) -> Iterator[Candidate]:
    """Every mapping of tensors, at any depth."""
    tensors = {name: value for name, value in read.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield Candidate(keys, "", tensors)
    for key, value in read.items():
        if isinstance(value, Mapping) and len(keys) < DEPTH:
            yield from _candidates(value, (*keys, str(key)))


def _stripped(found: Candidate, network: nn.Module) -> Iterator[Candidate]:
    """The same tensors under each prefix that brings them nearer to the network's names; or as they are."""
    wanted = _needed(network)
    ends = {name.rpartition(".")[2] for name in wanted}
    firsts = [name for name in found.tensors if name.rpartition(".")[2] in ends]
    prefixes = {name[: -len(last)] for name in firsts for last in wanted if name == last or name.endswith(f".{last}")}
    whole = {prefix for prefix in prefixes if all(f"{prefix}{name}" in found.tensors for name in wanted)}
    for prefix in sorted(whole) or [_commonest(found.tensors, wanted)]:
        inside = {name[len(prefix) :]: value for name, value in found.tensors.items() if name.startswith(prefix)}
        yield replace(
            found,
            prefix=prefix,
            tensors=inside,
            others=tuple(name for name in found.tensors if not name.startswith(prefix)),
        )


def _commonest(tensors: Iterable[str], wanted: Iterable[str]) -> str:
    """The prefix under which most of the network's names are."""
    names, counts = set(wanted), dict[str, int]()
    for name in tensors:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in names:
                prefix = "".join(f"{part}." for part in parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    return max(sorted(counts), key=counts.__getitem__, default="")


def _chosen(candidates: list[Candidate], network: nn.Module, path: Path) -> tuple[Candidate, list[Candidate]]:
    """The one that fits, and others that fit as well: averages are what training programs test, so they are taken."""
    fitting = [one for one in candidates if not one.misses(network)]
    if not fitting:
        wanted = set(_needed(network))
        return max(candidates, key=lambda one: len(wanted & one.tensors.keys())), []
    for better in (lambda one: one.averaged, lambda one: one.usual, lambda one: True):
        best = [one for one in fitting if better(one)]
        if best:
            break
    differing = [one for one in best[1:] if not _same(one, best[0], network)]
    if differing:
        places = " and ".join(repr(one.place) for one in (best[0], differing[0]))
        raise UserError(f"--weights {path}: has the network's weights under {places}; save the ones you mean alone")
    return best[0], [one for one in fitting if one is not best[0]]


def _same(one: Candidate, other: Candidate, network: nn.Module) -> bool:
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in _needed(network))


def _words(chosen: Candidate, rivals: list[Candidate], wanted: Collection[str]) -> list[str]:
    """What was unwrapped, and what was passed over."""
    keys, pieces = ".".join(chosen.keys), chosen.prefix.split(".")[:-1]
    beside = [f"{chosen.prefix}{name}" for name in chosen.tensors if name not in wanted]
    theirs = {f"{one.prefix}{name}" for one in rivals if one.keys == chosen.keys for name in one.tensors}
    passed = [*beside, *(name for name in chosen.others if name not in theirs)]
    return [
        *([f"weights found under {keys!r}"] if keys else []),
        *(f"prefix {piece + '.'!r} removed" for piece in pieces),
        *(["these are averages over training"] if chosen.averaged else []),
        *(f"those under {one.place!r} left alone" if one.place else "those without left alone" for one in rivals),
        *([f"not the network's and left alone: {_few(passed)}"] if passed else []),
    ]


def _needed(network: nn.Module) -> list[str]:
    """Names of the network's weights; batch normalisation's counters are none, and old files lack them."""
    return [name for name in network.state_dict() if not name.endswith(COUNTER)]


def _missing(tensors: Mapping[str, Tensor], network: nn.Module) -> list[str]:
    """What a network needs and is not among the tensors, not even by another name of the same weight."""
    wanted = network.state_dict(keep_vars=True)
    there = {id(value) for name, value in wanted.items() if name in tensors}
    return [name for name in _needed(network) if name not in tensors and id(wanted[name]) not in there]


def _check(tensors: Mapping[str, Tensor], network: nn.Module, path: Path) -> None:
    """Names and shapes."""
    wanted = network.state_dict()
    missing = _missing(tensors, network)
    extra = [name for name in tensors if name not in wanted and not PASSENGER.fullmatch(name)]
    if missing or extra:
        parts = [("lacks", missing), ("has beside the network's", extra)]
        words = " and ".join(f"{verb} {_few(names)}" for verb, names in parts if names)
        raise UserError(f"--weights {path}: weights of another network: {words}")
    known = {name: value for name, value in tensors.items() if name in wanted}
    wrong = [name for name, value in known.items() if _shape(value) != (_shape(wanted[name]) or _shape(value))]
    if wrong:
        shapes = (f"{name} {tuple(tensors[name].shape)}, the network's {tuple(wanted[name].shape)}" for name in wrong)
        raise UserError(
            f"--weights {path}: other shapes than the network's: {_few(shapes, '; ')}; say how it was built with "
            "--classifier-args"
        )


def _shape(value: Any) -> torch.Size | None:
    """None where nothing is known of it yet."""
    return value.shape if isinstance(value, Tensor) and not nn.parameter.is_lazy(value) else None


def _few(names: Iterable[str], between: str = ", ") -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return between.join(listed[:NAMED]) + more
