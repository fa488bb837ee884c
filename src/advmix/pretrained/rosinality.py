"""Checkpoints of rosinality's stylegan2-pytorch: `g_ema`, a state dictionary, and perhaps `latent_avg` and `args`.

The shape of the network follows from the tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.generators.layers import RELU_GAIN
from advmix.generators.style import DEEPEST
from advmix.generators.stylegan2 import MAX_TAPS, StyleGan2Config
from advmix.pretrained.nvidia import LARGEST, NO_SNAPSHOT, RESOLUTIONS, SAVE_AGAIN, Found, one_number, refuse_whole
from advmix.pretrained.safe_pickle import Record, RefusedError, shown
from advmix.pretrained.tensors import SHARED, Budget

MAPPING_LR = 0.01
"""Learning rate of the mapping network relative to the rest's, `lr_mlp`, where nothing says another one."""
LIKELY = (0.7, 1.8)
"""Weights of the mapping network begin with a standard deviation of `1 / lr_mlp`, which training raises a little: the
factors that are possible.
"""
UP = 4
"""Their filters have the gain of the upsampling multiplied in."""
FIRST = "input.input"
"""A name that every generator of theirs has."""
LEVELS = 4
"""Of dictionaries in dictionaries where tensors are looked for."""
GUESSED = (
    f"the file does not state the learning rate of its mapping network (lr_mlp): {MAPPING_LR} is taken, as in "
    "stylegan2-pytorch; --mapping-lr names another one"
)
NO_GENERATOR = f"{NO_SNAPSHOT}, and no g_ema, as the checkpoints of rosinality's stylegan2-pytorch do"


@dataclass(frozen=True, eq=False)
class StateDict:
    """Tensors by name, without the prefix that their file puts before them all.

    Attributes:
        values: all that the file's dictionary has, by name.
        prefix: before the names of the generator's.
        place: what the dictionary is called in the file.
        budget: what takes the tensors.
        beside: `latent_avg`, or None.
        args: the training's options, or None.
    """

    values: dict[str, Any]
    prefix: str
    place: str
    budget: Budget
    beside: Any
    args: Any

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.values

    def names(self, begin: str) -> set[str]:
        """The parts behind `begin` in all names that begin so, up to the next dot."""
        begin = self.prefix + begin
        return {name[len(begin) :].split(".")[0] for name in self.values if name.startswith(begin)}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise RefusedError(f"{self.place} has no tensor {name}, as a generator of stylegan2-pytorch has")
        return self.budget.take(repr(name[:60]), self.values[self.prefix + name])

    def stated_lr(self) -> float | None:
        """The learning rate of the mapping network among the training's options."""
        options = self.args.state if isinstance(self.args, Record) else self.args
        stated = options.get("lr_mlp") if isinstance(options, dict) else None
        if stated is not None and (type(stated) not in (int, float) or not 0 < stated < LARGEST):
            raise RefusedError(f"its args state an lr_mlp of {shown(stated)}, which is no number above 0")
        return stated


def state_in(content: Any, size: int) -> StateDict:
    """The tensors of a checkpoint's generator: `g_ema`, or the only ones that are those of a generator.

    Args:
        content: of the file.
        size: its bytes.

    Raises:
        RefusedError: none, or several and it is not said which.
    """
    if not isinstance(content, dict):
        refuse_whole(content, "it")
        raise RefusedError(NO_GENERATOR)
    found = {".".join((*path, *prefix.split(".")[:-1])): (part, prefix) for path, part, prefix in _generators(content)}
    given = content.get("g_ema")
    if given is not None and not isinstance(given, dict):
        refuse_whole(given, "g_ema")
    chosen = [place for place in found if place.split(".")[0] == "g_ema"]
    if not chosen and given is None:
        chosen = [place for place in found if "ema" in place.lower()] or list(found)
    if len(chosen) > 1:
        raise RefusedError(
            f"holds several generators, {', '.join(chosen[:5])[:120]}; save one of them as {{'g_ema': ...}}"
        )
    if not chosen:
        _refuse_others(content)
    place = chosen[0]
    values, prefix = found[place]
    mean = content.get("latent_avg", values.get("latent_avg"))
    named = {name: value for name, value in values.items() if isinstance(name, str)}
    return StateDict(named, prefix, place[:80] or "the file", Budget(SHARED * size), mean, content.get("args"))


