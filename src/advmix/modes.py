"""Borrowing somebody's network: eval mode inside, every module's own mode back afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.parallel import DistributedDataParallel


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
def evaluating(*modules: nn.Module) -> Iterator[tuple[nn.Module, ...]]:
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
