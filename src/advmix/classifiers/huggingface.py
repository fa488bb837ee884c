"""Image classifiers that `save_pretrained` of Hugging Face's transformers wrote into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.classifiers.folders import CONFIG
from advmix.classifiers.found import Found, one_line
from advmix.errors import UserError
from advmix.files import read_json

PROCESSOR = "preprocessor_config.json"
LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Nothing is fetched, and no code that a folder brings is executed."""


class Reversed(nn.Module):
    """A network that wants blue before green before red."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        """Images `(B, C, H, W)` to what the network answers."""
        return self.network(images.flip(1))


def from_pretrained(folder: Path) -> Found:
    """The network in a folder, with the normalisation, size and class names that it brings.

    Raises:
        UserError: transformers is not there, it is no image classifier, or its weights are not all there.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"{folder}: needs transformers; pip install 'advmix[transformers]'") from error
    with _quiet(transformers):
        network = _network(transformers, folder)
        shape = _processor(transformers, folder) if (folder / PROCESSOR).is_file() else None
    config: Any = network.config
    channels = getattr(config, "num_channels", None)
    mean, std = _normalisation(shape)
    own = getattr(config, "image_size", None)
    size = next((one for one in (_size(shape), _sides(own)) if one and _takes(network, one, channels or 3)), None)
    names = tuple(str(name) for _, name in sorted((config.id2label or {}).items()))
    made_up = all(name == f"LABEL_{number}" for number, name in enumerate(names))
    return Found(
        Reversed(network) if getattr(shape, "do_flip_channel_order", None) else network,
        f"transformers:{type(network).__name__}",
        True,
        mean[:channels],
        std[:channels],
        size,
        channels,
        () if made_up else names,
        not made_up,
    )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Errors are ours to tell; everything else is told by our own line."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _network(transformers: Any, folder: Path) -> Any:
    try:
        network, info = transformers.AutoModelForImageClassification.from_pretrained(
            folder, output_loading_info=True, **LOCAL
        )
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"{folder}: {_reason(error, folder)}") from error
    lacking = [*info["missing_keys"], *info["mismatched_keys"]]
    if lacking:
        raise UserError(
            f"{folder}: lacks {len(lacking)} of the weights of {type(network).__name__}, {lacking[0]} first; save the "
            "trained classifier with save_pretrained"
        )
    return network


def _reason(error: Exception, folder: Path) -> str:
    config = read_json(folder / CONFIG)
    if "trust_remote_code" in str(error) or "auto_map" in config:
        return "needs Python code that it brings, which is not executed; name a function that makes it"
    if "weights_only" in str(error):
        return "its weights hold more than tensors, which is not unpickled; save it again as safetensors"
    if "Unrecognized configuration" in str(error):
        return f"{config.get('model_type')} is no image classifier of transformers"
    return f"cannot be loaded by transformers ({one_line(error)})"


def _processor(transformers: Any, folder: Path) -> Any:
    try:
        return transformers.AutoImageProcessor.from_pretrained(folder, **LOCAL)
    except Exception as error:
        raise UserError(f"{folder / PROCESSOR}: cannot be read by transformers ({one_line(error)})") from error


def _normalisation(shape: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for images in [0, 1], from those of whole numbers that are rescaled first."""
    if shape is None:
        return (), ()
    scale = 255 * (shape.rescale_factor or 1 / 255) if shape.do_rescale else 255.0
    offset = 1.0 if getattr(shape, "rescale_offset", None) else 0.0
    mean, std = (shape.image_mean, shape.image_std) if shape.do_normalize else ([0.0], [1.0])
    mean, std = (value if isinstance(value, list | tuple) else [value] for value in (mean, std))
    return tuple((offset + value) / scale for value in mean), tuple(value / scale for value in std)


def _size(shape: Any) -> int | tuple[int, int] | None:
    """What a processor brings images to in the end."""
    if getattr(shape, "do_center_crop", None) and getattr(shape, "crop_size", None):
        return _sides(shape.crop_size)
    return _sides(shape.size) if getattr(shape, "do_resize", None) else None


def _sides(size: Any) -> int | tuple[int, int] | None:
    """A side, or height and width where they differ, from the forms that configs have."""
    if size is None or isinstance(size, int):
        return size
    if isinstance(size, list | tuple):
        height, width = (size[0], size[-1])
    else:
        parts = dict(size)
        height = parts.get("height") or parts.get("shortest_edge")
        width = parts.get("width") or height
    return height if height == width else (height, width)


@torch.no_grad()
def _takes(network: nn.Module, size: int | tuple[int, int], channels: int) -> bool:
    """Whether a network runs on images of a size."""
    height, width = (size, size) if isinstance(size, int) else size
    weight = next(network.parameters())
    try:
        network.eval()(torch.zeros(1, channels, height, width, dtype=weight.dtype))
    except Exception:  # whatever it raises means that it does not
        return False
    return True
