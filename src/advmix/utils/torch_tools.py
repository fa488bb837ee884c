"""One seed fixes everything: every random draw comes from a generator named by the seed and the place of use.

Nothing carries a random state from step to step, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from advmix.utils.errors import UserError


def derive(seed: int, *path: str | int) -> int:
    """A number that depends on the seed and on every part of the path, `derive(0, "train", 17)`.

    Raises:
        UserError: a negative seed, or one of more than 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: must be between 0 and 2^63 - 1")
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in path]
    sequence = [seed, *words, len(words) + 1]  # without the length, a last 0 would make no difference
    return int(np.random.SeedSequence(sequence).generate_state(1, np.uint64)[0]) >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """A fresh CPU random generator for one place of use."""
    return torch.Generator().manual_seed(derive(seed, *path))


class PartGenerator(torch.Generator):
    """A CPU random generator of a process that has some rows of a batch while others have the rest. All of them draw
    the same for the whole batch and take their own rows: what is drawn does not depend on their number.

    >>> rng = part_generator(0, "train", 17, count=64, own=slice(32, 64))
    >>> torch.rand(rows_drawn(rng, 32)[0], generator=rng)[rng.own]

    Attributes:
        count: rows of the whole batch.
        own: those of this process.
    """

    count: int
    own: slice


def part_generator(seed: int, *path: str | int, count: int, own: slice) -> PartGenerator:
    """A fresh one for one place of use."""
    rng = PartGenerator()
    rng.manual_seed(derive(seed, *path))
    rng.count, rng.own = count, own
    return rng


def rows_drawn(rng: torch.Generator | None, count: int) -> tuple[int, slice]:
    """For how many rows to draw where random numbers for `count` are wanted, and which of them these are."""
    if isinstance(rng, PartGenerator) and rng.own.stop - rng.own.start == count:
        return rng.count, rng.own
    return count, slice(None)


def draw_seed(rng: torch.Generator | None) -> int:
    """A seed drawn from `rng` (torch's global generator when None)."""
    return int(torch.randint(2**62, (), generator=rng))


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Run library code that draws from torch's global generator under `seed`, and put the global state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a GPU is not waited for, which has work to do meanwhile."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def unwrap(module: nn.Module) -> nn.Module:
    """The network inside a DDP or Fabric wrapper, so that a search never waits for other processes."""
    while isinstance(module, DistributedDataParallel) or _wrapped_by_fabric(module):
        inner = module.module
        assert isinstance(inner, nn.Module)
        module = inner
    return module


def _wrapped_by_fabric(module: nn.Module) -> bool:
    """Without importing Fabric, which is slow to load: while it is not loaded, nothing is wrapped by it."""
    fabric = sys.modules.get("lightning_fabric.wrappers")
    return fabric is not None and bool(fabric.is_wrapped(module))


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[tuple[nn.Module, ...]]:
    """The unwrapped modules in eval mode; each submodule's own mode comes back at the end, also after an error."""
    inner = tuple(unwrap(module) for module in modules)
    modes = [(part, part.training) for module in inner for part in module.modules()]
    try:
        for module in inner:
            module.eval()
        yield inner
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradients for their weights meanwhile; they go through them."""
    learning = [part for module in modules for part in module.parameters() if part.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_()


def answers(logits: Tensor) -> Tensor:
    """The class with the highest logit, and -1 where there is none: `(B, C)` to `(B,)`.

    A row has no answer where its probabilities are not numbers: one logit is NaN or infinite, or all are minus
    infinity. Such an answer is never right, and never a mistake that somebody made the classifier make.

    Args:
        logits: or probabilities, `(B, C)`.
    """
    return torch.where(logits.softmax(dim=1).isnan().any(dim=1), -1, logits.argmax(dim=1))


def probabilities(logits: Tensor) -> Tensor:
    """`(B, C)` in float64, on the CPU: in float32 those of small or close logits are equal, and their order is lost."""
    return logits.detach().cpu().double().softmax(dim=1)


def mistakes(found: Tensor, labels: Tensor) -> Tensor:
    """Where an answer was given and is wrong: `(B,)` boolean, of `answers` and labels."""
    return (found != labels) & (found >= 0)


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
