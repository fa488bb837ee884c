"""NVIDIA's pickles of StyleGAN2: stylegan2-ada-pytorch, and the stylegan3 repository with a StyleGAN2 configuration.

A snapshot is a dictionary with `G`, `D` and `G_ema`. Every module in it is pickled with the source code of its class,
for their loader to execute. Here that code is text that nobody reads: the network is rebuilt from the settings that its
modules state and from its tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from advmix.generators.equalized import RELU_GAIN
from advmix.generators.mapped import unit_length
from advmix.generators.stylegan2 import StyleGan2Config
from advmix.imports.pickles import Maker, RefusedError, read_pickle
from advmix.imports.storages import VALUES, StoredTensor, make_dict

Found = tuple[StyleGan2Config, dict[str, Tensor]]
"""A network's shape, and its tensors by our names."""

RESOLUTIONS = tuple(2**power for power in range(3, 12))
ALIAS_FREE = (
    "a StyleGAN3 (alias-free) network; only StyleGAN2's can be read: use a snapshot trained with --cfg=stylegan2"
)
TENSORFLOW = "a TensorFlow pickle; convert it with legacy.py of NVIDIA's stylegan2-ada-pytorch first"


@dataclass(frozen=True, eq=False)
class Module:
    """A module as its file states it: the name of its class, settings, tensors and inner modules. No code."""

    kind: str
    state: dict[str, Any]
    path: str = "G_ema"

    def _part(self, table: str, name: str) -> Any:
        parts = self.state.get(table)
        return parts.get(name) if isinstance(parts, dict) else None

    def has(self, name: str) -> bool:
        """Whether there is such an inner module."""
        return isinstance(self._part("_modules", name), Module)

    def child(self, name: str) -> Module:
        """The inner module.

        Raises:
            RefusedError: there is none.
        """
        part = self._part("_modules", name)
        if not isinstance(part, Module):
            raise RefusedError(f"{self.path} has no module {name}, as a StyleGAN2 has")
        return Module(part.kind, part.state, f"{self.path}.{name}")

    def optional(self, name: str) -> Tensor | None:
        """A parameter or buffer in float64, or None."""
        for table in ("_parameters", "_buffers"):
            part = self._part(table, name)
            if isinstance(part, StoredTensor):
                return part.tensor().double()
        return None

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer in float64.

        Raises:
            RefusedError: there is none.
        """
        found = self.optional(name)
        if found is None:
            raise RefusedError(f"{self.path} has no tensor {name}, as a StyleGAN2 has")
        return found

    def stated(self, name: str, default: Any = None) -> Any:
        """A setting: an attribute, or where there is none, an argument of the constructor."""
        arguments = self.state.get("_init_kwargs")
        given = arguments.get(name, default) if isinstance(arguments, dict) else default
        return self.state.get(name, given)

    def number(self, name: str) -> float:
        """A setting that is a number.

        Raises:
            RefusedError: it is not stated, or is none.
        """
        value = self.stated(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise RefusedError(f"{self.path} does not state its {name}")
        return value


def make_module(meta: Any) -> Module:
    """What `torch_utils.persistence._reconstruct_persistent_obj` gets; the source code in it is left out."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise RefusedError("a persistent object that is no module")
    return Module(str(meta.get("class_name")), meta["state"])


def _tensorflow(*_: Any) -> Any:
    raise RefusedError(TENSORFLOW)


NAMES: dict[str, Maker] = {
    **VALUES,
    "torch_utils.persistence _reconstruct_persistent_obj": make_module,
    "dnnlib.util EasyDict": make_dict,
    "dnnlib.tflib.network Network": _tensorflow,
}


def read_nvidia(stream: BinaryIO, label: int | None) -> Found:
    """The generator `G_ema` of a snapshot.

    Args:
        stream: the pickle.
        label: the class whose images are wanted, where the generator is conditional.

    Raises:
        RefusedError: anything but a StyleGAN2 generator, or a label that does not fit it.
    """
    content = read_pickle(stream, NAMES)
    network = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(network, Module):
        raise RefusedError("holds no G_ema, as the snapshots of stylegan2-ada-pytorch and stylegan3 do")
    mapping, synthesis = network.child("mapping"), network.child("synthesis")
    if synthesis.has("input"):
        raise RefusedError(ALIAS_FREE)
    resolution = network.number("img_resolution")
    if resolution not in RESOLUTIONS:
        raise RefusedError(f"images of {resolution} pixels; a side must be one of {', '.join(map(str, RESOLUTIONS))}")
    blocks = [synthesis.child(f"b{side}") for side in (4, *RESOLUTIONS) if side <= resolution]
    mapped = _mapping(mapping, label)
    kernel = _kernel(blocks[1:])
    config = StyleGan2Config(
        resolution=int(resolution),
        channels=int(network.number("img_channels")),
        style_dim=int(network.number("w_dim")),
        z_dim=int(network.number("z_dim")),
        mapping=tuple(len(tensor) for name, tensor in mapped.items() if name.endswith("bias")),
        widths=tuple(len(block.child("conv1").tensor("weight")) for block in blocks),
        architecture=blocks[0].stated("architecture"),
        clamp=_clamp(blocks[0].child("conv1")),
        taps=len(kernel),
    )
    return config, {**mapped, "kernel": kernel, **_synthesis(blocks, config.clamp)}


