"""Which classifier, as the command line, a config and a file name it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from advmix.errors import UserError
from advmix.options import expanded, require
from advmix.trust import TRUST


@dataclass(frozen=True)
class ClassifierOptions:
    """A classifier, whoever made it.

    Args:
        classifier: folder that train wrote; or another's: `torchvision:NAME`, `timm:NAME`, `package.module:factory`, a
            TorchScript .pt, a torch.export .pt2, an .onnx; or a .json file that holds these options.
        classifier_args: JSON object of arguments for the network's maker, `{"num_classes": 2}`.
        weights: its weights, safetensors or a torch file of tensors.
        mean: what it wants subtracted per channel, of images in [0, 1].
        std: what it wants them divided by.
        input_size: side in pixels that it wants; images of another are resized.
        classes: names of its outputs, in their order, where that may not be the order of the images' classes.
        trust_code: whether a function that a file names (a .json, a saved config, a run) may be called, too.
    """

    classifier: str
    classifier_args: str = ""
    weights: Path | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_size: int | None = None
    classes: tuple[str, ...] = ()
    trust_code: bool = False

    def __post_init__(self) -> None:
        require(self, "input_size", least=1)
        if len(set(self.classes)) < len(self.classes):
            raise UserError(f"--classes {' '.join(self.classes)}: name each class once")
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise UserError(f"--mean has {len(self.mean)} numbers and --std {len(self.std)}; give one for each channel")
        if any(not value > 0 for value in self.std):
            raise UserError(f"--std {' '.join(map(str, self.std))}: every number must be more than 0")
        self.arguments()

    @property
    def folder(self) -> Path | None:
        """The folder that train wrote, where one is named."""
        path = expanded(self.classifier, "classifier")
        return path if path.is_dir() else None

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
        except ValueError as error:
            raise UserError(f"--classifier-args {self.classifier_args}: not JSON ({error})") from error
        if not isinstance(arguments, dict):
            raise UserError(
                f"""--classifier-args {self.classifier_args}: must be a JSON object like {{"num_classes": 2}}"""
            )
        return arguments
