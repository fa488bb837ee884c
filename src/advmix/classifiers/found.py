"""Other people's networks by name: torchvision's, timm's, and whatever a function of the user's makes."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from advmix.classifiers.options import ClassifierOptions
from advmix.errors import UserError


@dataclass(frozen=True, eq=False)
class Found:
    """A network as it was found, and how images are to be brought to it where the user does not say.

    Attributes:
        network: of its maker's conventions.
        identity: what says which it is, beside its weights.
        trained: whether it came with weights.
        mean: subtracted per channel.
        std: divided by per channel.
        size: side in pixels that it wants, or height and width; None for any.
        channels: that it wants; None where unknown.
        outputs: their names; empty where unknown.
        named: whether these names are its classes' own, which the images' must match.
        normalised: whether images may be normalised for it; whole numbers from 0 to 255 are not.
    """

    network: nn.Module
    identity: str
    trained: bool
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: int | tuple[int, int] | None = None
    channels: int | None = None
    outputs: tuple[str, ...] = ()
    named: bool = False
    normalised: bool = True


def from_torchvision(name: str, options: ClassifierOptions) -> Found:
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
        return Found(network, options.classifier, False, size=getattr(network, "image_size", None), channels=3)
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
    return Found(network, options.classifier, True, mean, std, size, 3, names)


def from_timm(name: str, options: ClassifierOptions) -> Found:
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
    return Found(network, options.classifier, trained, mean, std, arguments.get("img_size", size), channels)


def from_factory(options: ClassifierOptions) -> Found:
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
        return Found(maker, options.classifier, True)
    if not callable(maker):
        raise UserError(f"{options.classifier}: a {type(maker).__name__}, not a function")
    return Found(made(options, maker, **options.arguments()), options.classifier, True)


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


def blame(error: BaseException) -> str:
    """An error of somebody's code in one line: kind, message, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)} ({last.filename}, line {last.lineno})"


def one_line(error: BaseException) -> str:
    """Kind and message of an error, the first line of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''}"


def _like(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""
