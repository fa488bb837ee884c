"""The command line: `advmix COMMAND --help`."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from advmix import config as configs
from advmix.errors import UserError
from advmix.stages.encode import EncodeConfig, run_encode
from advmix.stages.evaluate import EvaluateConfig, run_evaluate
from advmix.stages.fit import FitConfig, run_fit
from advmix.stages.train import TrainConfig, run_train
from advmix.studies.demo import DemoConfig, run_demo

COMMANDS: dict[str, tuple[type[Any], Callable[[Any], Any]]] = {
    "demo": (DemoConfig, run_demo),
    "fit": (FitConfig, run_fit),
    "encode": (EncodeConfig, run_encode),
    "train": (TrainConfig, run_train),
    "evaluate": (EvaluateConfig, run_evaluate),
}

INTERRUPTED = (
    "advmix: interrupted; what was done is kept: the same command goes on (with --resume, where it has that option)"
)
DESCRIPTION = (
    "Adversarial mixing of disentangled latents. COMMAND --config FILE runs a saved config.json again; "
    "further flags override it."
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Exit code 2 and one line for bad input, 130 for an interruption; a bug shows its traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        config = parse(words)
        for kind, run in COMMANDS.values():
            if isinstance(config, kind):
                run(config)
    except UserError as error:
        print(f"advmix: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    return 0


def parse(words: list[str]) -> Any:
    """The command line as one of the config dataclasses; `--config FILE` gives the defaults.

    Raises:
        UserError: whatever tyro refuses, in one line.
    """
    words, saved = _take_config(words)
    union = tuple(
        Annotated[kind, tyro.conf.subcommand(name, default=saved[name])]
        if name in saved
        else Annotated[kind, tyro.conf.subcommand(name)]
        for name, (kind, _) in COMMANDS.items()
    )
    choice: Any = Union[union]  # noqa: UP007
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                choice,
                prog="advmix",
                description=DESCRIPTION,
                args=words,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(errors.getvalue())) from None


def _take_config(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Remove `--config FILE` and read the file as a config of the command."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if "--config" not in words:
        return words, {}
    place = words.index("--config")
    if place + 1 == len(words) or words[0] not in COMMANDS:
        raise UserError("--config: write advmix COMMAND --config FILE")
    name = words[0]
    saved = configs.load(Path(words[place + 1]), name, COMMANDS[name][0])
    return words[:place] + words[place + 2 :], {name: saved}


def _one_line(text: str) -> str:
    """The message in tyro's box as one line: without its frame and what stands below its rule."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    rows = [line.strip("│ ") for line in plain.splitlines() if line.strip() and line.strip()[0] not in "╭╰"]
    rule = next((place for place, row in enumerate(rows) if set(row) == {"─"}), len(rows))
    return re.sub(r"\s+", " ", " ".join(rows[:rule])).strip() + " (see advmix --help)"


if __name__ == "__main__":
    sys.exit(main())
