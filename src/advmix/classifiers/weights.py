"""Weights for other people's networks: found in whatever a training program saved, and checked by name and shape."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.classifiers.checkpoints import read_weights
from advmix.classifiers.found import one_line
from advmix.errors import UserError
from advmix.options import expanded
from advmix.progress import console

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
