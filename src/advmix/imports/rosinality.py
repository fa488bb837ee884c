"""Checkpoints of rosinality's stylegan2-pytorch: `g_ema`, a state dictionary, and perhaps `latent_avg`.

They are read by torch itself, tensors and plain values alone. The shape of the network follows from the tensors.
"""

from __future__ import annotations

import argparse
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.generators.equalized import RELU_GAIN
from advmix.generators.stylegan2 import StyleGan2Config
from advmix.imports.nvidia import RESOLUTIONS, Found
from advmix.imports.pickles import RefusedError, first_line
from advmix.imports.storages import MAX_FILE, MAX_TENSOR

MAPPING_LR = 0.01
"""Learning rate of the mapping network relative to the rest's, `lr_mlp`: the file does not state it."""
UP = 4
"""Their filters have the gain of the upsampling multiplied in."""

SHARED = 2
"""Tensors of a network do not share their numbers; a filter may. Together they are at most so many times as large as
what is stored: else a small file with many names would fill the memory.
"""


def read_rosinality(path: Path) -> Found:
    """The generator `g_ema` of a checkpoint.

    Raises:
        RefusedError: anything else.
    """
    content = _load(path)
    state = content.get("g_ema") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise RefusedError("holds no g_ema, as the checkpoints of rosinality's stylegan2-pytorch do")
    tensors = _network(State({str(name): tensor for name, tensor in state.items()}))
    mean = content.get("latent_avg")
    if mean is not None:
        tensors["mean_style"] = _checked("latent_avg", mean).flatten()
    return _config(tensors), tensors


def _load(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE:
                raise RefusedError(f"more than {MAX_FILE >> 30} GiB when unpacked")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or hostile file; all mean the same to a user
        named = re.search(r"GLOBAL (\S{1,80})", str(error))
        reason = f"names {named[1]!r}" if named else first_line(error)
        raise RefusedError(f"not a checkpoint of tensors and plain values alone, or damaged ({reason})") from error


def _checked(name: str, tensor: Any) -> Tensor:
    """A tensor in float64, once it is known to be no larger than what is stored of it."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
        raise RefusedError(f"{name[:60]!r} is not a tensor of numbers")
    size = tensor.numel() * tensor.element_size()
    if size > min(MAX_TENSOR, tensor.untyped_storage().nbytes()):
        raise RefusedError(f"{name[:60]!r} has {tensor.numel():,} numbers, more than are stored or can be read")
    return tensor.double()


class State(dict[str, Any]):
    """Tensors by name, each checked and made float64 when it is asked for; a missing one is refused by its name.

    Raises:
        RefusedError: together they are larger than what is stored of them: many names for the same numbers.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        tensors = [value for value in values.values() if isinstance(value, Tensor) and value.layout == torch.strided]
        storages = [tensor.untyped_storage() for tensor in tensors]
        stored = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
        sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
        if sum(min(size, one.nbytes()) for size, one in zip(sizes, storages, strict=True)) > SHARED * stored:
            raise RefusedError(f"g_ema has {len(tensors):,} tensors, together more than {SHARED} times what is stored")

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise RefusedError(f"g_ema has no tensor {name}, as a generator of stylegan2-pytorch has")
        return _checked(name, super().__getitem__(name))


def _config(tensors: dict[str, Tensor]) -> StyleGan2Config:
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("convs."))
    widths = tuple(len(tensors[f"convs.{layer}.weight"]) for layer in range(0, layers, 2))
    mapping = [len(tensor) for name, tensor in tensors.items() if re.fullmatch(r"mapping\.layers\.\d+\.bias", name)]
    return StyleGan2Config(
        resolution=4 * 2 ** (len(widths) - 1),
        channels=len(tensors["to_rgb.0.conv.bias"]),
        style_dim=tensors["convs.0.affine.weight"].shape[1],
        z_dim=tensors["mapping.layers.0.weight"].shape[1],
        mapping=tuple(mapping),
        widths=widths,
        taps=len(tensors["kernel"]),
    )


def _network(state: State) -> dict[str, Tensor]:
    """All tensors by our names, multipliers multiplied in."""
    levels = 1 + len({name.split(".")[1] for name in state if name.startswith("to_rgbs.")})
    if levels < 2 or 4 * 2 ** (levels - 1) > RESOLUTIONS[-1]:
        raise RefusedError(f"g_ema has RGB outputs at {levels} resolutions, which no StyleGAN2 has")
    tensors = {"constant": state["input.input"]}
    for index in range(len({name.split(".")[1] for name in state if name.startswith("style.")})):
        weight, bias = state[f"style.{index + 1}.weight"], state[f"style.{index + 1}.bias"]
        gain = MAPPING_LR * RELU_GAIN
        tensors[f"mapping.layers.{index}.weight"] = weight * (gain / math.sqrt(weight.shape[1]))
        tensors[f"mapping.layers.{index}.bias"] = bias * gain
    for layer in range(2 * levels - 1):
        tensors |= _conv(state, layer)
    for level in range(levels):
        tensors |= _to_rgb(state, level)
    return {**tensors, "kernel": _kernel(state, levels)}


def _conv(state: State, layer: int) -> dict[str, Tensor]:
    source, name = f"convs.{layer - 1}" if layer else "conv1", f"convs.{layer}"
    drawn, side = f"noises.noise_{layer}", 4 * 2 ** ((layer + 1) // 2)
    # a generator that only ever drew its noise is searched without
    noise = state[drawn] if drawn in state else torch.zeros(1, 1, side, side)
    return {
        f"{name}.weight": _scaled(state[f"{source}.conv.weight"]),
        f"{name}.bias": state[f"{source}.activate.bias"].flatten(),
        f"{name}.noise": noise * state[f"{source}.noise.weight"],
        **_affine(state, source, name),
    }


def _to_rgb(state: State, level: int) -> dict[str, Tensor]:
    source, name = f"to_rgbs.{level - 1}" if level else "to_rgb1", f"to_rgb.{level}"
    return {
        f"{name}.conv.weight": _scaled(state[f"{source}.conv.weight"]),
        f"{name}.conv.bias": state[f"{source}.bias"].flatten(),
        **_affine(state, source, name),
    }


def _scaled(weight: Tensor) -> Tensor:
    """`(1, O, I, k, k)` to `(O, I, k, k)`, at the scale at which it acts."""
    return weight[0] / math.sqrt(weight[0, 0].numel())


def _affine(state: State, source: str, name: str) -> dict[str, Tensor]:
    weight = state[f"{source}.conv.modulation.weight"]
    return {
        f"{name}.affine.weight": weight / math.sqrt(weight.shape[1]),
        f"{name}.affine.bias": state[f"{source}.conv.modulation.bias"],
    }


def _kernel(state: State, levels: int) -> Tensor:
    names = [
        name
        for level in range(levels - 1)
        for name in (f"convs.{2 * level}.conv.blur.kernel", f"to_rgbs.{level}.upsample.kernel")
    ]
    for name in names:
        if not torch.equal(state[name], state[names[0]]):
            raise RefusedError(f"{name} is another filter than {names[0]}")
    return state[names[0]] / UP
