"""Snapshots as stylegan2-ada-pytorch and stylegan3 write them, with tiny networks: the published class names, nesting,
settings and tensor names, pickled by the published scheme. And what these networks draw, written out from the papers.

No code of NVIDIA's is in here. Where a class has a `forward`, it is the literal reading, by `foreign_math`.
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.utils.torch_tools import global_seed
from foreign_math import grouped, lrelu, modulated, resample_filter, unit, upfirdn, upsample2d


class EasyDict(dict[str, Any]):
    """A dictionary whose keys are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise AssertionError("a loader that calls this executes code from the file")


class Persistent(nn.Module):
    """Pickled with the source code of its class, here the one of `Sources`."""

    state: Callable[..., None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._init_args, self._init_kwargs = args, kwargs
        self.state(**kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": Sources.text,
            "class_name": type(self).__name__,
            "state": dict(self.__dict__),
        }
        return _reconstruct_persistent_obj, (meta,), None


class Sources:
    """What a loader would execute."""

    text = "raise SystemExit('executed')"


@contextmanager
def foreign_modules() -> Iterator[None]:
    """Their modules, importable while a snapshot is written."""
    homes: dict[str, Any] = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.util": EasyDict}
    names = [*homes, "torch_utils", "dnnlib"]
    assert not any(name in sys.modules for name in names)
    try:
        for name in names:
            sys.modules[name] = ModuleType(name)
        for name, thing in homes.items():
            setattr(sys.modules[name], thing.__name__, thing)
            thing.__module__ = name
        yield
    finally:
        for name in names:
            del sys.modules[name]


class FullyConnectedLayer(Persistent):
    def state(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
        trainable: bool = True,
    ) -> None:
        self.activation = activation
        self.weight_gain = lr_multiplier / np.sqrt(in_features)
        self.bias_gain = lr_multiplier
        weight = torch.randn(out_features, in_features) / lr_multiplier
        bias = torch.full((out_features,), bias_init) + 0.1 * torch.randn(out_features) / lr_multiplier
        if trainable:
            self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        else:  # layers that stylegan3 froze are buffers
            self.register_buffer("weight", weight)
            self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        out = x @ (self.weight * float(self.weight_gain)).T + self.bias * self.bias_gain
        return lrelu(out) if self.activation == "lrelu" else out


class MappingNetwork(Persistent):
    def state(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        num_layers: int = 8,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.995,
        freeze_layers: int = 0,
        activation: str = "lrelu",
    ) -> None:
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        inner = layer_features or w_dim
        features = [z_dim + (w_dim if c_dim else 0), *[inner] * (num_layers - 1), w_dim]
        if c_dim:
            self.embed = FullyConnectedLayer(in_features=c_dim, out_features=w_dim)
        for index in range(num_layers):
            layer = FullyConnectedLayer(
                in_features=features[index],
                out_features=features[index + 1],
                activation=activation,
                lr_multiplier=lr_multiplier,
                trainable=index >= freeze_layers,
            )
            setattr(self, f"fc{index}", layer)
        if w_avg_beta is not None:
            self.register_buffer("w_avg", torch.randn(w_dim))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = unit(z)
        if self.c_dim:
            assert c is not None
            x = torch.cat([x, unit(self.embed(c))], dim=1)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        assert isinstance(x, Tensor)
        return x


class SynthesisLayer(Persistent):
    resample_filter: Tensor
    noise_const: Tensor

    def state(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        taps: Any = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ) -> None:
        self.resolution, self.up, self.use_noise, self.activation = resolution, up, use_noise, activation
        self.conv_clamp, self.padding, self.act_gain = conv_clamp, 1, np.sqrt(2)
        self.register_buffer("resample_filter", resample_filter(taps))
        self.affine = FullyConnectedLayer(in_features=w_dim, out_features=in_channels, bias_init=1.0)
        memory = torch.channels_last if channels_last else torch.contiguous_format
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3).to(memory_format=memory))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.randn([]) * 0.3)
        self.bias = nn.Parameter(torch.randn(out_channels) * 0.3)

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        weights = modulated(x, self.weight, self.affine(w), demodulate=True)
        if self.up == 2:  # a convolution, not a correlation: flipped
            taps = len(self.resample_filter)
            x = upfirdn(x, self.resample_filter, 2, 1 + (taps + 1) // 2, 1 + (taps - 2) // 2)
            x = grouped(x, weights.flip(3, 4), padding=0)
        else:
            x = grouped(x, weights, padding=1)
        if self.use_noise:
            x = x + self.noise_const * self.noise_strength
        x = lrelu(x + self.bias[:, None, None]) * gain
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp * gain, self.conv_clamp * gain)


class ToRGBLayer(Persistent):
    def state(self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None) -> None:
        self.conv_clamp, self.weight_gain = conv_clamp, 1 / np.sqrt(in_channels)
        self.affine = FullyConnectedLayer(in_features=w_dim, out_features=in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.randn(out_channels) * 0.3)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * float(self.weight_gain)
        x = grouped(x, modulated(x, self.weight, style, demodulate=False), padding=0) + self.bias[:, None, None]
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class Conv2dLayer(Persistent):
    """Of the residual blocks, and of the discriminator."""

    resample_filter: Tensor

    def state(self, in_channels: int, out_channels: int, up: int = 1, taps: Any = (1, 3, 3, 1)) -> None:
        self.up, self.activation, self.conv_clamp = up, "linear", None
        self.weight_gain = 1 / np.sqrt(in_channels)
        self.register_buffer("resample_filter", resample_filter(taps))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = None

    def forward(self, x: Tensor, gain: float) -> Tensor:
        spread = upsample2d(x, self.resample_filter)
        return F.conv2d(spread, self.weight * float(self.weight_gain)) * gain


