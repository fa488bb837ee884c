"""Statistics of batch normalisation: taken anew from unlabelled images, or of a batch that several processes share.

Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation" (2020); Nado et al.,
"Evaluating prediction-time batch normalization for robustness under covariate shift" (2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from advmix.data.images import ImageSet, epoch_batches
from advmix.utils.torch_tools import eval_mode

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LEAST_IMAGES = 100
"""With fewer, statistics of the images are too much by chance, and a classifier that takes them loses accuracy."""


def norm_layers(network: nn.Module) -> list[_BatchNorm]:
    """The layers that normalise by statistics which they keep."""
    layers = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    return [layer for layer in layers if layer.running_mean is not None]


@torch.no_grad()
def estimate_norm(network: nn.Module, images: ImageSet, device: torch.device, seed: int, batch: int = 128) -> None:
    """Put the statistics of these images in the place of those that the normalisation layers keep: the mean over
    batches in random order, each weighted by its images.

    Args:
        network: images `(B, C, H, W)` in [0, 1] to logits, on the device; changed in place, its weights are not.
        images: labels are not looked at.
        device: of the network.
        seed: fixes the order.
        batch: images at once.
    """
    layers, seen = norm_layers(network), 0
    momenta = [layer.momentum for layer in layers]
    with eval_mode(network):
        for index in epoch_batches(len(images), batch, seed, 0):
            seen += len(index)
            for layer in layers:
                layer.train()
                layer.momentum = len(index) / seen
            network(images.batch(index)[0].to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


@contextmanager
def whole_batch_norm(network: nn.Module, fabric: Fabric) -> Iterator[None]:
    """In train mode, layers of batch normalisation take their statistics from the rows of all processes; torch's own
    `SyncBatchNorm` does, too, but on GPUs alone. All processes must run the network alike meanwhile. The layers are
    never compiled: processes that wait for each other in compiled code wait for ever.

    Args:
        network: changed in place, and put back.
        fabric: the processes.
    """
    layers = [part for part in network.modules() if isinstance(part, _BatchNorm)] if fabric.world_size > 1 else []
    for layer in layers:
        layer.forward = torch.compiler.disable(partial(_normalise, layer))  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalise(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What the layer makes of `(B, C, ...)`."""
    if not layer.training:
        kept: Tensor = type(layer).forward(layer, x)
        return kept
    axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    numbers = x.to(torch.promote_types(x.dtype, torch.float32))
    count = _sum_over_processes(numbers.new_tensor(numbers[:, 0].numel()))
    mean = _sum_over_processes(numbers.sum(axes)) / count
    centred = numbers - mean.view(shape)
    variance = _sum_over_processes(centred.square().sum(axes)) / count
    _keep_statistics(layer, mean.detach(), variance.detach() * count / (count - 1))
    normal = centred * (variance + layer.eps).rsqrt().view(shape)
    if layer.affine:
        normal = torch.addcmul(layer.bias.view(shape), normal, layer.weight.view(shape))
    result: Tensor = normal.to(x)
    return result


class _SumOverProcesses(torch.autograd.Function):
    """Every process's loss depends on what every other one has put in: gradients are summed alike."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        """Of tensors of one shape, their sum."""
        total = numbers.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        """Of the sum, to those of what was put in."""
        return _SumOverProcesses.forward(ctx, gradients[0])


def _sum_over_processes(numbers: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(numbers)
    return total


@torch.no_grad()
def _keep_statistics(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """As the layer itself would keep them: the variance is the unbiased one."""
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    layer.num_batches_tracked += 1
    weight = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), weight)
    layer.running_var.lerp_(variance.to(layer.running_var), weight)
