"""NVIDIA's pickles of StyleGAN2: stylegan2-ada-pytorch, and the stylegan3 repository with a StyleGAN2 configuration.

A snapshot is a dictionary with `G`, `D` and `G_ema`. Every module in it is pickled with the source code of its class,
for their loader to execute. Here that code is text that nobody reads: the network is rebuilt from the settings that its
modules state and from its tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from advmix.generators.layers import RELU_GAIN
from advmix.generators.style import DEEPEST
from advmix.generators.stylegan import unit_length
from advmix.generators.stylegan2 import MAX_TAPS, StyleGan2Config
from advmix.pretrained.safe_pickle import Record, RefusedError, refuse_names, shown
from advmix.pretrained.tensors import SHARED, Budget, StoredTensor

Found = tuple[StyleGan2Config, dict[str, Tensor]]
"""A network's shape, and its tensors by our names."""

RESOLUTIONS = tuple(2**power for power in range(3, 12))
ALIAS_FREE = (
    "a StyleGAN3 (alias-free) network; only StyleGAN2's can be read: use a snapshot trained with --cfg=stylegan2"
)
NO_SNAPSHOT = "holds no G_ema, as the snapshots of stylegan2-ada-pytorch and stylegan3 do"
TENSORFLOW = "a TensorFlow pickle; convert it with legacy.py of NVIDIA's stylegan2-ada-pytorch first"


SAVE_AGAIN = "save it as the training does: pickle.dump({'G_ema': G_ema}, file)"
LARGEST = 2**31


@dataclass(frozen=True, eq=False, repr=False)
class Module:
    """A module as its file states it: the name of its class, settings, tensors and inner modules. No code."""

    kind: str
    state: dict[str, Any]
    path: str = "G_ema"
    budget: Budget = field(default_factory=lambda: Budget(0))

    def _part(self, table: str, name: str) -> Any:
        parts = self.state.get(table)
        return parts.get(name) if isinstance(parts, dict) else None

    def has(self, name: str) -> bool:
        """Whether there is such an inner module."""
        return self._part("_modules", name) is not None

    def child(self, name: str) -> Module:
        """The inner module.

        Raises:
            RefusedError: there is none.
        """
        part = self._part("_modules", name)
        refuse_names(part)
        if not isinstance(part, Module):
            raise RefusedError(f"{self.path} has no module {name}, as a StyleGAN2 has")
        return Module(part.kind, part.state, f"{self.path}.{name}", self.budget)

    def _stored(self, name: str) -> Any:
        found = (self._part(table, name) for table in ("_parameters", "_buffers"))
        return next((part for part in found if part is not None), None)

    def optional(self, name: str) -> Tensor | None:
        """A parameter or buffer in float64, or None."""
        stored = self._stored(name)
        return None if stored is None else self.budget.take(f"{self.path}.{name}", stored)

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer in float64.

        Raises:
            RefusedError: there is none.
        """
        found = self.optional(name)
        if found is None:
            raise RefusedError(f"{self.path} has no tensor {name}, as a StyleGAN2 has")
        return found

    def outputs(self) -> int:
        """The first number in the shape of its weight."""
        stored = self._stored("weight")
        if not (isinstance(stored, StoredTensor) and isinstance(stored.size, tuple) and stored.size):
            return len(self.tensor("weight"))
        return int(stored.size[0])

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
        refuse_names(value)
        if type(value) not in (int, float) or not -LARGEST <= value <= LARGEST:
            raise RefusedError(f"{self.path} does not state its {name}")
        number: float = value
        return number

    def whole(self, name: str) -> int:
        """A setting that is a whole number and not negative.

        Raises:
            RefusedError: it is not stated, or is none.
        """
        value = self.number(name)
        if value != int(value) or value < 0:
            raise RefusedError(f"{self.path} states a {name} of {shown(value)}, which is no whole number")
        return int(value)


def make_module(meta: Any = None, *_: Any) -> Module | Record:
    """What `torch_utils.persistence._reconstruct_persistent_obj` gets; the source code in it is left out."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        return Record("torch_utils.persistence _reconstruct_persistent_obj", (meta,))
    return Module(shown(meta.get("class_name")), meta["state"])


def make_tensorflow(*_: Any) -> Any:
    """What `dnnlib.tflib.network.Network` gets.

    Raises:
        RefusedError: always, with what to do.
    """
    raise RefusedError(TENSORFLOW)


def generator_in(content: Any) -> tuple[str, Module] | None:
    """The generator of a snapshot, and what it is called there; None where there are no modules of NVIDIA's.

    It is `G_ema`, the last of `(G, D, G_ema)`, or stands alone.

    Raises:
        RefusedError: several, and it is not said which; or something else in its place.
    """
    if isinstance(content, tuple | list) and len(content) == 3:
        content = dict(zip(("G", "D", "G_ema"), content, strict=True))
    if isinstance(content, Module):
        return "G_ema", content
    if not isinstance(content, dict):
        return None
    if "G_ema" in content and not isinstance(content["G_ema"], dict):
        refuse_whole(content["G_ema"], "G_ema")
    found = {name: part for name, part in content.items() if isinstance(part, Module)}
    alone = [name for name, part in found.items() if part.has("mapping")]
    name = "G_ema" if "G_ema" in found or len(alone) != 1 else alone[0]
    if found and name not in found:
        raise RefusedError(f"{NO_SNAPSHOT}, but {', '.join(map(shown, list(found)[:5]))}; {SAVE_AGAIN}")
    return (str(name), found[name]) if found else None


