"""How a network's numbers are computed: in 32 or 16 bits, compiled or not.

Whoever computes asks here what the machine can do, and runs what is computed under what is found here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch

from advmix.utils.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")

PRECISIONS = ("auto", "32", "bf16")
COMPILERS = ("g++", "clang++", "cl")


@dataclass(frozen=True)
class ArithmeticOptions:
    """How networks are computed.

    Args:
        precision: bits of convolutions and matrix products: `32`; `bf16`, 16 of them where a search looks and a network
            is trained, while weights, and all that is counted, keep 32; or `auto`, bf16 where the machine has 16-bit
            arithmetic (a GPU, a CPU with avx512_bf16 or AMX), else 32.
        compile: compile what is computed over and over, by torch.compile: a minute or two before the first step, and a
            C++ compiler on this machine.
    """

    precision: str = "32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"--precision {self.precision}: unknown; choose from {' '.join(PRECISIONS)}")
        if self.compile and not _has_compiler():
            raise UserError("--compile: needs a C++ compiler, and there is no g++; install one, or leave it out")

    def on(self, device: torch.device) -> ArithmeticOptions:
        """The same with `auto` decided for a device."""
        if self.precision != "auto":
            return self
        return replace(self, precision="bf16" if has_bf16(device.type) else "32")

    @property
    def is_reduced(self) -> bool:
        """Whether products have 16 bits; `auto` must have been decided."""
        if self.precision == "auto":
            raise ValueError("precision auto: decide it with on(device)")
        return self.precision == "bf16"

    def reduced(self, device: torch.device) -> AbstractContextManager[object]:
        """What is computed in it has products of this precision; of 32 bits they are what they were."""
        return torch.autocast(device.type, torch.bfloat16) if self.is_reduced else nullcontext()

    def ready(self, function: Callable[P, T]) -> Callable[P, T]:
        """A function of tensors, compiled for the shapes that it meets, or as it is."""
        return torch.compile(function, dynamic=False) if self.compile else function


def exact(device: torch.device) -> AbstractContextManager[object]:
    """What is computed in it has products of its weights' own type, whatever is around it."""
    return torch.autocast(device.type, enabled=False)


def has_bf16(kind: str) -> bool:
    """Whether a kind of device (`cpu`, `cuda`, `mps`) multiplies numbers of 16 bits in hardware. A torch before 2.11
    does not tell of a CPU.
    """
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return kind == "cpu" and any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name)
