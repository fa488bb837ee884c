"""The command line: `advmix COMMAND --help`."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import torch
import tyro

from advmix import config as configs
from advmix.errors import UserError
from advmix.stages.audit import run_audit
from advmix.stages.audit_config import AuditConfig
from advmix.stages.data import PreviewConfig, run_preview
from advmix.stages.doctor import DoctorConfig, run_doctor
from advmix.stages.encode import EncodeConfig, run_encode
from advmix.stages.evaluate import EvaluateConfig, run_evaluate
from advmix.stages.export import ExportConfig, run_export
from advmix.stages.fit import FitConfig, run_fit
from advmix.stages.importing import ImportConfig, run_import
from advmix.stages.inspect import InspectConfig, run_inspect
from advmix.stages.predict import PredictConfig, run_predict
from advmix.stages.sample import SampleConfig, run_sample
from advmix.stages.train import TrainConfig, run_train
from advmix.studies.augmentations import AugmentationsConfig, run_augmentations
from advmix.studies.celeba.autoencoders import AutoencodersConfig, run_autoencoders
from advmix.studies.celeba.averaging import FaceMarginalizeConfig, run_face_marginalize
from advmix.studies.celeba.gallery import GalleryConfig, run_gallery
from advmix.studies.celeba.settings import CelebaConfig
from advmix.studies.celeba.study import run_celeba
from advmix.studies.celeba.survival import SurvivalConfig, run_survival
from advmix.studies.colored_mnist import ColoredMnistConfig, run_colored_mnist
from advmix.studies.demo import DemoConfig, run_demo
from advmix.studies.encoding.study import EncodingConfig, run_encoding
from advmix.studies.marginalize.study import MarginalizeConfig, run_marginalize
from advmix.studies.pipeline.study import PipelineConfig, run_pipeline
from advmix.studies.search.study import SearchConfig, run_search
from advmix.studies.toy.study import ToyConfig, run_toy
from advmix.trust import check_trusted, code_in, trusting

Commands = dict[str, tuple[type[Any], Callable[[Any], Any]]]
COMMANDS: Commands = {
    "demo": (DemoConfig, run_demo),
    "data": (PreviewConfig, run_preview),
    "fit": (FitConfig, run_fit),
    "import": (ImportConfig, run_import),
    "sample": (SampleConfig, run_sample),
    "encode": (EncodeConfig, run_encode),
    "train": (TrainConfig, run_train),
    "evaluate": (EvaluateConfig, run_evaluate),
    "inspect": (InspectConfig, run_inspect),
    "audit": (AuditConfig, run_audit),
    "export": (ExportConfig, run_export),
    "predict": (PredictConfig, run_predict),
    "doctor": (DoctorConfig, run_doctor),
}
STUDIES: Commands = {
    "augmentations": (AugmentationsConfig, run_augmentations),
    "celeba": (CelebaConfig, run_celeba),
    "celeba-marginalize": (FaceMarginalizeConfig, run_face_marginalize),
    "celeba-pictures": (GalleryConfig, run_gallery),
    "celeba-survival": (SurvivalConfig, run_survival),
    "colored-mnist": (ColoredMnistConfig, run_colored_mnist),
    "encoding": (EncodingConfig, run_encoding),
    "marginalize": (MarginalizeConfig, run_marginalize),
    "photo-autoencoder": (AutoencodersConfig, run_autoencoders),
    "pipeline": (PipelineConfig, run_pipeline),
    "search": (SearchConfig, run_search),
    "toy": (ToyConfig, run_toy),
}

INTERRUPTED = (
    "advmix: interrupted; what was done is kept: the same command goes on (with --resume, where it has that option)"
)
FULL = (
    "Perhaps other programs use the device too: start fewer processes, or take --device cpu. What was done is kept, as "
    "after an interruption"
)
DESCRIPTION = (
    "Adversarial mixing of disentangled latents. COMMAND --config FILE runs a saved config.json again; "
    "further flags override it."
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Exit code 2 and one line for bad input or a device without memory, 130 for an interruption, 141
    where nobody reads the output any more (`| head`); a bug shows its traceback.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            config = parse(words)
            for kind, run in (*COMMANDS.values(), *STUDIES.values()):
                if isinstance(config, kind):
                    run(config)
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"advmix: {error}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError as error:
        print(f"advmix: {str(error).partition(' GPU ')[0]} {FULL}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        return 141
    return 0


def parse(words: list[str]) -> Any:
    """The command line as one of the config dataclasses; `--config FILE` gives the defaults.

    Raises:
        UserError: whatever tyro refuses, in one line.
    """
    words, saved = _take_config(words)
    study = make_dataclass("Study", [("study", _choice(STUDIES, saved, "study "))], frozen=True)
    study.__doc__ = "The paper's figures and tables, and what could refute them."
    choice: Any = Union[_choice(COMMANDS, saved), Annotated[study, tyro.conf.subcommand("study")]]  # noqa: UP007
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            config: Any = tyro.cli(
                choice,
                prog="advmix",
                description=DESCRIPTION,
                args=words,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            )
            chosen = getattr(config, "study", config)
            _check_code(chosen, words, saved)
            return chosen
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(errors.getvalue())) from None


def _check_code(config: Any, words: list[str], saved: Mapping[str, Any]) -> None:
    """A function that a saved config names is called only where the command line names it too, or trusts the file."""
    plain, said = configs.to_dict(config), {part for word in words for part in (word, word.partition("=")[2])}
    for name in code_in(plain) if saved else ():
        check_trusted(name, "--config", name in said or trusting(plain))


def _choice(commands: Commands, saved: Mapping[str, Any], prefix: str = "") -> Any:
    """The union of the commands' configs, with the saved one as its command's default."""
    members = []
    for name, (kind, _) in commands.items():
        default = {"default": saved[prefix + name]} if prefix + name in saved else {}
        members.append(Annotated[kind, tyro.conf.subcommand(name, **default)])
    return Union[tuple(members)]  # noqa: UP007


def _take_config(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Remove `--config FILE` and read the file as a config of the command."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if "--config" not in words:
        return words, {}
    place = words.index("--config")
    known = {**COMMANDS, **{f"study {name}": command for name, command in STUDIES.items()}}
    name = " ".join(words[: 2 if words[0] == "study" else 1])
    if place + 1 == len(words) or name not in known:
        raise UserError("--config: write advmix COMMAND --config FILE")
    saved = configs.load(Path(words[place + 1]), name, known[name][0])
    return words[:place] + words[place + 2 :], {name: saved}


def _one_line(text: str) -> str:
    """The message in tyro's box as one line: without its frame and what stands below its rule."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    rows = [line.strip("│ ") for line in plain.splitlines() if line.strip() and line.strip()[0] not in "╭╰"]
    rule = next((place for place, row in enumerate(rows) if set(row) == {"─"}), len(rows))
    return re.sub(r"\s+", " ", " ".join(rows[:rule])).strip() + " (see advmix --help)"


if __name__ == "__main__":
    sys.exit(main())
