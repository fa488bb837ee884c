"""A generator with the encoder that was trained for it, if any, and the file they live in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.encoders.moments_encoder import MomentsEncoder
from advmix.encoders.network import Encoder, NoEncoder, StyleEncoder
from advmix.encoders.statistics_encoder import StatisticsEncoder
from advmix.generators.image_statistics import StatisticsConfig
from advmix.generators.moments import MomentsConfig
from advmix.generators.registry import build_generator, read_network, write_network
from advmix.generators.style import NetworkConfig, StyleConfig
from advmix.latents import Latents
from advmix.utils.config import to_dict
from advmix.utils.errors import UserError
from advmix.utils.files import hexdigest, named, read_tensors, write_tensors
from advmix.utils.progress import read_seconds, write_seconds
from advmix.utils.torch_tools import rebuilt, stated

FILE = "generator.safetensors"
SECONDS = "fit_seconds"


class Autoencoder(nn.Module):
    """`dec(enc(x))`.

    Args:
        config: shape of the generator.
        with_encoder: False for a generator that came without an encoder network; it is encoded for by optimisation.
    """

    def __init__(self, config: NetworkConfig, with_encoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.generator = build_generator(config)
        self.encoder: Encoder = _build_encoder(config) if with_encoder else NoEncoder()

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder network."""
        return not isinstance(self.encoder, NoEncoder)

    @property
    def network_fingerprint(self) -> str | None:
        """Of the encoder network: several may have been trained for one generator. None where there is none."""
        return fingerprint(self.encoder) if self.has_encoder else None

    def resize(self, working_size: int) -> None:
        """Work at another size: of a network that draws images of any size.

        Args:
            working_size: longer side in pixels; larger images are shrunk to it.
        """
        self.config = _resized(self.config, working_size)
        for part in self.modules():
            if hasattr(part, "config"):
                part.config = _resized(part.config, working_size)  # type: ignore[assignment]

    def forward(self, signed: Tensor, *noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct, with noise on the latents on the way.

        Args:
            signed: images `(B, C, H, W)` in [-1, 1].
            noise: what is added to styles and grid, as `draw_noise` returns it; nothing by default.

        Returns:
            Reconstructions around [-1, 1], and the latents' mean square (the sum of styles' and grid's).
        """
        latents, size = self.encode_noisy(signed, *noise)
        return self.generator.decode_signed(latents), size

    def encode_noisy(self, signed: Tensor, *noise: Tensor) -> tuple[Latents, Tensor]:
        """The first half of `forward`: latents with their noise, and the mean square that they had without it."""
        latents = self.encoder.encode_signed(signed)
        size = latents.styles.square().mean()
        if latents.grid is not None:
            size = size + latents.grid.square().mean()
        if noise:
            parts = zip(latents.tensors().values(), noise, strict=True)
            latents = Latents(*(part + more.to(part) for part, more in parts))
        return latents, size

    def draw_noise(
        self, signed: Tensor, deviation: float, seed: int, part: tuple[int, slice] | None = None
    ) -> tuple[Tensor, ...]:
        """Normal noise for the latents of images `(B, C, H, W)` that are not larger than the network works at: of the
        styles and, where there is one, of the grid.

        Args:
            signed: the images.
            deviation: its standard deviation.
            seed: of the noise.
            part: of a batch that several processes share: its size, and which rows of it these are.
        """
        if not deviation:
            return ()
        rng, config = torch.Generator().manual_seed(seed), self.config
        count, own = part or (len(signed), slice(None))
        shapes: list[tuple[int, ...]] = [(count, config.layers, config.style_dim)]
        if config.grid_shape is not None:
            sides = (config.start * side // config.resolution for side in signed.shape[-2:])
            shapes.append((count, config.grid_shape[0], *sides))
        return tuple(deviation * torch.randn(shape, generator=rng)[own].to(signed.device) for shape in shapes)


def _resized(config: Any, working_size: int) -> StyleConfig | MomentsConfig:
    if isinstance(config, MomentsConfig):
        return replace(config, network=replace(config.network, working_size=working_size))
    assert isinstance(config, StyleConfig)
    return replace(config, working_size=working_size)


def _build_encoder(config: NetworkConfig) -> Encoder:
    if isinstance(config, MomentsConfig):
        return MomentsEncoder(config)
    return StatisticsEncoder(config) if isinstance(config, StatisticsConfig) else StyleEncoder(config)


def with_moments(model: Autoencoder) -> Autoencoder:
    """A style network with its encoder, with mean colour and contrast as two more styles."""
    assert isinstance(model.config, StyleConfig)
    found = Autoencoder(MomentsConfig(model.config))
    found.generator.network, found.encoder.network = model.generator, model.encoder
    return found.eval().requires_grad_(False)


def fingerprint(module: nn.Module, config: Any = None) -> str:
    """Sixteen hex digits that change with any weight: latents are only good for the generator that they were made
    for.
    """
    settings = json.dumps(None if config is None else to_dict(config))
    weights = ((name, tensor.cpu().double()) for name, tensor in sorted(module.state_dict().items()))
    return hexdigest(settings, *named(weights))


def save_autoencoder(folder: Path, model: Autoencoder, metadata: dict[str, Any]) -> None:
    """Write `generator.safetensors` into `folder`; the seconds that it took go into a file of their own."""
    own = {**write_network(model.config), "fingerprint": fingerprint(model.generator, model.config)}
    content = {name: value for name, value in metadata.items() if name != SECONDS}
    if metadata.get(SECONDS) is not None:
        write_seconds(folder, **{SECONDS: metadata[SECONDS]})
    write_tensors(folder / FILE, "autoencoder", model.state_dict(), {**own, **content})


READY_MADE = ("statistics", "photo")
"""Generators that are there without fitting any, by the name that stands in the place of a folder."""

DEFAULT_GENERATOR = Path("statistics")
"""Where nothing else is said."""

PHOTO_FILE = Path(__file__).parent.parent / "pretrained" / "photo.safetensors"


def is_ready_made(generator: str | Path) -> bool:
    """Whether this is the name of a ready-made generator: `photo`, `statistics` or `statistics:KIND`.

    Raises:
        UserError: it is one, and the name of a folder with a generator, too.
    """
    name = str(generator).partition(":")[0]
    if name not in READY_MADE:
        return False
    if (Path(generator) / FILE).is_file():
        raise UserError(f"{generator}: a folder here, and a ready-made generator; name the folder by its whole path")
    return True


def load_autoencoder(
    folder: Path, channels: int = 3, working_size: int | None = None
) -> tuple[Autoencoder, dict[str, Any]]:
    """The frozen autoencoder of a `fit` folder, or a ready-made one, in eval mode, and its metadata.

    Args:
        folder: what `fit` wrote, or the name of a ready-made generator.
        channels: of the images, for `statistics`; the others have their own.
        working_size: of `photo`: longer side in pixels above which the change that a mix makes is enlarged.

    Raises:
        UserError: missing, damaged or not ours.
    """
    if not is_ready_made(folder):
        return _read(folder / FILE, read_seconds(folder).get(SECONDS))
    name, _, kind = str(folder).partition(":")
    if name == "statistics":
        model = Autoencoder(StatisticsConfig(kind or "moments", channels)).eval().requires_grad_(False)
        return model, {"fingerprint": fingerprint(model.generator, model.config), "ready_made": str(folder)}
    if kind not in ("", "moments"):
        raise UserError(f"--generator {folder}: photo is of no kind {kind!r}; use photo or photo:moments")
    model, metadata = _read(PHOTO_FILE, None)
    if kind:
        model = with_moments(model)
    if working_size is not None:
        model.resize(working_size)
    mark = fingerprint(model.generator, model.config)
    return model, {**metadata, "fingerprint": mark, "ready_made": str(folder)}


def _read(path: Path, seconds: float | None) -> tuple[Autoencoder, dict[str, Any]]:
    tensors, metadata = read_tensors(path, "autoencoder")
    mark, config = stated(metadata, "fingerprint", str, path), read_network(metadata, str(path))
    has_encoder = any(name.startswith("encoder.") for name in tensors)
    model = rebuilt(lambda: Autoencoder(config, has_encoder), tensors, path, "the network that it names")
    if fingerprint(model.generator, config) != mark:
        raise UserError(f"{path}: the weights do not match their fingerprint; make it again")
    return model.requires_grad_(False), {**metadata, SECONDS: seconds}
