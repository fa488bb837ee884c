"""Weights of other people's networks, read without executing anything in the file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from advmix.classifiers.found import one_line
from advmix.errors import UserError
from advmix.options import expanded
from advmix.progress import console

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training programs keep a network's weights."""
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""What DDP, torch.compile and wrappers put before the names of weights."""
NAMED = 3


def load_weights(network: nn.Module, path: Path) -> None:
    """Read weights into a network; a line says what was unwrapped to find them.

    Raises:
        UserError: the file cannot be read safely, or its names or shapes are not the network's.
    """
    path = expanded(path, "weights")
    tensors, found = _unwrapped(read_weights(path), path)
    tensors, stripped = _stripped(tensors, network.state_dict().keys())
    words = [*([f"weights found under {found!r}"] if found else []), *(f"prefix {name!r} removed" for name in stripped)]
    if words:
        console.print(f"  {path}: {', '.join(words)}", markup=False)
    _check(tensors, network.state_dict(), path)
    network.load_state_dict(tensors, strict=False)


def read_weights(path: Path) -> Mapping[str, Any]:
    """What is in a safetensors file, or in a torch file of tensors and plain values.

    Raises:
        UserError: missing, damaged, or with objects that only code could bring back: these are never made.
    """
    if not path.is_file():
        raise UserError(f"--weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's checkpoints hold their options as one
            read = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise UserError(f"--weights {path}: cannot be read ({error})") from error
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        raise UserError(f"--weights {path}: {_refusal(error)}") from error
    if not isinstance(read, Mapping):
        raise UserError(
            f"--weights {path}: holds a {type(read).__name__}, not weights by name; save network.state_dict()"
        )
    return read


def _refusal(error: Exception) -> str:
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named:
        return (
            f"holds more than weights ({named[1]}) and is not unpickled, because that could execute anything; save "
            "network.state_dict() alone, best as safetensors"
        )
    return f"cannot be read as weights ({one_line(error)})"


def _unwrapped(read: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, and the key that they were under."""
    found = next((key for key in WRAPPERS if isinstance(read.get(key), Mapping)), "")
    inner = read[found] if found else read
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"--weights {path}: no tensors in it, only {_few(map(str, inner))}; save network.state_dict()")
    return tensors, found


def _stripped(tensors: dict[str, Tensor], wanted: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the prefixes that all names have and the network's have not, and which these were."""
    stripped: list[str] = []
    names = tuple(wanted)
    while prefix := next((one for one in PREFIXES if all(name.startswith(one) for name in tensors)), None):
        if any(name.startswith(prefix) for name in names):
            break
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        stripped.append(prefix)
    return tensors, stripped


def _check(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Names and shapes; batch normalisation's counters are no weights, and old files lack them."""
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    extra = [name for name in tensors if name not in wanted]
    if missing or extra:
        parts = [("lacks", missing), ("has beside the network's", extra)]
        words = " and ".join(f"{verb} {_few(names)}" for verb, names in parts if names)
        raise UserError(f"--weights {path}: weights of another network: {words}")
    wrong = [name for name, value in tensors.items() if value.shape != wanted[name].shape]
    if wrong:
        shapes = (f"{name} {tuple(tensors[name].shape)}, the network's {tuple(wanted[name].shape)}" for name in wrong)
        raise UserError(
            f"--weights {path}: other shapes than the network's: {_few(shapes, '; ')}; say how it was built with "
            "--classifier-args"
        )


def _few(names: Iterable[str], between: str = ", ") -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return between.join(listed[:NAMED]) + more