def refuse_whole(value: Any, place: str) -> None:
    """Refuse what is not made here, where a generator should be.

    Raises:
        RefusedError: a network whose class is not known, with what to do, or any other name.
    """
    if isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state:
        raise RefusedError(
            f"{place} is a whole network of the class {shown(value.kind.replace(' ', '.', 1))}, whose code is not "
            "executed; save its tensors, torch.save({'g_ema': g_ema.state_dict()}, file), or a network of NVIDIA's as "
            "their training does"
        )
    refuse_names(value)


def read_nvidia(network: Module, size: int, label: int | None) -> Found:
    """A generator as our network.

    Args:
        network: the generator, as `generator_in` found it.
        size: bytes of the file.
        label: the class whose images are wanted, where the generator is conditional.

    Raises:
        RefusedError: anything but a StyleGAN2 generator, or a label that does not fit it.
    """
    network = Module(network.kind, network.state, "G_ema", Budget(SHARED * size))
    mapping, synthesis = network.child("mapping"), network.child("synthesis")
    if synthesis.has("input"):
        raise RefusedError(ALIAS_FREE)
    resolution = network.whole("img_resolution")
    if resolution not in RESOLUTIONS:
        raise RefusedError(f"images of {resolution} pixels; a side must be one of {', '.join(map(str, RESOLUTIONS))}")
    blocks = [synthesis.child(f"b{side}") for side in (4, *RESOLUTIONS) if side <= resolution]
    mapped = _mapping(mapping, label)
    kernel = _kernel(blocks[1:])
    config = StyleGan2Config(
        resolution=resolution,
        channels=network.whole("img_channels"),
        style_dim=network.whole("w_dim"),
        z_dim=network.whole("z_dim"),
        mapping=tuple(len(tensor) for name, tensor in mapped.items() if name.endswith("bias")),
        widths=tuple(block.child("conv1").outputs() for block in blocks),
        architecture=_architecture(blocks[0]),
        clamp=_clamp(blocks[0].child("conv1")),
        taps=len(kernel),
    )
    return config, {**mapped, "kernel": kernel, "beside_kernel": kernel, **_synthesis(blocks, config.clamp)}


def _architecture(block: Module) -> Any:
    """As it is stated; which there are is the config's to check."""
    stated = block.stated("architecture")
    refuse_names(stated)
    return stated if isinstance(stated, str) else shown(stated)


def _mapping(mapping: Module, label: int | None) -> dict[str, Tensor]:
    """The mapping network, of one class where it is conditional: its label goes into the first bias."""
    tensors: dict[str, Tensor] = {}
    depth = mapping.whole("num_layers")
    if not 0 < depth <= DEEPEST:
        raise RefusedError(f"a mapping network of {depth:,} layers; 1 to {DEEPEST} are possible")
    for index in range(depth):
        layer = mapping.child(f"fc{index}")
        _check_activation(layer)
        tensors |= _linear(f"mapping.layers.{index}", layer, RELU_GAIN)
    first, z_dim = tensors["mapping.layers.0.weight"], mapping.whole("z_dim")
    if z_dim < 1:
        raise RefusedError("makes images of a label alone, without random numbers")
    condition = _condition(mapping, label)
    if condition is not None:
        tensors["mapping.layers.0.bias"] = tensors["mapping.layers.0.bias"].flatten() + first[:, z_dim:] @ condition
        tensors["mapping.layers.0.weight"] = first[:, :z_dim]
    mean = mapping.optional("w_avg")
    return tensors if mean is None else {**tensors, "mean_style": mean}


def _condition(mapping: Module, label: int | None) -> Tensor | None:
    """What the mapping layers see of a class, or None where the network knows no classes."""
    classes = mapping.whole("c_dim")
    if classes == 0:
        if label is not None:
            raise RefusedError(f"knows no classes, so that --label {label} has no meaning; leave it out")
        return None
    if label is None or not 0 <= label < classes:
        raise RefusedError(f"a conditional generator: name the class of its images with --label 0 to {classes - 1}")
    embedded = _linear("", mapping.child("embed"))
    weight, bias = embedded[".weight"][:, label], embedded[".bias"]
    if weight.shape != bias.shape:
        raise RefusedError(f"{mapping.path}.embed has a bias {tuple(bias.shape)}, not {tuple(weight.shape)}")
    return unit_length(weight + bias)


def _synthesis(blocks: list[Module], clamp: float | None) -> dict[str, Tensor]:
    tensors = {"constant": blocks[0].tensor("const")[None]}
    for level, block in enumerate(blocks):
        if _architecture(block) != _architecture(blocks[0]):
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
    side = min(layer.whole("resolution"), RESOLUTIONS[-1])
    if layer.stated("use_noise") is False:
        noise = torch.zeros(side, side)
    else:
        noise = layer.tensor("noise_const") * one_number(layer.tensor("noise_strength"), f"{layer.path}.noise_strength")
    return {**tensors, f"{name}.noise": noise[None, None], **_linear(f"{name}.affine", layer.child("affine"))}


def one_number(tensor: Tensor, place: str) -> float:
    """A tensor that scales another one.

    Raises:
        RefusedError: it has several numbers.
    """
    if tensor.numel() != 1:
        raise RefusedError(f"{place} is {tuple(tensor.shape)}, not one number")
    return float(tensor)


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
    stated = layer.stated("activation")
    refuse_names(stated)
    if stated != "lrelu":
        raise RefusedError(f"{layer.path} has the activation {shown(stated)}, not lrelu")


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
        if max(kernel.shape, default=0) > MAX_TAPS:
            raise RefusedError(f"{module.path} has a filter of {max(kernel.shape):,} taps; {MAX_TAPS} are possible")
        if not torch.equal(kernel, found[0]):
            raise RefusedError(f"{module.path} has another resample_filter than {modules[0].path}")
    return found[0].outer(found[0]) if found[0].ndim == 1 else found[0]
