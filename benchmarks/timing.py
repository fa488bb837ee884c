"""How benchmarks measure: everything in turn, and the floor that a network's products alone would take."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from advmix.generators.layers import UpsampledConv2d

Name = TypeVar("Name")
Work = Callable[[], object]


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer with an input it sees."""

    module: nn.Conv2d | nn.Linear
    x: Tensor

    def forward(self) -> Tensor:
        with torch.no_grad():
            out: Tensor = self.module(self.x)
        return out

    def backward(self, to_input: bool, to_weight: bool) -> Work:
        """The products of the backward pass alone."""
        module, x = self.module, self.x
        gradient = torch.randn_like(self.forward())
        if isinstance(module, nn.Linear):
            return lambda: (
                gradient @ module.weight if to_input else None,
                gradient.T @ x if to_weight else None,
            )
        mask = [to_input, to_weight, to_weight and module.bias is not None]
        sizes = None if module.bias is None else [module.out_channels]
        kernel, stride, fused = module.weight, list(module.stride), isinstance(module, UpsampledConv2d)
        if isinstance(module, UpsampledConv2d):
            kernel, stride = module.kernel().detach(), [2, 2]
        settings = (stride, list(module.padding), list(module.dilation), fused, [0, 0], module.groups)
        return lambda: torch.ops.aten.convolution_backward(gradient, x, kernel, sizes, *settings, mask)


def layers_of(network: nn.Module, run: Work) -> list[Layer]:
    """The convolutions and linear layers that `run` visits, in order."""
    found: list[Layer] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, _: found.append(Layer(module, inputs[0].detach())))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return found


def in_turn(works: list[Work]) -> Work:
    """All of them, one after the other."""

    def run() -> None:
        for work in works:
            work()

    return run


def measure(works: dict[Name, Work], rounds: int, device: torch.device) -> dict[Name, float]:
    """Median seconds of each, of this process on a CPU; the rounds taken in turn so that a slow moment of the machine
    hits all alike.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[Name, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 2):
        for name, work in works.items():
            gc.collect(0)
            begun = clock()
            for _ in range(3):
                work()
            wait_for(device)
            if turn >= 2:
                seconds[name].append((clock() - begun) / 3)
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def full_products(device: torch.device, full: bool = True) -> Iterator[None]:
    """On a GPU, whether products of 32 bits have all of them, or those of TF32, which is torch's default for
    convolutions; elsewhere there is no such choice.
    """
    if device.type != "cuda":
        yield
        return
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    try:
        products.allow_tf32 = convolutions.allow_tf32 = not full
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
