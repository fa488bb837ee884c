"""Which classifier, as the command line, a config and a file name it."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from advmix.classifiers.networks import is_pretrained
from advmix.utils.config import Settings, check_values, expanded
from advmix.utils.errors import UserError
from advmix.utils.trust import TRUST

SUFFIXES = (".pt", ".pth", ".ts", ".pt2", ".onnx")
"""Of files that hold a whole network."""


@dataclass(frozen=True)
class ClassifierOptions(Settings):
    """A classifier, whoever made it.

    Args:
        classifier: folder that train wrote; or another's: `torchvision:NAME`, `timm:NAME`, `package.module:factory`, a
            TorchScript .pt, a torch.export .pt2, an .onnx, a folder that Hugging Face's save_pretrained wrote; or a
            .json file that holds these options.
        classifier_args: JSON object of arguments for the network's maker, `{"num_classes": 2}`.
        weights: its weights, safetensors or a torch file of tensors.
        mean: what it wants subtracted per channel, of images in [0, 1].
        std: what it wants them divided by.
        input_size: side in pixels that it wants, or height and width, 64x48; images of another are resized.
        head: which of several outputs has the logits, by its name or number.
        classes: names of its outputs, in their order, where that may not be the order of the images' classes; or which
            outputs are which class, OUTPUT,OUTPUT=CLASS: an output is a name, a number, a range 0-39, or * for all
            others.
        trust_code: whether a function that a file names (a .json, a saved config, a run) may be called, too.
    """

    classifier: str
    classifier_args: str = ""
    weights: Path | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_size: int | str | None = None
    head: str = ""
    classes: tuple[str, ...] = ()
    trust_code: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle()
        self._check_size()
        if not self.merges and len(set(self.classes)) < len(self.classes):
            raise UserError(f"--classes {' '.join(self.classes)}: name each class once")
        self._check_numbers()
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise UserError(f"--mean has {len(self.mean)} numbers and --std {len(self.std)}; give one for each channel")
        self.arguments()

    def _settle(self) -> None:
        """Python may give a path as a name, lists, and a dictionary of arguments."""
        plain: dict[str, Any] = {"classifier": str(self.classifier)}
        plain |= {name: tuple(getattr(self, name)) for name in ("mean", "std", "classes")}
        if isinstance(self.classifier_args, dict):
            plain["classifier_args"] = json.dumps(self.classifier_args)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def _check_size(self) -> None:
        if isinstance(self.input_size, str) and not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})?", self.input_size):
            raise UserError(f"--input-size {self.input_size}: write a side in pixels, 64, or height and width, 64x48")
        if not isinstance(self.input_size, str):
            check_values(self, "input_size", least=1)

    def _check_numbers(self) -> None:
        """Mean and standard deviation are of images in [0, 1]."""
        given = {"mean": self.mean, "std": self.std}
        for name, values in given.items():
            if not all(map(math.isfinite, values)):
                raise UserError(f"--{name} {_listed(values)}: every number must be finite")
        if any(value <= 0 for value in self.std):
            raise UserError(f"--std {_listed(self.std)}: every number must be more than 0")
        if any(abs(value) > 1 for values in given.values() for value in values):
            told = " ".join(f"--{name} {_listed(values)}" for name, values in given.items() if values)
            divided = {name: [value / 255 for value in values] for name, values in given.items()}
            better = " ".join(f"--{name} {_listed(values, 3)}" for name, values in divided.items() if values)
            raise UserError(f"{told}: meant for images from 0 to 255, but these are in [0, 1]; divide by 255: {better}")

    @property
    def size(self) -> int | tuple[int, int] | None:
        """Side in pixels, or height and width where they differ."""
        if not isinstance(self.input_size, str):
            return self.input_size
        height, _, width = self.input_size.partition("x")
        return int(height) if width in ("", height) else (int(height), int(width))

    @property
    def merges(self) -> bool:
        """Whether the classes say which outputs they are."""
        return bool(self.classes) and all("=" in entry for entry in self.classes)

    @property
    def folder(self) -> Path | None:
        """The folder that train wrote, where one is named."""
        path = expanded(self.classifier, "classifier")
        return path if path.is_dir() and not is_pretrained(path) else None

    @property
    def flags(self) -> list[str]:
        """The flags by which more is said than which classifier."""
        more = [field.name for field in fields(ClassifierOptions) if field.name not in ("classifier", TRUST)]
        return [f"--{name.replace('_', '-')}" for name in more if getattr(self, name)]

    @property
    def is_bare(self) -> bool:
        """Whether nothing is said but which classifier."""
        return not self.flags

    def arguments(self) -> dict[str, Any]:
        """What the network's maker is called with.

        Raises:
            UserError: not a JSON object.
        """
        try:
            arguments = json.loads(self.classifier_args or "{}")
        except (ValueError, RecursionError) as error:
            raise UserError(f"--classifier-args {self.classifier_args}: not JSON ({error})") from error
        if not isinstance(arguments, dict):
            raise UserError(
                f"""--classifier-args {self.classifier_args}: must be a JSON object like {{"num_classes": 2}}"""
            )
        return arguments


def _listed(values: Iterable[float], digits: int = 6) -> str:
    return " ".join(f"{value:.{digits}g}" for value in values)


REST = "*"

SHOWN = 20


def groups_of(
    entries: Sequence[str], outputs: int, names: Sequence[str] = (), independent: bool = False
) -> dict[str, list[int]]:
    """The outputs of each class, in the order of the entries.

    Args:
        entries: `OUTPUT,OUTPUT=CLASS`; an output is a name, a number, a range `0-39`, or `*` for all that no other
            entry names. A class may have several entries.
        outputs: how many there are, K.
        names: of the outputs; empty where unknown.
        independent: whether each says yes or no on its own; then `*` stands for no to all that are named, and is empty.

    Returns:
        Numbers of outputs by class; those that no entry names are left out.

    Raises:
        UserError: an output that is not there, or in two classes; or fewer than two classes.
    """
    found: dict[str, list[int]] = {}
    rest = ""
    for entry in entries:
        left, _, name = entry.partition("=")
        if not left or not name:
            raise UserError(f"--classes {entry}: write OUTPUT,OUTPUT=CLASS")
        found.setdefault(name, [])
        if left == REST:
            rest = name
        else:
            found[name] += _outputs(left, entry, outputs, names)
    taken = [number for numbers in found.values() for number in numbers]
    twice = sorted({number for number in taken if taken.count(number) > 1})
    if twice:
        raise UserError(f"--classes {' '.join(entries)}: output {twice[0]} is named twice")
    if rest and not independent:
        found[rest] += [number for number in range(outputs) if number not in taken]
    if len(found) < 2:
        raise UserError(f"--classes {' '.join(entries)}: a single class; name two or more")
    return found


def _outputs(left: str, entry: str, outputs: int, names: Sequence[str]) -> list[int]:
    """The numbers that stand left of an equals sign; a name may have commas of its own."""
    whole = _output(left, names)
    if whole is not None:
        return [whole]
    numbers: list[int] = []
    for part in left.split(","):
        named, span = _output(part.strip(), names), re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if named is not None:
            numbers.append(named)
        elif span and int(span[1]) <= int(span[2] or span[1]) < outputs:
            numbers += range(int(span[1]), int(span[2] or span[1]) + 1)
        else:
            raise UserError(f"--classes {entry}: no output {part.strip()}; {_there(part.strip(), outputs, names)}")
    return numbers


def _output(name: str, names: Sequence[str]) -> int | None:
    """The number of the output that is called so, in capitals or not."""
    for known, wanted in ((list(names), name), ([one.casefold() for one in names], name.casefold())):
        if known.count(wanted) == 1:
            return known.index(wanted)
    return None


def _there(name: str, outputs: int, names: Sequence[str]) -> str:
    numbered = f"they are numbered 0 to {outputs - 1}"
    if not names:
        return numbered
    close = difflib.get_close_matches(name, names, SHOWN) if len(names) > SHOWN else list(names)
    listed = ", ".join(close or list(names)[:SHOWN])
    return f"{numbered}, and called {listed}{' and so on' if len(names) > SHOWN else ''}"
