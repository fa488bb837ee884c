"""Other people's networks by name: torchvision's, timm's, and whatever a function of the user's makes."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from advmix.classifiers.networks import CONFIG
from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import FoundNetwork
from advmix.utils.errors import UserError, blame, one_line
from advmix.utils.files import read_json


def from_torchvision(name: str, options: ClassifierOptions) -> FoundNetwork:
    """A classifier of `torchvision.models`; with `{"weights": "DEFAULT"}` among its arguments, pretrained.

    Raises:
        UserError: no such model or weights, or arguments that it does not take.
    """
    from torchvision import models

    known, arguments = models.list_models(module=models), options.arguments()
    if name not in known:
        raise UserError(f"torchvision:{name}: no such classifier{_like(name, known)}")
    if not arguments.get("weights"):
        network = made(options, models.get_model, name, **arguments)
        return FoundNetwork(network, options.classifier, False, size=getattr(network, "image_size", None), channels=3)
    theirs = models.get_model_weights(name)
    wanted = str(arguments["weights"]).rpartition(".")[2]
    if wanted not in theirs.__members__:
        raise UserError(
            f"--classifier-args {options.classifier_args}: no such weights; use one of {' '.join(theirs.__members__)}"
        )
    network = made(options, models.get_model, name, **arguments | {"weights": theirs[wanted]})
    shape = theirs[wanted].transforms()
    names = tuple(theirs[wanted].meta.get("categories", ()))
    mean, std, size = tuple(shape.mean), tuple(shape.std), shape.crop_size[0]
    return FoundNetwork(network, options.classifier, True, mean, std, size, 3, names)


def from_timm(name: str, options: ClassifierOptions) -> FoundNetwork:
    """A model of timm; with `{"pretrained": true}` among its arguments, pretrained.

    Raises:
        UserError: timm is not there, no such model, or arguments that it does not take.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(f"timm:{name}: needs timm; pip install 'advmix[timm]'") from error
    if ":" not in name and not timm.is_model(name):  # hf-hub:NAME is on the Hub
        raise UserError(f"timm:{name}: no such model{_like(name, timm.list_models())}")
    arguments = options.arguments()
    network = made(options, timm.create_model, name, **arguments)
    shape: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    trained = bool(arguments.get("pretrained"))
    size = shape["input_size"][-1] if trained or shape.get("fixed_input_size") else None
    channels = int(arguments.get("in_chans", 3))
    mean, std = (tuple(shape["mean"]), tuple(shape["std"])) if trained else ((), ())
    return FoundNetwork(network, options.classifier, trained, mean, std, arguments.get("img_size", size), channels)


def from_factory(options: ClassifierOptions) -> FoundNetwork:
    """What a function makes: `package.module:function`, also of a file in the current folder. Its code is executed.

    Raises:
        UserError: it cannot be imported, raises, or makes something else than an `nn.Module`.
    """
    module, _, function = options.classifier.partition(":")
    try:
        maker: Any = import_own(module)
        for part in function.split("."):
            maker = getattr(maker, part)
    except (Exception, SystemExit) as error:
        raise UserError(f"{options.classifier}: cannot be imported: {blame(error)}") from error
    if isinstance(maker, nn.Module):
        return FoundNetwork(maker, options.classifier, True)
    if not callable(maker):
        raise UserError(f"{options.classifier}: a {type(maker).__name__}, not a function")
    return FoundNetwork(made(options, maker, **options.arguments()), options.classifier, True)


def import_own(module: str) -> ModuleType:
    """A module of the user's, also from the folder that the command was started in, as `python -m` would find it."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(module)


def made(options: ClassifierOptions, maker: Callable[..., Any], *words: Any, **arguments: Any) -> nn.Module:
    """What a maker makes.

    Raises:
        UserError: it raises, or makes something else than an `nn.Module`.
    """
    try:
        network = maker(*words, **arguments)
    except (Exception, SystemExit) as error:
        told = f" with {options.classifier_args}" if options.classifier_args else ""
        raise UserError(f"{options.classifier}{told}: raised {blame(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{options.classifier}: made a {type(network).__name__}, not a torch.nn.Module")
    return network


def _like(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""


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


def from_pretrained(folder: Path) -> FoundNetwork:
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
    return FoundNetwork(
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
    config = read_json(folder / CONFIG, edited=True)
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
