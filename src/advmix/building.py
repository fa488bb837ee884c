"""A network from a file: the file's word on sizes is believed only as far as its tensors bear it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from advmix.errors import UserError

Network = TypeVar("Network", bound=nn.Module)
T = TypeVar("T")


def rebuilt(make: Callable[[], Network], tensors: Mapping[str, Tensor], path: Path, what: str) -> Network:
    """The network that a file describes, with the file's weights, in eval mode.

    It is made without memory first and compared with the tensors, so that it takes no more memory than they do.

    Args:
        make: makes the network.
        tensors: all of its weights and buffers, by name.
        path: the file, for messages.
        what: what the network is called there, "the classifier of nominal".

    Raises:
        UserError: tensors of another name, shape or type, or numbers that are not finite.
    """
    network = outline(make)
    wrong = misfit(network, tensors)
    if wrong is not None:
        name, found, wanted = wrong
        raise UserError(f"{path}: the weights do not fit {what} ({name} is {found}, not {wanted}); make it again")
    if (broken := not_finite(tensors)) is not None:
        raise UserError(f"{path}: not all numbers in {broken} are finite; make it again")
    network.to_empty(device="cpu").load_state_dict(tensors)
    return network.eval()


def outline(make: Callable[[], Network]) -> Network:
    """A network of names and shapes alone: it takes no memory."""
    with torch.device("meta"), _Unfilled():
        return make()


class _Unfilled(TorchFunctionMode):
    """No first numbers: without memory there is nothing to fill, and torch would load a package of algebra for it."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Anything but drawing is done."""
        if getattr(function, "__module__", None) == nn.init.__name__:
            return (kwargs or {}).get("tensor", *args[:1])
        return torch.empty(*args) if function is torch.randn else function(*args, **(kwargs or {}))


def misfit(network: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[str, str, str] | None:
    """The first name whose tensor is not what the network has there: the name, what was found, what is wanted."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        found = _described(tensors[name], wanted.get(name)) if name in tensors else "missing"
        expected = _described(wanted[name], tensors.get(name)) if name in wanted else "absent"
        if found != expected:
            return name[:80], found, expected
    return None


def _described(tensor: Tensor, other: Tensor | None) -> str:
    """The shape, and the type of number where the other one has another."""
    kind = "" if other is None or tensor.dtype == other.dtype else f" {tensor.dtype}"
    return f"{tuple(tensor.shape)}{kind}"


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first name whose tensor holds an infinity or NaN."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def stated(metadata: Mapping[str, Any], name: str, kind: type[T], path: Path) -> T:
    """An entry of a file's metadata.

    Raises:
        UserError: there is none, or it is of another type.
    """
    value = metadata.get(name)
    if type(value) is not kind:
        raise UserError(f"{path}: its metadata have no {name}, or one of another type; make it again")
    return value