def _mapping(mapping: Module, label: int | None) -> dict[str, Tensor]:
    """The mapping network, of one class where it is conditional: its label goes into the first bias."""
    tensors: dict[str, Tensor] = {}
    for index in range(int(mapping.number("num_layers"))):
        layer = mapping.child(f"fc{index}")
        _check_activation(layer)
        tensors |= _linear(f"mapping.layers.{index}", layer, RELU_GAIN)
    first, z_dim = tensors["mapping.layers.0.weight"], int(mapping.number("z_dim"))
    if z_dim < 1:
        raise RefusedError("makes images of a label alone, without random numbers")
    condition = _condition(mapping, label)
    if condition is not None:
        tensors["mapping.layers.0.bias"] = tensors["mapping.layers.0.bias"] + first[:, z_dim:] @ condition
        tensors["mapping.layers.0.weight"] = first[:, :z_dim]
    mean = mapping.optional("w_avg")
    return tensors if mean is None else {**tensors, "mean_style": mean}


def _condition(mapping: Module, label: int | None) -> Tensor | None:
    """What the mapping layers see of a class, or None where the network knows no classes."""
    classes = int(mapping.number("c_dim"))
    if classes == 0:
        if label is not None:
            raise RefusedError(f"knows no classes, so that --label {label} has no meaning; leave it out")
        return None
    if label is None or not 0 <= label < classes:
        raise RefusedError(f"a conditional generator: name the class of its images with --label 0 to {classes - 1}")
    embedded = _linear("", mapping.child("embed"))
    return unit_length(embedded[".weight"][:, label] + embedded[".bias"])


def _synthesis(blocks: list[Module], clamp: float | None) -> dict[str, Tensor]:
    tensors = {"constant": blocks[0].tensor("const")[None]}
    for level, block in enumerate(blocks):
        if block.stated("architecture") != blocks[0].stated("architecture"):
            raise RefusedError(f"{block.path} has another architecture than {blocks[0].path}")
        for layer, name in ((2 * level - 1, "conv0"), (2 * level, "conv1")):
            if layer >= 0:
                tensors |= _conv(f"convs.{layer}", block.child(name), clamp)
        if block.has("torgb"):
            tensors |= _to_rgb(f"to_rgb.{level}", block.child("torgb"), clamp)
        if block.has("skip"):
            shortcut = block.child("skip")
            gain = shortcut.number("weight_gain") * math.sqrt(0.5)
            tensors[f"shortcuts.{level}.weight"] = shortcut.tensor("weight") * gain
    return tensors


def _conv(name: str, layer: Module, clamp: float | None) -> dict[str, Tensor]:
    _check_activation(layer)
    _check_clamp(layer, clamp)
    tensors = {f"{name}.weight": layer.tensor("weight"), f"{name}.bias": layer.tensor("bias")}
    side = int(layer.number("resolution"))
    noise = torch.zeros(min(side, RESOLUTIONS[-1]), min(side, RESOLUTIONS[-1]))
    if layer.stated("use_noise"):
        noise = layer.tensor("noise_const") * layer.tensor("noise_strength")
    return {**tensors, f"{name}.noise": noise[None, None], **_linear(f"{name}.affine", layer.child("affine"))}


def _to_rgb(name: str, layer: Module, clamp: float | None) -> dict[str, Tensor]:
    _check_clamp(layer, clamp)
    weight = layer.tensor("weight") * layer.number("weight_gain")
    tensors = {f"{name}.conv.weight": weight, f"{name}.conv.bias": layer.tensor("bias")}
    return {**tensors, **_linear(f"{name}.affine", layer.child("affine"))}


def _linear(name: str, layer: Module, gain: float = 1.0) -> dict[str, Tensor]:
    """A fully connected layer, its multipliers and `gain` multiplied in."""
    weight = layer.tensor("weight") * (layer.number("weight_gain") * gain)
    return {f"{name}.weight": weight, f"{name}.bias": layer.tensor("bias") * (layer.number("bias_gain") * gain)}


def _check_activation(layer: Module) -> None:
    if layer.stated("activation") != "lrelu":
        raise RefusedError(f"{layer.path} has the activation {str(layer.stated('activation'))[:40]!r}, not lrelu")


def _clamp(layer: Module) -> float | None:
    return None if layer.stated("conv_clamp") is None else layer.number("conv_clamp")


def _check_clamp(layer: Module, clamp: float | None) -> None:
    if _clamp(layer) != clamp:
        raise RefusedError(f"{layer.path} is clamped at {_clamp(layer)}, other layers at {clamp}")


def _kernel(blocks: list[Module]) -> Tensor:
    """The filter `(T, T)` behind every upsampling."""
    modules = list(blocks)
    for block in blocks:
        modules += [block.child(name) for name in ("conv0", "skip") if block.has(name)]
    found = [module.tensor("resample_filter") for module in modules]
    for module, kernel in zip(modules, found, strict=True):
        if not torch.equal(kernel, found[0]):
            raise RefusedError(f"{module.path} has another resample_filter than {modules[0].path}")
    return found[0].outer(found[0]) if found[0].ndim == 1 else found[0]