def _generators(content: dict[Any, Any]) -> Iterator[tuple[tuple[str, ...], dict[Any, Any], str]]:
    """Dictionaries with tensors of a generator, up to `LEVELS` deep: where, and the prefix of their names."""
    level: list[tuple[tuple[str, ...], dict[Any, Any]]] = [((), content)]
    seen = set()
    for _ in range(LEVELS):
        inner = []
        for path, part in level:
            yield from ((path, part, name.removesuffix(FIRST)) for name in map(str, part) if name.endswith(FIRST))
            for name, value in part.items():
                if isinstance(value, dict) and id(value) not in seen:
                    seen.add(id(value))
                    inner.append(((*path, str(name)[:40]), value))
        level = inner


def _refuse_others(content: dict[Any, Any]) -> None:
    """Say what a file holds instead of a generator.

    Raises:
        RefusedError: always.
    """
    if any(str(name).endswith("synthesis.b4.const") for name in content):
        raise RefusedError(f"tensors of stylegan2-ada-pytorch without the settings of their network; {SAVE_AGAIN}")
    if isinstance(content.get("g_ema"), dict):
        raise RefusedError(f"g_ema has no tensor {FIRST}, as a generator of stylegan2-pytorch has")
    held = ", ".join(shown(name) for name in list(content)[:5]) or "nothing"
    raise RefusedError(f"{NO_GENERATOR}, but {held}")


def read_rosinality(state: StateDict, mapping_lr: float | None = None) -> tuple[Found, list[str]]:
    """A generator as our network, and what is to be said about it.

    Args:
        state: its tensors.
        mapping_lr: learning rate of the mapping network relative to the rest's, where the file does not state it.

    Raises:
        RefusedError: anything but a StyleGAN2 generator.
    """
    if any("iwt." in name or "dwt." in name for name in state.values):
        raise RefusedError("a SWAGAN, which draws wavelets and not pixels; only StyleGAN2's can be read")
    multiplier = _multiplier(state, mapping_lr)
    tensors = _network(state, multiplier)
    if state.beside is not None:
        tensors["mean_style"] = state.budget.take("latent_avg", state.beside)
    return (_config(tensors), tensors), [GUESSED] if multiplier is None else []


def _multiplier(state: StateDict, given: float | None) -> float | None:
    """Learning rate of the mapping network, or None where nothing says it."""
    stated = state.stated_lr()
    if stated is not None and given not in (None, stated):
        raise RefusedError(f"states that its mapping network has a lr_mlp of {stated}; leave --mapping-lr out")
    return given if stated is None else stated


def _check_guess(weights: list[Tensor]) -> None:
    """Refuse to guess where the weights of the mapping network do not look like the guess."""
    spread = float(torch.cat([weight.flatten() for weight in weights]).square().mean().sqrt())
    if not LIKELY[0] < spread * MAPPING_LR < LIKELY[1]:
        raise RefusedError(
            "does not state the learning rate of its mapping network (lr_mlp), whose weights look more like "
            f"{1 / max(spread, 1e-9):.2g} than {MAPPING_LR}, as in stylegan2-pytorch; name it with --mapping-lr"
        )


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


def _network(state: StateDict, multiplier: float | None) -> dict[str, Tensor]:
    """All tensors by our names, multipliers multiplied in."""
    levels = 1 + len(state.names("to_rgbs."))
    if not 2 <= levels <= 1 + len(RESOLUTIONS):
        raise RefusedError(f"{state.place} has RGB outputs at {levels} resolutions, which no StyleGAN2 has")
    tensors = {"constant": state[FIRST], **_mapping(state, multiplier)}
    for layer in range(2 * levels - 1):
        tensors |= _conv(state, layer)
    for level in range(levels):
        tensors |= _to_rgb(state, level)
    return {**tensors, **_kernels(state, levels)}