class SynthesisBlock(Persistent):
    resample_filter: Tensor

    def state(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        taps: Any = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        **layer_kwargs: Any,
    ) -> None:
        self.in_channels, self.resolution, self.is_last = in_channels, resolution, is_last
        self.architecture, self.use_fp16 = architecture, use_fp16
        self.register_buffer("resample_filter", resample_filter(taps))
        self.num_conv = self.num_torgb = 0
        common = {"w_dim": w_dim, "resolution": resolution, "conv_clamp": conv_clamp, **layer_kwargs}
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels=in_channels, out_channels=out_channels, up=2, taps=taps, **common)
            self.num_conv += 1
        self.conv1 = SynthesisLayer(in_channels=out_channels, out_channels=out_channels, **common)
        self.num_conv += 1
        if is_last or architecture == "skip":
            self.torgb = ToRGBLayer(
                in_channels=out_channels, out_channels=img_channels, w_dim=w_dim, conv_clamp=conv_clamp
            )
            self.num_torgb += 1
        if in_channels and architecture == "resnet":
            self.skip = Conv2dLayer(in_channels=in_channels, out_channels=out_channels, up=2, taps=taps)

    def forward(self, x: Tensor | None, image: Tensor | None, ws: Tensor) -> tuple[Tensor, Tensor | None]:
        styles = iter(ws.unbind(dim=1))
        if x is None:
            x = self.conv1(self.const.expand(len(ws), -1, -1, -1), next(styles))
        elif self.architecture == "resnet":
            shortcut = self.skip(x, math.sqrt(0.5))
            x = self.conv0(x, next(styles))
            x = shortcut + self.conv1(x, next(styles), math.sqrt(0.5))
        else:
            x = self.conv0(x, next(styles))
            x = self.conv1(x, next(styles))
        if image is not None:
            image = upsample2d(image, self.resample_filter)
        if self.num_torgb:
            rgb = self.torgb(x, next(styles))
            image = rgb if image is None else image + rgb
        return x, image


class SynthesisNetwork(Persistent):
    def state(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        **block_kwargs: Any,
    ) -> None:
        self.w_dim, self.img_resolution, self.img_channels, self.num_ws = w_dim, img_resolution, img_channels, 0
        self.block_resolutions = [2**power for power in range(2, img_resolution.bit_length())]
        width = {side: min(channel_base // side, channel_max) for side in self.block_resolutions}
        for side in self.block_resolutions:
            block = SynthesisBlock(
                in_channels=width[side // 2] if side > 4 else 0,
                out_channels=width[side],
                w_dim=w_dim,
                resolution=side,
                img_channels=img_channels,
                is_last=side == img_resolution,
                use_fp16=side > img_resolution // 2**num_fp16_res,
                **block_kwargs,
            )
            self.num_ws += block.num_conv + (block.num_torgb if block.is_last else 0)
            setattr(self, f"b{side}", block)

    def forward(self, ws: Tensor) -> Tensor:
        x, image, first = None, None, 0
        for side in self.block_resolutions:
            block = getattr(self, f"b{side}")
            x, image = block(x, image, ws[:, first : first + block.num_conv + block.num_torgb])
            first += block.num_conv
        assert isinstance(image, Tensor)
        return image


class Generator(Persistent):
    def state(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict[str, Any],
        synthesis_kwargs: dict[str, Any],
    ) -> None:
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(
            w_dim=w_dim, img_resolution=img_resolution, img_channels=img_channels, **synthesis_kwargs
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, num_ws=self.num_ws, **mapping_kwargs)


class Discriminator(Persistent):
    def state(self, img_channels: int) -> None:
        self.fromrgb = Conv2dLayer(in_channels=img_channels, out_channels=4)


def make_network(
    img_resolution: int = 16,
    c_dim: int = 0,
    img_channels: int = 3,
    mapping: dict[str, Any] | None = None,
    seed: int = 0,
    **synthesis: Any,
) -> Generator:
    """Tiny, with random biases and noise, so that a mistake in any of them shows."""
    with global_seed(seed):
        return Generator(
            z_dim=5,
            c_dim=c_dim,
            w_dim=6,
            img_resolution=img_resolution,
            img_channels=img_channels,
            mapping_kwargs=EasyDict(**{"num_layers": 2, **(mapping or {})}),
            synthesis_kwargs=EasyDict(**{"channel_base": 64, "channel_max": 8, **synthesis}),
        )


def write_snapshot(path: Path, network: nn.Module, protocol: int | None = None, **more: Any) -> Path:
    """As the training loops write it: every network in eval mode, frozen, on the CPU; and whatever more."""
    content = {
        "training_set_kwargs": {"class_name": "training.dataset.ImageFolderDataset", "use_labels": False},
        "G": network.eval().requires_grad_(False),
        "D": Discriminator(img_channels=3).eval().requires_grad_(False),
        "G_ema": network,
        "augment_pipe": None,
        **more,
    }
    with foreign_modules(), path.open("wb") as file:
        pickle.dump(content, file, protocol)
    return path