def _mapping(state: StateDict, multiplier: float | None) -> dict[str, Tensor]:
    depth = len(state.names("style."))
    if not 0 < depth <= DEEPEST:
        raise RefusedError(f"{state.place} has a mapping network of {depth:,} layers; 1 to {DEEPEST} are possible")
    weights = [state[f"style.{index + 1}.weight"] for index in range(depth)]
    if multiplier is None:
        _check_guess(weights)
    tensors, gain = {}, (multiplier or MAPPING_LR) * RELU_GAIN
    for index, weight in enumerate(weights):
        tensors[f"mapping.layers.{index}.weight"] = weight * (gain / math.sqrt(weight.shape[1]))
        tensors[f"mapping.layers.{index}.bias"] = state[f"style.{index + 1}.bias"] * gain
    return tensors


def _conv(state: StateDict, layer: int) -> dict[str, Tensor]:
    source, name = f"convs.{layer - 1}" if layer else "conv1", f"convs.{layer}"
    drawn, side = f"noises.noise_{layer}", 4 * 2 ** ((layer + 1) // 2)
    # a generator that only ever drew its noise is searched without
    noise = state[drawn] if drawn in state else torch.zeros(1, 1, side, side)
    return {
        f"{name}.weight": _scaled(state[f"{source}.conv.weight"]),
        f"{name}.bias": state[f"{source}.activate.bias"].flatten(),
        f"{name}.noise": noise * one_number(state[f"{source}.noise.weight"], f"{source}.noise.weight"),
        **_affine(state, source, name),
    }


def _to_rgb(state: StateDict, level: int) -> dict[str, Tensor]:
    source, name = f"to_rgbs.{level - 1}" if level else "to_rgb1", f"to_rgb.{level}"
    return {
        f"{name}.conv.weight": _scaled(state[f"{source}.conv.weight"]),
        f"{name}.conv.bias": state[f"{source}.bias"].flatten(),
        **_affine(state, source, name),
    }


def _scaled(weight: Tensor) -> Tensor:
    """`(1, O, I, k, k)` to `(O, I, k, k)`, at the scale at which it acts."""
    return weight[0] / math.sqrt(weight[0, 0].numel())


def _affine(state: StateDict, source: str, name: str) -> dict[str, Tensor]:
    weight = state[f"{source}.conv.modulation.weight"]
    return {
        f"{name}.affine.weight": weight / math.sqrt(weight.shape[1]),
        f"{name}.affine.bias": state[f"{source}.conv.modulation.bias"],
    }


def _kernels(state: StateDict, levels: int) -> dict[str, Tensor]:
    """The filters behind the convolutions and behind the RGB outputs, which may differ: both `(T, T)`."""
    convs = _filter(state, [f"convs.{2 * level}.conv.blur.kernel" for level in range(levels - 1)])
    images = _filter(state, [f"to_rgbs.{level}.upsample.kernel" for level in range(levels - 1)])
    taps = max(len(convs), len(images))
    return {"kernel": _padded(convs, taps), "beside_kernel": _padded(images, taps)}


def _filter(state: StateDict, names: list[str]) -> Tensor:
    first = state[names[0]]
    if first.ndim != 2 or first.shape[0] != first.shape[1] or not 2 <= len(first) <= MAX_TAPS or len(first) % 2:
        raise RefusedError(
            f"{names[0]} is {tuple(first.shape)}; square filters of an even number of taps, 2 to {MAX_TAPS}, are known"
        )
    for name in names[1:]:
        if not torch.equal(state[name], first):
            raise RefusedError(f"{name} is another filter than {names[0]}")
    return first / UP


def _padded(kernel: Tensor, taps: int) -> Tensor:
    """The same filter with more taps, `(T, T)`: zeros around it, on every side as many."""
    return F.pad(kernel, [(taps - len(kernel)) // 2] * 4)
